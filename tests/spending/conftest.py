"""The books in each of their stores."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import services
from support.books import Clock, OpenBooks
from support.postgres import Postgres, serve_postgres

from agnes_mcp.spending.books import Books
from agnes_mcp.spending.stores.sqlite import FileBooks, ProcessBooks


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with serve_postgres(Path(services.find("postgres"))) as server:
        yield server


@pytest.fixture
def schema(postgres: Postgres) -> str:
    """A schema of this test alone."""
    import psycopg

    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return name


@pytest.fixture(params=["process", "file", pytest.param("postgresql", marks=pytest.mark.needs("postgres"))])
def open_books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenBooks]:
    """Opens books: each time the same ones where the store is shared."""
    opened: list[Books] = []
    url = request.getfixturevalue("postgres").url(request.getfixturevalue("schema")) if "sql" in request.param else ""

    def open_one() -> Books:
        from agnes_mcp.spending.stores import open_books

        opened.append(open_books(url or request.param, tmp_path / "books"))
        return opened[-1]

    yield open_one
    for books in opened:
        books.close()


@pytest.fixture
def books(open_books: OpenBooks) -> Books:
    return open_books()


@pytest.fixture(params=["process", "file"])
def clocked(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Books]:
    """Books whose day is the test's. PostgreSQL's is its own."""
    books = ProcessBooks(clock) if request.param == "process" else FileBooks(tmp_path / "books", clock)
    yield books
    books.close()
