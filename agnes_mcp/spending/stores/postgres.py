"""Books in PostgreSQL: one budget for all replicas of a server. Needs psycopg 3, the extra `postgres`.

A process shows that it lives by a heartbeat on the database's clock. One that was silent for `EXPIRES_AFTER_S` is taken
for gone: its slots are free, what it may have sent counts as billed. If it was only cut off, it settles what it then
knows, and gets no new reservation while it cannot reach the database.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from agnes_mcp.errors import AgnesError, ConfigError
from agnes_mcp.models import QuotaStore
from agnes_mcp.spending.stores import statements as sql
from agnes_mcp.spending.stores.ledger import Ledger
from agnes_mcp.spending.stores.statements import Answer, Session

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger(__name__)

BEAT_EVERY_S = 5.0
EXPIRES_AFTER_S = 30.0
#: What is not answered by then is not answered: calls wait for it.
ANSWER_WITHIN_S = 5
#: Of libpq; the URL may say otherwise. https://www.postgresql.org/docs/current/libpq-connect.html
CONNECTION = {
    "application_name": "agnes-mcp",
    "connect_timeout": ANSWER_WITHIN_S,
    "tcp_user_timeout": ANSWER_WITHIN_S * 1000,
    "keepalives_idle": 10,
}
_PARAMETER = re.compile(r":([a-z_]+[0-9]*)")
_OPENING = "agnes-mcp:open"


class PostgresBooks(Ledger):
    """`url` is `postgresql://…`; it may hold a password and is never shown. Raises `ConfigError` without psycopg."""

    store: ClassVar[QuotaStore] = "postgresql"

    def __init__(self, url: str, beat_every_s: float = BEAT_EVERY_S, expires_after_s: float = EXPIRES_AFTER_S) -> None:
        super().__init__()
        _require_driver()
        self._url = url
        self._beat_every_s = beat_every_s
        self._expires_after_s = expires_after_s
        self._turn = threading.RLock()
        self._connection: psycopg.Connection[Any] | None = None
        self._leaving = threading.Event()
        self._heart: threading.Thread | None = None

    def restore(self, billed_today: Callable[[], Mapping[str, int]]) -> None:
        """Nothing: these books are the only ones; an audit is of one machine."""

    def close(self) -> None:
        self._leaving.set()
        if self._heart is not None:
            self._heart.join()
        with self._turn, suppress(AgnesError):
            if self._connection is not None:
                self._write_the_unwritten()
                with self._session(scopes=()) as session:
                    self._take_over(session, self.owner)
                    session.execute(sql.DROP_OWNER, {"owner": self.owner})
        with self._turn:
            self._drop_connection()

    @contextmanager
    def _session(self, scopes: Collection[str] | None = None, durable: bool = False) -> Iterator[Session]:
        with self._turn, self._errors():
            statements = _Statements(self._begin(scopes is None))
            try:
                if scopes:
                    _lock(statements, scopes)
                yield statements
                statements.execute("COMMIT", {})
            except BaseException:
                self._roll_back()
                raise

    def _now(self, session: Session) -> datetime:
        now = session.execute("SELECT clock_timestamp()", {}).fetchall()[0][0]
        return now.astimezone(UTC)  # type: ignore[no-any-return] # PostgreSQL's timestamptz is a datetime

    def _adopt(self) -> bool:
        found = False
        with self._session(scopes=()) as session:
            before = self._now(session).timestamp() - self._expires_after_s
            for row in session.execute(sql.SILENT_OWNERS, {"before": before, "owner": self.owner}).fetchall():
                found = self._take_over(session, str(row[0])) or found
        return found

    def _take_part(self, session: Session) -> None:
        """In the transaction of the lease: whoever takes this process for gone waits, and then finds that it is not."""
        session.execute(sql.ADD_OWNER, {"owner": self.owner, "beat": self._now(session).timestamp()})
        if self._heart is None:
            self._heart = threading.Thread(target=self._beat, name="agnes-quota-heartbeat", daemon=True)
            self._heart.start()

    def _beat(self) -> None:
        while not self._leaving.wait(self._beat_every_s):
            try:
                with self._session(scopes=()) as session:
                    session.execute(sql.ADD_OWNER, {"owner": self.owner, "beat": self._now(session).timestamp()})
                self._write_the_unwritten()
            except AgnesError as error:
                logger.warning("the quota's database does not hear of this server: %s", error.message)

    def _begin(self, only_reads: bool) -> psycopg.Connection[Any]:
        """A connection in a new transaction. One that was cut while nobody used it is made anew."""
        import psycopg

        mode = "REPEATABLE READ, READ ONLY" if only_reads else "READ COMMITTED, READ WRITE"
        begin = f"BEGIN ISOLATION LEVEL {mode}".encode()
        if self._connection is not None:
            try:
                self._connection.execute(begin)
            except psycopg.OperationalError:
                self._drop_connection()
            else:
                return self._connection
        self._connection = self._connect()
        self._connection.execute(begin)
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        settings: dict[str, Any] = {**CONNECTION, **conninfo_to_dict(self._url)}
        # Nothing is prepared, so that a pooler may stand in between.
        connection = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
        try:
            for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(f"SET {limit} = '{ANSWER_WITHIN_S}s'".encode())
            _make_tables(_Statements(connection))
        except BaseException:
            connection.close()
            raise
        return connection

    def _roll_back(self) -> None:
        import psycopg

        if self._connection is None:
            return
        try:
            self._connection.execute(b"ROLLBACK")
        except psycopg.Error:
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise _unavailable(error) from error


class _Statements:
    """Our statements, with PostgreSQL's way to write parameters."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, params: sql.Params) -> Answer:
        return self._connection.execute(_PARAMETER.sub(r"%(\1)s", statement).encode(), params or None)


def _make_tables(session: Session) -> None:
    """Made by whoever comes first. Afterwards a role that may only read and write them is enough."""
    there = "SELECT to_regclass('agnes_unasked') IS NOT NULL"  # the newest of them
    if not session.execute(there, {}).fetchall()[0][0]:
        session.execute("BEGIN", {})
        _lock(session, [_OPENING])  # IF NOT EXISTS alone fails where two create at once
        for statement in sql.TABLES:
            session.execute(statement, {})
        session.execute(sql.ADD_META, {"name": "version", "value": str(sql.VERSION)})
        session.execute("COMMIT", {})
    version = session.execute(sql.READ_META, {"name": "version"}).fetchall()
    if int(version[0][0]) > sql.VERSION:
        raise sql.newer()


def _lock(session: Session, scopes: Collection[str]) -> None:
    """Until the end of the transaction nobody else reserves in these scopes. In one order, so that none waits in turn.

    What is read afterwards is of afterwards: each statement sees what was committed before it began.
    """
    keys = {f"k{number}": key for number, key in enumerate(sorted({_key(scope) for scope in scopes}))}
    session.execute("SELECT " + ", ".join(f"pg_advisory_xact_lock(:{name})" for name in keys), keys)


def _key(scope: str) -> int:
    """64 bits, as advisory locks are named. Two scopes with one key would only wait for each other."""
    digest = hashlib.blake2b(f"agnes-mcp {scope}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _require_driver() -> None:
    try:
        import psycopg  # noqa: F401 - that it is there
    except ImportError:
        raise ConfigError(
            "quota.store: PostgreSQL needs a driver that is not installed.",
            "Install it: pip install 'agnes-data-mcp[postgres]'.",
            "quota.store",
        ) from None


def _unavailable(error: psycopg.Error) -> AgnesError:
    """No word of the driver's message: it may name hosts, users and databases."""
    reason = type(error).__name__
    return AgnesError(
        "quota_unavailable",
        f"The quota's database cannot be asked ({reason}), so nothing can be spent.",
        "Call again in a moment. Whoever keeps this instance checks that the database of `quota.store` is up, "
        "reachable from here, and lets this server create and write its tables.",
        {"reason": reason},
    )
