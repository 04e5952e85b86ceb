"""What a person is asked before much is billed, and what a yes allows: exactly those statements at those prices."""

from __future__ import annotations

from dataclasses import dataclass

from agnes_mcp.engine import Admitted, Engine
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Consent, Priced, digest_of
from agnes_mcp.spending.prices import cost_usd, judge
from agnes_mcp.untrusted import clean

_SHOWN_SQL_CHARS = 300


@dataclass(frozen=True)
class Quote:
    """The price to be asked about. Its `question` holds nothing that changes while the price does not."""

    table_id: str
    statements: list[Priced]
    scan_bytes: int
    usd: float

    @property
    def question(self) -> str:
        digests = " ".join(digest_of(priced.statement) for priced in self.statements)
        sql = clean("; ".join(priced.statement.sql for priced in self.statements), _SHOWN_SQL_CHARS)
        return (
            f"Reading {self.table_id} will scan {self.scan_bytes:,} bytes ({self.scan_bytes / 2**30:,.2f} GiB), "
            f"about {self.usd:,.4f} USD. Run it? Statement {digests}: {sql}"
        )

    def consent(self) -> Consent:
        """What a yes allows."""
        return Consent({digest_of(priced.statement): priced.price.scan_bytes or 0 for priced in self.statements})


def quote(engine: Engine, admitted: Admitted, statements: list[Priced]) -> Quote | None:
    """What a person must be asked about these statements; None: nothing, because they are cheap or will be refused."""
    scan = engine.settings.api.scan
    left = engine.quota.left(admitted.principal.name, engine.limits(admitted.principal))
    verdicts = [judge(priced.price, scan, left) for priced in statements]
    if "needs_approval" not in verdicts or set(verdicts) - {"needs_approval", "ok"}:
        return None
    total = sum(priced.price.scan_bytes or 0 for priced in statements)
    usd = cost_usd(total, scan.bq_cost_per_tb_usd) or 0.0
    return Quote(statements[0].table.id, statements, total, usd)


def require_consent(engine: Engine, admitted: Admitted, priced: Priced) -> None:
    """Refuse what a person should have been asked about and was not. Without anybody to ask, the hard caps decide.

    Raises `approval_outdated`.
    """
    wanted = priced.price.scan_bytes or 0
    threshold = engine.settings.api.scan.confirm_above_bytes
    if wanted <= threshold or admitted.consent is None or admitted.consent.covers(priced):
        return
    engine.forget(priced.table.id)  # what made the price look lower
    raise AgnesError(
        "approval_outdated",
        f"This statement would now scan {wanted:,} bytes, which nobody has approved; it was not run.",
        "Call again: the person is asked about the price of now.",
        {"estimated_scan_bytes": wanted, "confirm_above_bytes": threshold},
    )
