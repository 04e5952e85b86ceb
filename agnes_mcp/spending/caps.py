"""What may not be spent at all, whoever says yes; and what to do where BigQuery wanted more than was set aside."""

from __future__ import annotations

from collections.abc import Callable

from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price, Priced


def refuse_over_cap(priced: Priced, scan: ScanSettings) -> None:
    """Raises `estimate_failed` where the price is not known and no cap is set for that, and `over_scan_cap`."""
    price, scan_bytes = priced.price, priced.price.agreed_bytes
    least = max(1, price.least_bytes or 0)
    if price.scan_bytes is None and least > scan_bytes:
        capped = f" with the {scan_bytes:,} bytes that may be billed unpriced here" if scan_bytes else ""
        raise AgnesError(
            "estimate_failed",
            f"What this statement would bill cannot be known, so it was not run{capped}.",
            "Calling again does not help: BigQuery cannot price it. Read a table that is priced; or whoever runs this "
            "server sets api.scan.unknown_price_cap_bytes.",
            {"least_scan_bytes": price.least_bytes, "unknown_price_cap_bytes": scan.unknown_price_cap_bytes},
        )
    if scan_bytes > scan.max_scan_bytes:
        raise AgnesError(
            "over_scan_cap",
            f"This statement would scan {scan_bytes:,} bytes; one statement may scan {scan.max_scan_bytes:,}.",
            "Select fewer columns, filter on the partition column, or aggregate; `estimate` is free.",
            {"estimated_scan_bytes": price.scan_bytes, "max_scan_bytes": scan.max_scan_bytes},
        )


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
