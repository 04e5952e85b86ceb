"""Takes credentials out of text before it becomes an error, a log line or an audit record."""

from __future__ import annotations

import re
from collections import deque

MASK = "[redacted]"

# Shapes of credentials: Google access tokens, bearer headers, JWTs, token fields of JSON, forms and SQL, private keys.
_SHAPES = re.compile(
    r"""
    ya29\.[\w.~+/=-]+
    | (?<=bearer[ ])[\w.~+/-]{12,}=*
    | \beyJ[\w-]+\.[\w-]+\.[\w-]*
    | (?<=_token)(?:["']?\s*[:=]\s*["']?|\s+')[^\s'",;&)}\]]+
    | (?<=_secret)(?:["']?\s*[:=]\s*["']?|\s+')[^\s'",;&)}\]]+
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


_held: deque[str] = deque(maxlen=16)


def remember(secret: str) -> None:
    """From now on `redact` removes this very text too, whatever its shape."""
    if secret and secret not in _held:
        _held.append(secret)


def redact(text: str) -> str:
    """`text` without any remembered secret and without anything that has the shape of a credential."""
    for secret in list(_held):
        text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)
