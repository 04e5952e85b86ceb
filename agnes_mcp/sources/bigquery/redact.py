"""Takes credentials out of text before it becomes an error, a log line or an audit record."""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without anything that has the shape of a credential."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return _SHAPES.sub(MASK, text)
