"""Books in PostgreSQL whose clock, connections, tables and server are not as one wishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from support.postgres import Postgres
from support.waiting import wait_until

from agnes_mcp.errors import AgnesError, QuotaError
from agnes_mcp.models import JobReference
from agnes_mcp.spending.books import Budget, Limits
from agnes_mcp.spending.stores import statements as sql
from agnes_mcp.spending.stores.postgres import PostgresBooks

pytestmark = pytest.mark.needs("postgres")
LIMITS = Limits(5, 1_000, (Budget("project", "my-project", 2_000),))
JOB = JobReference(project="my-project", job_id="job_1")
MIDNIGHT = datetime(2031, 3, 1, tzinfo=UTC)


class StoreClock:
    """The clock of the database, for whoever finds this schema before PostgreSQL's own."""

    def __init__(self, postgres: Postgres, schema: str) -> None:
        self._postgres, self._schema = postgres, schema
        self.url = postgres.url(options=f"-csearch_path={schema},pg_catalog")

    def set(self, moment: datetime) -> None:
        import psycopg

        with psycopg.connect(self._postgres.url(), autocommit=True) as admin:
            admin.execute(
                f"CREATE OR REPLACE FUNCTION {self._schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                f"AS $$ SELECT timestamptz '{moment.isoformat()}' $$".encode()
            )


@pytest.fixture
def clock(postgres: Postgres, schema: str) -> StoreClock:
    return StoreClock(postgres, schema)


@pytest.fixture
def opened() -> Iterator[Callable[..., PostgresBooks]]:
    """Opens books that are closed at the end."""
    books: list[PostgresBooks] = []

    def open_one(url: str, *silence_s: float) -> PostgresBooks:
        books.append(PostgresBooks(url, *silence_s))
        return books[-1]

    yield open_one
    for one in books:
        one.close()


def refusal(books: PostgresBooks, wanted: int, principal: str = "ana") -> dict[str, object]:
    with pytest.raises(QuotaError) as caught:
        books.reserve(principal, wanted, LIMITS)
    return caught.value.details


def test_the_day_ends_when_the_store_says_so(clock: StoreClock, opened: Callable[..., PostgresBooks]) -> None:
    """Whatever the clocks of the replicas say, years away from it: one day, one budget, of user and project alike."""
    clock.set(MIDNIGHT - timedelta(seconds=30))
    one, two = (opened(clock.url, 3600.0, 3600.0) for _ in range(2))  # a jump of the clock is no silence here
    over = one.reserve("ana", 300, LIMITS)
    over.intend(JOB)
    two.reserve("ana", 600, LIMITS).settle(600)
    expected = {"kind": "daily_bytes", "current": 900, "limit": 1_000, "retry_after_seconds": 30, "wanted": 101}
    assert refusal(two, 101) == expected
    assert one.left("ana", LIMITS).resets_at == MIDNIGHT
    clock.set(MIDNIGHT + timedelta(seconds=1))
    for books in (one, two):
        left = books.left("ana", LIMITS)
        assert (left.daily_bytes_used, left.running_scans, left.resets_at) == (0, 1, MIDNIGHT + timedelta(days=1))
        assert left.shared[0].bytes_left == 2_000
    two.reserve("ana", 1_000, LIMITS).settle(1_000)
    over.settle(250)  # of the day on which it began
    assert one.left("ana", LIMITS).daily_bytes_used == 1_000
    clock.set(MIDNIGHT - timedelta(seconds=10))
    assert two.left("ana", LIMITS).daily_bytes_used == 850


def test_clocks_of_replicas_that_disagree_give_nobody_a_second_budget_nor_a_lease(
    clock: StoreClock, opened: Callable[..., PostgresBooks], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose clock is three days ahead takes no neighbour that has just been heard of for gone."""
    clock.set(MIDNIGHT)
    right = opened(clock.url)
    held = right.reserve("ana", 900, LIMITS)
    held.intend(JOB)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Ahead:
            return cls(2031, 3, 4, tzinfo=UTC)

    ahead = opened(clock.url)
    with monkeypatch.context() as patched:
        for module in ("books", "stores.ledger", "stores.postgres"):
            patched.setattr(f"agnes_mcp.spending.{module}.datetime", Ahead)
        patched.setattr("time.time", lambda: datetime(2031, 3, 4, tzinfo=UTC).timestamp())
        assert refusal(ahead, 101)["current"] == 900
        left = ahead.left("ana", LIMITS)
        assert (left.running_scans, left.daily_bytes_reserved, left.daily_bytes_assumed) == (1, 900, 0)
    held.settle(100)
    assert ahead.left("ana", LIMITS).daily_bytes_used == 100


def test_a_silence_is_one_on_the_store_s_clock(clock: StoreClock, opened: Callable[..., PostgresBooks]) -> None:
    clock.set(MIDNIGHT)
    silent, other = opened(clock.url, 3600.0, 30.0), opened(clock.url, 3600.0, 30.0)
    silent.reserve("ana", 900, LIMITS).intend(JOB)
    clock.set(MIDNIGHT + timedelta(seconds=29))
    assert other.left("ana", LIMITS).daily_bytes_reserved == 900
    clock.set(MIDNIGHT + timedelta(seconds=31))
    left = other.left("ana", LIMITS)
    assert (left.daily_bytes_reserved, left.daily_bytes_assumed, left.running_scans) == (0, 900, 0)


@contextmanager
def connections(postgres: Postgres, role: str, most: int) -> Iterator[str]:
    """The address for a role that may have so many connections at once."""
    import psycopg

    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {most}".encode())
        admin.execute(f"GRANT ALL ON SCHEMA {role} TO {role}".encode())
    yield postgres.url(role, user=role)


def sessions(postgres: Postgres, role: str) -> int:
    """How many of a role's connections the database counts."""
    import psycopg

    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        counted = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [role]).fetchone()
    assert counted is not None
    return int(counted[0])


def test_a_server_has_one_connection_however_many_calls_there_are(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresBooks]
) -> None:
    import threading

    with connections(postgres, schema, 1) as url:
        books = opened(url, 0.01)  # the heart beats over it as well
        granted: list[bool] = []

        def spend() -> None:
            for _ in range(5):
                try:
                    books.reserve("ana", 10, Limits(50, 200)).settle(10)
                    granted.append(True)
                except QuotaError:
                    granted.append(False)

        threads = [threading.Thread(target=spend) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (granted.count(True), len(granted)) == (20, 60)
        assert books.left("ana", Limits(50, 200)).daily_bytes_used == 200


def test_a_database_without_a_free_connection_allows_nothing_until_there_is_one(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresBooks]
) -> None:
    with connections(postgres, schema, 1) as url:
        first, second = PostgresBooks(url), opened(url)
        first.reserve("ana", 10, LIMITS).settle(10)
        with pytest.raises(AgnesError) as caught:
            second.reserve("ana", 10, LIMITS)
        assert (caught.value.kind, caught.value.exit_code) == ("quota_unavailable", 9)
        assert schema not in f"{caught.value} {caught.value.hint} {caught.value.details}"
        first.close()
        wait_until(lambda: sessions(postgres, schema) == 0)  # the database ends its side after the client has left
        second.reserve("ana", 10, LIMITS).settle(10)
        assert second.left("ana", LIMITS).daily_bytes_used == 20


def test_tables_of_before_are_taken_over_with_what_is_in_them(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresBooks]
) -> None:
    """Of a version that did not yet count what nobody was asked about."""
    import psycopg

    today = datetime.now(UTC).date().isoformat()
    with psycopg.connect(postgres.url(schema), autocommit=True) as admin:
        for statement in sql.TABLES:
            if "agnes_unasked" not in statement:
                admin.execute(statement.encode())
        admin.execute(b"INSERT INTO agnes_meta VALUES ('version', '1')")
        admin.execute(f"INSERT INTO agnes_spent VALUES ('user:ana', '{today}', 700)".encode())
    books = opened(postgres.url(schema))
    assert refusal(books, 301)["current"] == 700
    asking = Limits(5, 1_000, unasked_window_s=60)
    books.reserve("ana", 300, asking).settle(120)
    assert books.unasked("ana", asking) == 120


def test_tables_of_a_later_version_are_left_alone(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresBooks]
) -> None:
    import psycopg

    opened(postgres.url(schema)).left("ana", LIMITS)
    with psycopg.connect(postgres.url(schema), autocommit=True) as admin:
        admin.execute(f"UPDATE agnes_meta SET value = '{sql.VERSION + 1}'".encode())
    books = opened(postgres.url(schema))
    for action in (lambda: books.reserve("ana", 1, LIMITS), lambda: books.left("ana", LIMITS)):
        with pytest.raises(AgnesError, match="later version") as caught:
            action()
        assert caught.value.kind == "quota_unavailable"


def test_a_server_that_may_not_complete_older_tables_says_so(
    postgres: Postgres, schema: str, opened: Callable[..., PostgresBooks]
) -> None:
    import psycopg

    with psycopg.connect(postgres.url(schema), autocommit=True) as admin:
        admin.execute(sql.TABLES[0].encode())
        admin.execute(f"CREATE ROLE {schema} LOGIN".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}".encode())
    books = opened(postgres.url(schema, user=schema))
    with pytest.raises(AgnesError) as caught:
        books.left("ana", LIMITS)
    assert caught.value.details == {"reason": "InsufficientPrivilege"}
    assert "create and write its tables" in caught.value.hint
