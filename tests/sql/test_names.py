"""Whatever is in a name or a text, DuckDB reads back exactly that."""

from __future__ import annotations

import duckdb
import pytest

from agnes_mcp.sql import names

AWKWARD = [
    "plain",
    'a"b',
    '""',
    "a'b",
    "select",
    "x y",
    "č\u202eř",
    "a; -- b",
    "new\nline",
    "back\\slash",
    "{}",
    "$1",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_names_and_texts_come_back_as_they_were(text: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE {names.identifier('main', text)} ({names.identifier(text)} VARCHAR)")
        connection.execute(f"INSERT INTO {names.identifier(text)} VALUES ({names.literal(text)})")
        found = connection.execute(f"SELECT * FROM {names.identifier(text)}")
        assert [column[0] for column in found.description or []] == [text]
        assert found.fetchall() == [(text,)]


@pytest.mark.parametrize(
    "value", [None, True, False, 0, -7, 2.5, "it's", ["a", "b'c"], [], {"k'ey": "va'lue", "b": "c"}], ids=str
)
def test_values_come_back_as_they_were(value: names.Literal) -> None:
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {names.literal(value)}").fetchall()[0][0]
    assert (float(found) if isinstance(value, float) else found) == value


def test_a_nul_does_not_end_a_text() -> None:
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {names.literal('a' + chr(0) + 'b')}").fetchall() == [("ab",)]
