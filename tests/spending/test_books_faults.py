"""A store that cannot be asked allows nothing, says what to do, and loses nothing that was spent before."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.postgres import Postgres

from agnes_mcp.errors import AgnesError, ConfigError, QuotaError
from agnes_mcp.models import JobReference
from agnes_mcp.spending.books import Limits
from agnes_mcp.spending.stores import open_books
from agnes_mcp.spending.stores.postgres import PostgresBooks
from agnes_mcp.spending.stores.sqlite import FILE, FileBooks

LIMITS = Limits(5, 1_000)
JOB = JobReference(project="my-project", job_id="job_1")


def fault(action: Callable[[], object]) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        action()
    assert not isinstance(caught.value, QuotaError)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "books"


@pytest.fixture
def books(folder: Path) -> Iterator[FileBooks]:
    opened = FileBooks(folder)
    yield opened
    opened.close()


@contextmanager
def impatient(books: FileBooks) -> Iterator[None]:
    """Busy at once: the wait itself is SQLite's."""
    assert books._connection
    books._connection.execute("PRAGMA busy_timeout = 0")
    yield
    if books._connection:
        books._connection.execute("PRAGMA busy_timeout = 5000")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    other = sqlite3.connect(folder / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.execute("ROLLBACK")
    other.close()


def test_nobody_else_may_read_the_books(books: FileBooks, folder: Path) -> None:
    before = os.umask(0)
    try:
        books.reserve("ana", 1, LIMITS).release()
    finally:
        os.umask(before)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {FILE, f"{FILE}-wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_books_that_others_hold_allow_nothing_and_lose_nothing(books: FileBooks, folder: Path) -> None:
    running = books.reserve("ana", 400, LIMITS)
    running.intend(JOB)
    with impatient(books):
        with locked(folder):
            for action in (lambda: books.reserve("ana", 1, LIMITS), running.intend):
                error = fault(action)
                assert (error.kind, error.exit_code) == ("quota_unavailable", 9)
            running.settle(150)  # not written, and not lost
            assert running.settled
            assert fault(lambda: books.reserve("ana", 0, LIMITS)).kind == "quota_unavailable"
        left = books.left("ana", LIMITS)
    assert (left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used) == (0, 0, 150)


def test_a_settlement_that_could_not_be_written_before_the_end_is_asked_about(books: FileBooks, folder: Path) -> None:
    running = books.reserve("ana", 400, LIMITS)
    running.intend(JOB)
    with impatient(books), locked(folder):
        running.settle(150)
        books.close()
    again = FileBooks(folder)
    assert again.left("ana", LIMITS).daily_bytes_used == 400
    assert [one.job for one in again.unsettled()] == [JOB]
    again.close()


def test_damaged_books_allow_nothing(books: FileBooks, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(b"what is this" * 1000)
    error = fault(lambda: books.reserve("ana", 1, LIMITS))
    assert error.kind == "quota_unavailable"
    assert "audit" in error.hint
    assert str(folder) not in f"{error} {error.hint} {error.details}"


def test_books_of_a_later_version_are_left_alone(books: FileBooks, folder: Path) -> None:
    books.left("ana", LIMITS)
    with sqlite3.connect(folder / FILE) as other:
        other.execute("UPDATE agnes_meta SET value = '99' WHERE name = 'version'")
    other.close()
    later = FileBooks(folder)
    assert "later version" in fault(lambda: later.reserve("ana", 1, LIMITS)).message
    later.close()


def test_books_that_vanish_under_a_server_allow_nothing(books: FileBooks, folder: Path) -> None:
    """Rather than counting on in a file that nobody else sees."""
    books.reserve("ana", 900, LIMITS).settle(900)
    (folder / FILE).unlink()
    error = fault(lambda: books.reserve("ana", 900, LIMITS))
    assert (error.kind, "Restart" in error.hint) == ("quota_unavailable", True)


def test_a_folder_that_cannot_be_made_is_the_disk_s_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    books = FileBooks(tmp_path / "file" / "books")
    error = fault(lambda: books.reserve("ana", 0, LIMITS))
    assert (error.kind, error.exit_code) == ("storage_failed", 4)
    assert str(tmp_path) not in f"{error} {error.hint} {error.details}"
    books.close()


FULL = """
import resource, signal, sys
from pathlib import Path
from agnes_mcp.errors import AgnesError
from agnes_mcp.spending.books import Limits
from agnes_mcp.spending.stores.sqlite import FileBooks
books = FileBooks(Path(sys.argv[1]))
books.left("ana", Limits(5, 10**12))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
granted = 0
try:
    while True:
        books.reserve(f"ana {granted}", 1, Limits(5, 10**12))
        granted += 1
except AgnesError as error:
    print(granted, error.kind, error.exit_code)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are of POSIX")
def test_a_disk_that_takes_no_more_ends_spending_not_the_process(folder: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, timeout=60)
    granted, kind, code = ended.stdout.split()
    assert (kind in ("disk_full", "storage_failed"), code) == (True, "4"), ended.stderr
    again = FileBooks(folder)
    assert int(granted) > 10
    assert again.left("ana 3", LIMITS).running_scans == 0  # given up with the process
    again.close()


def test_closed_books_open_no_more(books: FileBooks) -> None:
    books.close()
    assert fault(lambda: books.left("ana", LIMITS)).kind == "quota_unavailable"


def test_what_a_process_holds_is_given_up_when_it_closes(folder: Path) -> None:
    first, second = FileBooks(folder), FileBooks(folder)
    first.reserve("ana", 100, LIMITS)
    first.reserve("ana", 200, LIMITS).intend(JOB)
    assert second.left("ana", LIMITS).running_scans == 2
    first.close()
    left = second.left("ana", LIMITS)
    assert (left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used) == (0, 0, 200)
    second.close()
    assert list((folder / "processes").iterdir()) == []


@pytest.mark.needs("postgres")
def test_a_database_that_is_gone_allows_nothing_and_loses_nothing(postgres: Postgres, schema: str) -> None:
    books = PostgresBooks(postgres.url(schema), beat_every_s=0.05)
    running = books.reserve("ana", 400, LIMITS)
    running.intend(JOB)
    postgres.stop()
    try:
        for action in (lambda: books.reserve("ana", 0, LIMITS), lambda: books.left("ana", LIMITS), running.intend):
            error = fault(action)
            assert (error.kind, error.exit_code) == ("quota_unavailable", 9)
            assert str(postgres.folder) not in f"{error} {error.hint} {error.details}"
        running.settle(150)
    finally:
        postgres.start()
    left = books.left("ana", LIMITS)
    assert (left.running_scans, left.daily_bytes_reserved, left.daily_bytes_used) == (0, 0, 150)
    books.close()


@pytest.mark.needs("postgres")
def test_a_connection_that_was_cut_while_idle_is_made_anew(postgres: Postgres, schema: str) -> None:
    import psycopg

    books = PostgresBooks(postgres.url(schema))
    books.reserve("ana", 400, LIMITS).settle(400)
    with psycopg.connect(postgres.url(), autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'agnes-mcp'"
        ).fetchall()
    assert books.left("ana", LIMITS).daily_bytes_used == 400
    books.close()


@pytest.mark.needs("postgres")
def test_the_day_is_utc_by_the_database_s_clock(postgres: Postgres, schema: str) -> None:
    far = PostgresBooks(postgres.url(schema, options=f"-csearch_path={schema} -cTimeZone=Pacific/Kiritimati"))
    near = PostgresBooks(postgres.url(schema))
    far.reserve("ana", 400, LIMITS).settle(400)
    assert near.left("ana", LIMITS).daily_bytes_used == 400
    assert far.left("ana", LIMITS).resets_at == near.left("ana", LIMITS).resets_at
    far.close()
    near.close()


@pytest.mark.needs("postgres")
def test_replicas_that_start_at_once_make_the_tables_once(postgres: Postgres, schema: str) -> None:
    replicas = [PostgresBooks(postgres.url(schema)) for _ in range(8)]
    failures: list[AgnesError] = []

    def start(books: PostgresBooks) -> None:
        try:
            books.left("ana", LIMITS)
        except AgnesError as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(books,)) for books in replicas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for books in replicas:
        books.close()


@pytest.mark.needs("postgres")
def test_a_role_that_may_only_write_the_tables_is_enough(postgres: Postgres, schema: str) -> None:
    import psycopg

    owner = PostgresBooks(postgres.url(schema))
    owner.reserve("ana", 1, LIMITS).settle(1)
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {schema} LOGIN".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}".encode())
        admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}".encode())
    server = PostgresBooks(postgres.url(schema, user=schema))
    server.reserve("ana", 400, LIMITS).settle(400)
    assert owner.left("ana", LIMITS).daily_bytes_used == 401
    owner.close()
    server.close()


@pytest.mark.needs("postgres")
def test_a_database_without_our_tables_in_reach_says_so(postgres: Postgres, schema: str) -> None:
    books = PostgresBooks(postgres.url("no_such_schema"))
    assert fault(lambda: books.left("ana", LIMITS)).details == {"reason": "InvalidSchemaName"}
    books.close()


def test_a_database_that_nobody_listens_for(tmp_path: Path) -> None:
    books = PostgresBooks(f"postgresql://agnes:secret-word@/postgres?host={tmp_path}")
    error = fault(lambda: books.reserve("ana", 0, LIMITS))
    assert (error.kind, error.exit_code) == ("quota_unavailable", 9)
    assert "secret-word" not in f"{error} {error.hint} {error.details}"
    books.close()


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError) as caught:
        open_books("postgresql://localhost/agnes", tmp_path)
    assert caught.value.details == {"key": "quota.store"}
    assert "agnes-data-mcp[postgres]" in caught.value.hint
