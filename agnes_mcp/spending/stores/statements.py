"""The tables of the books, and every statement over them, in SQL that SQLite and PostgreSQL read alike.

`:name` is a parameter; no text of anybody's is ever part of a statement. Times are seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from agnes_mcp.errors import AgnesError

Params = Mapping[str, Any]
#: Written into a new store; one with a higher number is of a later program and is not touched.
VERSION = 1

TABLES = (
    "CREATE TABLE IF NOT EXISTS agnes_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # what was billed, by scope (`user:…`, `group:…`, `project:…`) and UTC date
    "CREATE TABLE IF NOT EXISTS agnes_spent ("
    "scope TEXT NOT NULL, day TEXT NOT NULL, bytes BIGINT NOT NULL, PRIMARY KEY (scope, day))",
    # held: nothing sent yet; intended: about to be billed or being billed; assumed: billed, the figure is not known
    "CREATE TABLE IF NOT EXISTS agnes_leases ("
    "id TEXT PRIMARY KEY, owner TEXT NOT NULL, principal TEXT NOT NULL, request_id TEXT NOT NULL, day TEXT NOT NULL, "
    "bytes BIGINT NOT NULL, state TEXT NOT NULL CHECK (state IN ('held', 'intended', 'assumed')), "
    "project TEXT, location TEXT, job_id TEXT, since DOUBLE PRECISION NOT NULL)",
    "CREATE TABLE IF NOT EXISTS agnes_charges (lease TEXT NOT NULL, scope TEXT NOT NULL, PRIMARY KEY (lease, scope))",
    "CREATE TABLE IF NOT EXISTS agnes_owners (owner TEXT PRIMARY KEY, beat DOUBLE PRECISION NOT NULL)",
    # what was reserved, and then billed, without a person's word
    "CREATE TABLE IF NOT EXISTS agnes_unasked ("
    "lease TEXT PRIMARY KEY, principal TEXT NOT NULL, bytes BIGINT NOT NULL, since DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX IF NOT EXISTS agnes_unasked_of ON agnes_unasked (principal, since)",
)

READ_META = "SELECT value FROM agnes_meta WHERE name = :name"
ADD_META = "INSERT INTO agnes_meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"

RUNNING = "SELECT COUNT(*) FROM agnes_leases WHERE principal = :principal AND state <> 'assumed'"
OTHER_OWNERS = "SELECT DISTINCT owner FROM agnes_leases WHERE state <> 'assumed' AND owner <> :owner"
ADD_LEASE = (
    "INSERT INTO agnes_leases (id, owner, principal, request_id, day, bytes, state, since) "
    "VALUES (:lease, :owner, :principal, :request_id, :day, :bytes, 'held', :since)"
)
ADD_CHARGE = "INSERT INTO agnes_charges (lease, scope) VALUES (:lease, :scope)"
INTEND = (
    "UPDATE agnes_leases SET state = 'intended', project = :project, location = :location, job_id = :job_id, "
    "since = :since WHERE id = :lease AND state IN ('held', 'intended')"
)
ASSUME = "UPDATE agnes_leases SET state = 'assumed' WHERE id = :lease"
READ_LEASE = "SELECT day, bytes FROM agnes_leases WHERE id = :lease"
READ_CHARGES = "SELECT scope FROM agnes_charges WHERE lease = :lease ORDER BY scope"
DROP_LEASE = "DELETE FROM agnes_leases WHERE id = :lease"
DROP_CHARGES = "DELETE FROM agnes_charges WHERE lease = :lease"
SPEND = (
    "INSERT INTO agnes_spent (scope, day, bytes) VALUES (:scope, :day, :bytes) "
    "ON CONFLICT (scope, day) DO UPDATE SET bytes = agnes_spent.bytes + excluded.bytes"
)
UNSETTLED = (
    "SELECT id, principal, request_id, bytes, since, project, location, job_id "
    "FROM agnes_leases WHERE state = 'assumed' ORDER BY since, id"
)
ADOPT_CHARGES = (
    "DELETE FROM agnes_charges WHERE lease IN (SELECT id FROM agnes_leases WHERE owner = :owner AND state = 'held')"
)
UNASKED = "SELECT COALESCE(SUM(bytes), 0) FROM agnes_unasked WHERE principal = :principal AND since > :after"
ADD_UNASKED = "INSERT INTO agnes_unasked (lease, principal, bytes, since) VALUES (:lease, :principal, :bytes, :since)"
BILL_UNASKED = "UPDATE agnes_unasked SET bytes = :bytes WHERE lease = :lease"
CLEAR_UNASKED = "DELETE FROM agnes_unasked WHERE principal = :principal"
FORGET_UNASKED = "DELETE FROM agnes_unasked WHERE principal = :principal AND since < :before"
ADOPT_UNASKED = (
    "DELETE FROM agnes_unasked WHERE lease IN (SELECT id FROM agnes_leases WHERE owner = :owner AND state = 'held')"
)
ADOPT_HELD = "DELETE FROM agnes_leases WHERE owner = :owner AND state = 'held'"
ADOPT_INTENDED = "UPDATE agnes_leases SET state = 'assumed' WHERE owner = :owner AND state = 'intended'"
ADD_OWNER = (
    "INSERT INTO agnes_owners (owner, beat) VALUES (:owner, :beat) ON CONFLICT (owner) DO UPDATE SET beat = :beat"
)
DROP_OWNER = "DELETE FROM agnes_owners WHERE owner = :owner"
SILENT_OWNERS = "DELETE FROM agnes_owners WHERE beat < :before AND owner <> :owner RETURNING owner"
FORGET = (
    "DELETE FROM agnes_charges WHERE lease IN (SELECT id FROM agnes_leases WHERE day < :day AND state = 'assumed')",
    "DELETE FROM agnes_leases WHERE day < :day AND state = 'assumed'",
    "DELETE FROM agnes_spent WHERE day < :day",
)


class Row(Protocol):
    def __getitem__(self, index: int, /) -> Any: ...


class Answer(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int: ...

    def fetchall(self) -> Sequence[Row]: ...


class Session(Protocol):
    """One transaction on one connection."""

    def execute(self, statement: str, params: Params, /) -> Answer: ...


#: Per scope: bytes billed, of these assumed, and reserved. One statement, so that it sees one moment. `{scopes}` stands
#: for the names of as many parameters as there are scopes.
SPENT = (
    "SELECT scope, SUM(settled), SUM(assumed), SUM(reserved) FROM ("
    "SELECT scope, bytes AS settled, 0 AS assumed, 0 AS reserved FROM agnes_spent "
    "WHERE day = :day AND scope IN ({scopes}) UNION ALL "
    "SELECT charge.scope, 0, CASE WHEN lease.state = 'assumed' THEN lease.bytes ELSE 0 END, "
    "CASE WHEN lease.state = 'assumed' THEN 0 ELSE lease.bytes END "
    "FROM agnes_charges AS charge JOIN agnes_leases AS lease ON lease.id = charge.lease "
    "WHERE lease.day = :day AND charge.scope IN ({scopes})) AS entries GROUP BY scope"
)


def newer() -> AgnesError:
    return AgnesError(
        "quota_unavailable",
        "The quota's books were written by a later version of this program.",
        "Run that version here too, or give this one books of its own.",
    )
