"""One row of the table for each complaint, however it arrives."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from agnes_mcp.errors import KINDS, AgnesError
from agnes_mcp.sql.duckdb_errors import Complaint, complaint_of, name_of, of_agents_sql, of_our_statement

CANARY = "secret-person@corp.example"


def exceptions_of_duckdb() -> list[type[duckdb.Error]]:
    found = {kind for kind in vars(duckdb).values() if isinstance(kind, type) and issubclass(kind, duckdb.Error)}
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", exceptions_of_duckdb(), ids=lambda kind: kind.__name__)
def test_both_readings_know_every_exception(kind: type[duckdb.Error]) -> None:
    raised = kind("Some Error: cannot read '/srv/secret/t.parquet'")
    for error in (of_our_statement(raised), of_agents_sql(raised, "SELECT 1", ["/srv/secret/t.parquet"])):
        assert error.kind in set(KINDS) - {"internal_error"}
        assert error.hint
        assert "/srv" not in error.message


def test_an_interrupt_is_one_thing() -> None:
    raised = duckdb.InterruptException("INTERRUPT Error: Interrupted!")
    assert of_our_statement(raised).kind == of_agents_sql(raised, "", []).kind == "cancelled"


STREAMED = {
    "SELECT CASE WHEN i = 299999 THEN CAST('x' || i AS INT) ELSE 1 END FROM range(300000) AS r(i)": Complaint.VALUES,
    "SELECT i, CASE WHEN i = 299999 THEN error('boom') END FROM range(300000) AS r(i)": Complaint.ARGUMENTS,
}


@pytest.mark.parametrize("sql", STREAMED)
def test_a_complaint_in_the_middle_of_a_stream_is_the_same_complaint(sql: str) -> None:
    with duckdb.connect(config={"threads": 1}) as connection:  # of several, another one's interrupt may come first
        with pytest.raises((OSError, pa.ArrowException)) as streamed:
            connection.sql(sql).to_arrow_reader(1_000).read_all()
        assert complaint_of(streamed.value) == STREAMED[sql]
        with pytest.raises(duckdb.Error) as whole:
            connection.execute(sql).fetchall()
        assert name_of(streamed.value) == name_of(whole.value)


def failure_of(sql: str, *, streamed: bool) -> BaseException:
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("CREATE TABLE t AS SELECT i, ? || i AS s FROM range(5000) r(i)", [CANARY])
        try:
            if streamed:
                connection.sql(sql).to_arrow_reader(100).read_all()
            connection.execute(sql).fetchall()
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            return error
    raise AssertionError(sql)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "expression",
    ["s::INT", "s::DATE", "s::TIMESTAMP", "strptime(s, '%Y')", "s::UUID", "s::INT[]", "timezone(s, now())", "s::JSON"],
)
def test_values_of_rows_stay_out_of_both_readings(expression: str, streamed: bool) -> None:
    sql = f"SELECT i, CASE WHEN i < 3000 THEN NULL ELSE {expression} END FROM t"
    raised = failure_of(sql, streamed=streamed)
    for error in (of_our_statement(raised, sql), of_our_statement(raised), of_agents_sql(raised, sql, [])):
        assert "secret-person" not in f"{vars(error)}"


def test_a_long_value_is_not_looked_through() -> None:
    sql = "SELECT repeat('secret-person@x.y, ''b'' ', 5000)::DATE"
    raised = failure_of(sql, streamed=False)
    assert len(str(raised)) > 100_000
    for error in (
        of_our_statement(raised, "SELECT day"),
        of_our_statement(raised),
        of_agents_sql(raised, "SELECT", []),
    ):
        assert len(f"{vars(error)}") < 1000
        assert "secret-person" not in f"{vars(error)}"
        assert error.kind == "query_failed"


def test_the_agents_own_value_is_repeated_to_it() -> None:
    with duckdb.connect() as connection, pytest.raises(duckdb.Error) as raised:
        connection.execute("SELECT 'forty two'::INT")
    assert "'forty two'" in of_our_statement(raised.value, "SELECT 'forty two'::INT").message
    assert "forty" not in of_our_statement(raised.value).message


def test_what_is_ours_already_stays_as_it_is() -> None:
    error = AgnesError("timeout", "m", "h")
    assert of_agents_sql(error, "", []) is error
