"""What to do next where BigQuery wanted more than was set aside."""

from __future__ import annotations

from collections.abc import Callable

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Priced


def explain_cap(error: AgnesError, priced: Priced, price_again: Callable[[], Price]) -> AgnesError:
    """The same error, with a next step that is true: a new estimate helps only where it is another one by now."""
    if priced.price.scan_bytes is None:
        return _no_use(
            error,
            "BigQuery cannot price this statement, and it would bill more than api.scan.unknown_price_cap_bytes. "
            "Select fewer columns or another table; or whoever runs this server raises that cap.",
        )
    try:
        again = price_again().agreed_bytes
    except AgnesError:  # its own hint says to ask for a price again, which is then the next thing to try
        return error
    if again > priced.price.agreed_bytes:
        return error
    return _no_use(
        error,
        f"`estimate` still says {again:,} bytes, and BigQuery would bill more: its estimate does not hold for "
        "this statement, so the same call ends the same way. Select fewer columns, narrow with WHERE, or read "
        "another table.",
    )


def _no_use(error: AgnesError, hint: str) -> AgnesError:
    nothing = "" if error.details.get("bytes_billed") else "Nothing was billed. "
    return AgnesError(error.kind, error.message, nothing + hint, dict(error.details))
