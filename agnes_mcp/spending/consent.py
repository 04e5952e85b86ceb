"""What a person is asked before much is billed, and what a yes allows: exactly those statements at those prices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import time_ns

from agnes_mcp.catalog.cache import TtlCache
from agnes_mcp.config.settings import ScanSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Priced, QuotaLeft, digest_of
from agnes_mcp.spending.prices import asks, cost_usd, estimate_usd, judge_capped, rate_usd
from agnes_mcp.untrusted import clean

_SHOWN_SQL_CHARS = 300
#: How long a person may think before the price is asked for again.
KEPT_FOR_S = 600.0
_MAX_KEPT = 1_000


@dataclass(frozen=True)
class Quote:
    """The price to be asked about. Its `question` holds nothing that changes while the price does not."""

    table_id: str
    statements: list[Priced]
    scan_bytes: int
    usd: float
    unasked_bytes: int = 0  # spent before without a word, in the window
    made_at_ns: int = field(default_factory=time_ns, compare=False)  # and with it the question: since the epoch

    @property
    def question(self) -> str:
        digests = " ".join(digest_of(priced.statement) for priced in self.statements)
        sql = clean("; ".join(priced.statement.sql for priced in self.statements), _SHOWN_SQL_CHARS)
        unknown = any(priced.price.scan_bytes is None for priced in self.statements)
        will = "has no known price and may scan up to" if unknown else "will scan"
        return (
            f"Reading {self.table_id} {will} {self.scan_bytes:,} bytes ({self.scan_bytes / 2**30:,.2f} GiB), "
            f"about {self.usd:,.4f} USD.{self._sum} Run it? Statement {digests}: {sql}"
        )

    @property
    def _sum(self) -> str:
        if not self.unasked_bytes:
            return ""
        bills = self.unasked_bytes + sum(priced.price.reserved_bytes or 0 for priced in self.statements)
        return f" {self.unasked_bytes:,} bytes were spent lately without asking: with this {bills:,} bytes in sum."

    def consent(self) -> Consent:
        """What a yes allows."""
        return Consent({digest_of(priced.statement): priced.price.agreed_bytes for priced in self.statements})


def quote_of(statements: list[Priced], scan: ScanSettings, left: QuotaLeft, unasked_bytes: int = 0) -> Quote | None:
    """What a person must be asked about these statements; None: nothing, because they are cheap or will be refused."""
    verdicts = {judge_capped(priced.price, scan, left, unasked_bytes) for priced in statements}
    prices = [priced.price for priced in statements]
    if not statements or verdicts - {"needs_approval", "ok"} or not asks(prices, scan, unasked_bytes):
        return None
    total = sum(price.agreed_bytes for price in prices)
    usd = sum(_most_usd(priced, scan) for priced in statements)
    return Quote(statements[0].tables_shown, statements, total, usd, unasked_bytes)


def _most_usd(priced: Priced, scan: ScanSettings) -> float:
    known = estimate_usd(priced.price, priced.statement, scan)
    return known if known is not None else cost_usd(priced.price.agreed_bytes, rate_usd(priced.price, scan)) or 0.0


def require_consent(consent: Consent, priced: Priced, scan: ScanSettings, unasked_bytes: int = 0) -> None:
    """Refuse what a person should have been asked about and was not. Raises `approval_outdated`."""
    if consent.covers(priced) or not asks([priced.price], scan, unasked_bytes):
        return
    scan_bytes = priced.price.agreed_bytes
    raise AgnesError(
        "approval_outdated",
        f"This statement would now scan {scan_bytes:,} bytes, which nobody has approved; it was not run.",
        "Call again: the person is asked about the price of now.",
        {
            "estimated_scan_bytes": priced.price.scan_bytes,
            "confirm_above_bytes": scan.confirm_above_bytes,
            "unasked_bytes": unasked_bytes,
        },
    )


class Questions:
    """The prices that persons have been asked about lately.

    Some protocol versions ask over several requests. The price of the first is then kept for the others, so that the
    question stays the same while a table grows; the call itself is priced anew, and must not cost more.
    """

    def __init__(self) -> None:
        self._asked: TtlCache[Quote] = TtlCache(_MAX_KEPT, KEPT_FOR_S)

    async def ask(self, key: str, make: Callable[[], Awaitable[Quote | None]], *, again: bool) -> Quote | None:
        """What `make` quotes for that call; with `again`, a further round of the same call, what was quoted before."""
        kept = self._asked.get(key) if again else None
        if kept is not None:
            return kept
        quoted = await make()
        if quoted is not None:
            self._asked.put(key, quoted)
        return quoted
