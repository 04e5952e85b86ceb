"""From a request to one SELECT: every name looked up and quoted, nothing of the caller's text in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp
from support.instances import ME, settings_of, table, write

from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, Column, Dialect, Relation, ScanRequest, Statement, TableSchema
from agnes_mcp.sql.names import selection
from agnes_mcp.sql.statement import build_statement, identifier_path, select_from

NASTY = [
    "dash-ed", "with space", "ünïcode", "日本", "🎉", "select", "order", "GROUP", "timestamp", "a.b", "1st", "x" * 300,
    'double " quote', "back ` tick", "single ' quote", "semi; colon", "-- dash", "/* c */", "new\nline", "tab\there",
    "back\\slash", "a DESC", " padded ", "$1", "?", "@p", "*", "()", "%",
]  # fmt: skip
# What BigQuery allows in a column name (flexible names), of the above.
NASTY_BIGQUERY = [
    "dash-ed",
    "with space",
    "ünïcode",
    "日本",
    "select",
    "order",
    "GROUP",
    "timestamp",
    "1st",
    "x" * 300,
    "%",
]

SCHEMA = TableSchema(
    table_id="orders",
    columns=[
        Column(name="id", type="INT64"),
        Column(name="Country", type="STRING"),
        Column(name="amount", type="NUMERIC"),
        Column(name="day", type="DATE"),
        Column(
            name="device", type="STRUCT", fields=[Column(name="os", type="STRING"), Column(name="size", type="INT64")]
        ),
        Column(name="tags", type="STRING", mode="REPEATED"),
        Column(name="items", type="STRUCT", mode="REPEATED", fields=[Column(name="sku", type="STRING")]),
    ],
    pseudo_columns=[Column(name="_PARTITIONTIME", type="TIMESTAMP")],
)


def build(dialect: Dialect = "bigquery", max_limit: int = 100, **request: Any) -> Statement:
    where = Relation("my-project", "my_dataset", "orders") if dialect == "bigquery" else Relation("", "", "orders")
    return build_statement(ScanRequest(table_id="orders", **request), SCHEMA, where, dialect, max_limit)


def refusal(**request: Any) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        build(**request)
    return caught.value


COUNT = Aggregate(function="count")
RENDERED: list[tuple[dict[str, Any], str]] = [
    ({"select": ["id"]}, "SELECT `id` AS `id` FROM `my-project`.`my_dataset`.`orders`"),
    ({"select": ["COUNTRY", "day"], "limit": 5},
     "SELECT `Country` AS `Country`, `day` AS `day` FROM `my-project`.`my_dataset`.`orders` LIMIT 5"),
    ({"select": ["device.os"]}, "SELECT `device`.`os` AS `device_os` FROM `my-project`.`my_dataset`.`orders`"),
    ({"select": ["id"], "where": "amount > 5", "order_by": ["amount DESC", "id"], "limit": 2},
     "SELECT `id` AS `id` FROM `my-project`.`my_dataset`.`orders` WHERE ( `amount` > 5 ) "
     "ORDER BY `amount` DESC, `id` ASC NULLS LAST LIMIT 2"),
    ({"group_by": ["country"], "aggregates": [COUNT], "order_by": ["count desc"]},
     "SELECT `Country` AS `Country`, COUNT(*) AS `count` FROM `my-project`.`my_dataset`.`orders` "
     "GROUP BY `Country` ORDER BY `count` DESC"),
    ({"aggregates": [COUNT, Aggregate(function="count_distinct", column="device.os"),
                     Aggregate(function="approx_count_distinct", column="id", alias="ids"),
                     Aggregate(function="sum", column="amount"), Aggregate(function="avg", column="device.size"),
                     Aggregate(function="min", column="day"), Aggregate(function="max", column="Country")]},
     "SELECT COUNT(*) AS `count`, COUNT(DISTINCT `device`.`os`) AS `count_distinct_device_os`, "
     "APPROX_COUNT_DISTINCT(`id`) AS `ids`, SUM(`amount`) AS `sum_amount`, AVG(`device`.`size`) AS `avg_device_size`, "
     "MIN(`day`) AS `min_day`, MAX(`Country`) AS `max_Country` FROM `my-project`.`my_dataset`.`orders`"),
    ({"select": ["_partitiontime"]},
     "SELECT `_PARTITIONTIME` AS `_PARTITIONTIME` FROM `my-project`.`my_dataset`.`orders`"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "sql"), RENDERED, ids=[str(n) for n in range(len(RENDERED))])
def test_requests_become_this_sql(request_: dict[str, Any], sql: str) -> None:
    assert re.sub(r"\s+", " ", build(**request_).sql) == sql


def test_a_function_in_any_case_and_rows_counted_by_a_star() -> None:
    spelled = [{"function": "COUNT", "column": "*"}, {"function": " Sum ", "column": "amount"}]
    asked = [Aggregate.model_validate(one) for one in spelled]
    assert build(aggregates=asked).sql == build(aggregates=[COUNT, Aggregate(function="sum", column="amount")]).sql


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
def test_nulls_stand_last_unless_said(dialect: Dialect) -> None:
    """Seen in DuckDB; BigQuery puts them first where a column ascends and nothing is said."""
    for entry, first in (("id", False), ("id DESC", False), ("id nulls first", True), ("id DESC NULLS FIRST", True),
                         ("id ASC NULLS LAST", False)):  # fmt: skip
        sql = build_statement(
            ScanRequest(table_id="orders", order_by=[entry]), SCHEMA, Relation("", "", "orders"), dialect, 100
        ).sql
        order = sqlglot.parse_one(sql, dialect=dialect).find(exp.Ordered)
        assert order is not None
        assert bool(order.args["nulls_first"]) is first, sql
        assert order.args["desc"] in (None, "DESC" in entry.upper(), False)


def test_a_star_is_every_column_once() -> None:
    every = [column.name for column in SCHEMA.columns]
    assert build(select=["*"]).columns == every
    assert build(select=["*", "ID", "device.os"]).columns == [*every, "device_os"]


def test_no_select_names_every_column() -> None:
    statement = build()
    assert statement.columns == [column.name for column in SCHEMA.columns]
    assert statement.plain
    assert "*" not in statement.sql


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"select": []}, "invalid_argument", "empty"),
    ({"select": ["id", "ID"]}, "invalid_argument", "twice"),
    ({"select": ["device.os", "device.os"]}, "invalid_argument", "twice"),
    ({"select": ["contry"]}, "unknown_column", "Country"),
    ({"select": ["device.oss"]}, "unknown_column", "device.os"),
    ({"select": ["count(*)"]}, "unknown_column", ""),
    ({"select": ["id`, (SELECT 1) AS `x"]}, "unknown_column", ""),
    ({"select": ['id" FROM read_csv(\'/etc/passwd\') --']}, "unknown_column", ""),
    ({"select": ["id "]}, "unknown_column", ""),
    ({"select": ["orders.id"]}, "unknown_column", ""),
    ({"select": ["id\0"]}, "unknown_column", ""),
    ({"select": [""]}, "unknown_column", ""),
    ({"select": ["."]}, "unknown_column", ""),
    ({"select": ["tags.x"]}, "invalid_argument", "list"),
    ({"select": ["items.sku"]}, "invalid_argument", "list"),
    ({"order_by": ["(SELECT 1)"]}, "unknown_column", ""),
    ({"order_by": ["read_csv('/etc/passwd')"]}, "unknown_column", ""),
    ({"order_by": ["id DESC, 1"]}, "unknown_column", ""),
    ({"order_by": ["id; DROP TABLE orders"]}, "unknown_column", ""),
    ({"order_by": ["id NULLS"]}, "unknown_column", ""),
    ({"order_by": ["id NULLS LAST DESC"]}, "unknown_column", ""),
    ({"aggregates": [Aggregate(function="median", column="amount")]}, "invalid_argument", "count_if"),
    ({"aggregates": [Aggregate(function="sum", column="*")]}, "unknown_column", ""),
    ({"aggregates": [Aggregate(function="count_if", column="amount")]}, "invalid_argument", "BOOL"),
    ({"aggregates": [Aggregate(function="count_if")]}, "invalid_argument", "needs a column"),
    ({"order_by": ["1"]}, "unknown_column", ""),
    ({"order_by": [""]}, "unknown_column", ""),
    ({"order_by": ["DESC"]}, "unknown_column", ""),
    ({"order_by": ["id --"]}, "unknown_column", ""),
    ({"group_by": ["id"], "order_by": ["amount"]}, "unknown_column", "Order by one of id"),
    ({"group_by": ["day"], "select": ["id"]}, "invalid_argument", "group_by"),
    ({"group_by": [], "aggregates": []}, "invalid_argument", "both empty"),
    ({"aggregates": [Aggregate(function="sum")]}, "invalid_argument", "needs a column"),
    ({"aggregates": [Aggregate(function="sum", column="Country")]}, "invalid_argument", "needs a number"),
    ({"aggregates": [Aggregate(function="avg", column="tags")]}, "invalid_argument", "needs a number"),
    ({"aggregates": [Aggregate(function="max", column="nope")]}, "unknown_column", ""),
    ({"aggregates": [COUNT, COUNT]}, "invalid_argument", "twice"),
    ({"aggregates": [Aggregate(function="count", alias="x` FROM y --")]}, "invalid_argument", "plain name"),
    ({"aggregates": [Aggregate(function="count", alias="x\n")]}, "invalid_argument", "plain name"),
    ({"aggregates": [Aggregate(function="count", alias="id")], "group_by": ["id"]}, "invalid_argument", "twice"),
    ({"limit": 0}, "invalid_argument", "starts at 1"),
    ({"limit": -1}, "invalid_argument", "starts at 1"),
    ({"limit": 101}, "limit_too_large", "100"),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "kind", "said"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_everything_else_is_refused_by_name(request_: dict[str, Any], kind: str, said: str) -> None:
    error = refusal(**request_)
    assert error.kind == kind
    assert said in f"{error.message} {error.hint}"


def test_a_limit_of_zero_rows_allows_none() -> None:
    assert refusal(limit=1, max_limit=0).kind == "limit_too_large"


@pytest.mark.parametrize("name", NASTY)
async def test_any_column_name_works_in_duckdb_for_real(tmp_path: Path, name: str) -> None:
    """Selected, filtered out of, ordered by, grouped by, counted; sampled and profiled."""
    quoted = '"' + name.replace('"', '""') + '"'
    with duckdb.connect(str(tmp_path / "t.duckdb")) as connection:
        connection.execute(f"CREATE TABLE t AS SELECT i AS {quoted}, i * 2 AS other FROM range(5) AS r(i)")
    async with Gateway(settings_of(tmp_path / "s", [table("t", tmp_path / "t.duckdb")])) as gateway:
        scanned = await gateway.scans.scan(
            ME, ScanRequest(table_id="t", select=[name], order_by=[f"{name} DESC"], limit=2)
        )
        assert (scanned.columns, scanned.rows) == ([name], [[4], [3]])
        scanned = await gateway.scans.scan(ME, ScanRequest(table_id="t", select=["other"], order_by=[name], limit=1))
        assert scanned.rows == [[0]]
        counted = await gateway.scans.scan(
            ME,
            ScanRequest(
                table_id="t",
                group_by=[name],
                aggregates=[
                    Aggregate(function="sum", column=name, alias="s"),
                    Aggregate(function="count", column=name),
                ],
                order_by=["s desc"],
                limit=1,
            ),
        )
        assert counted.rows == [[4, 4, 1]]
        described = await gateway.descriptions.describe(ME, "t", 1, profile=True)
        assert described.profile is not None
        assert described.sample.columns == [name, "other"]
        assert [(column.name, column.max) for column in described.profile.columns] == [(name, 4), ("other", 8)]


@pytest.mark.parametrize("name", NASTY)
def test_any_column_name_is_one_token_in_bigquery(name: str) -> None:
    schema = TableSchema(table_id="t", columns=[Column(name=name, type="INT64"), Column(name="other", type="INT64")])
    request = ScanRequest(table_id="t", select=[name], order_by=[f"{name} DESC"], limit=1)
    sql = build_statement(request, schema, Relation("my-project", "my_dataset", "t"), "bigquery", 10).sql
    plain = re.sub(r"`(?:[^`\\]|\\.)*`", "_", sql, flags=re.DOTALL)
    assert re.sub(r"\s+", " ", plain) == "SELECT _ AS _ FROM _._._ ORDER BY _ DESC LIMIT 1", sql


@given(name=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_no_text_of_a_caller_gets_into_the_sql(name: str, other: str) -> None:
    """What is not a column is refused; what is one is quoted."""
    try:
        sql = build("duckdb", select=[name], order_by=[other]).sql
    except AgnesError as refused:
        sql, error = "", refused
    if not sql:
        assert error.kind in ("unknown_column", "invalid_argument")
        assert len(error.message) < 300
        return
    assert re.fullmatch(r'SELECT "\w+"(\."\w+")? AS "\w+" FROM "orders"\s+ORDER BY "\w+"(\."\w+")?( DESC)?', sql)


@pytest.mark.parametrize("name", NASTY_BIGQUERY)
def test_statements_for_bigquery_are_google_sql(googlesql: Any, name: str) -> None:
    schema = TableSchema(table_id="t", columns=[Column(name=name, type="INT64"), Column(name="other", type="INT64")])
    request = ScanRequest(
        table_id="t",
        group_by=[name],
        aggregates=[COUNT],
        order_by=[f"{name} DESC", "count"],
        where="other > 1",
        limit=3,
    )
    sql = build_statement(request, schema, Relation("my-project", "my_dataset", "t"), "bigquery", 10).sql
    googlesql(sql)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the oracle's own error; it does tell right from wrong
        googlesql(sql.replace("GROUP BY", "GROUP"))


@pytest.mark.parametrize(("request_", "sql"), RENDERED, ids=[str(n) for n in range(len(RENDERED))])
def test_the_recorded_statements_are_google_sql(googlesql: Any, request_: dict[str, Any], sql: str) -> None:
    googlesql(build(**request_).sql)


async def test_a_record_column_with_the_tables_own_name_is_read_as_the_column(tmp_path: Path) -> None:
    """`orders.id` is the field of the column `orders`, not the column `id` of the table."""
    path = write(tmp_path, "orders.parquet", "SELECT {'id': i} AS orders, i * 100 AS id FROM range(10) AS r(i)")
    async with Gateway(settings_of(tmp_path / "data", [table("orders", path)])) as gateway:
        request = ScanRequest(table_id="orders", select=["orders.id", "id"], where="orders.id = 5")
        answer = await gateway.scans.scan(ME, request)
        described = await gateway.descriptions.describe(ME, "orders", profile=True)
    assert answer.rows == [[5, 500]]
    assert described.profile is not None
    assert described.profile.columns[1].max == 900


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
def test_a_condition_is_cut_once_for_all_that_look_at_it(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    """By sqlglot for the second reading, whose tokens the gate of the finished statement looks at."""
    cut: list[str] = []
    tokenize = sqlglot.Dialect.tokenize

    def noted(settings: sqlglot.Dialect, sql: str, dialect: Any = None) -> list[Any]:
        cut.append(sql)
        return tokenize(settings, sql, dialect)

    monkeypatch.setattr(sqlglot.Dialect, "tokenize", noted)
    for times in (1, 2):  # a second statement is read anew
        statement = build(dialect, where="id = 4711 OR device.os = 'x'", limit=5)
        assert cut.count(statement.predicate_sql) == times


@given(st.data())
def test_columns_of_duckdb_are_selected_as_sqlglot_would_write_it(data: st.DataObject) -> None:
    """Letter by letter, whatever names and relations are: what is written is kept with a snapshot, and compared."""
    word = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=8))
    column = st.one_of(word, st.just(""))
    paths = data.draw(st.lists(st.lists(column, min_size=1, max_size=3), min_size=1, max_size=4))
    name, alias, catalog, schema = (data.draw(word), data.draw(st.one_of(st.just(""), word)), *data.draw(places(word)))
    written = selection([(path, "_".join(path)) for path in paths], [*filter(None, (catalog, schema)), name], alias)
    projections = [exp.alias_(identifier_path(path), "_".join(path), quoted=True) for path in paths]
    by_sqlglot = select_from(projections, Relation(catalog, schema, name, alias))
    assert written == by_sqlglot.sql(dialect="duckdb", comments=False)


def places(word: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    """A catalog and a schema, a schema alone, or neither."""
    nothing = st.just("")
    return st.one_of(st.tuples(word, word), st.tuples(nothing, word), st.tuples(nothing, nothing))


def test_what_selects_columns_of_duckdb_loads_no_sqlglot() -> None:
    code = (
        "import sys\n"
        "from agnes_mcp.models import Column, Relation, ScanRequest, TableSchema\n"
        "from agnes_mcp.sql.statement import build_statement\n"
        "schema = TableSchema(table_id='t', columns=[Column(name='id', type='BIGINT')])\n"
        "request = ScanRequest(table_id='t', select=['id'], limit=5)\n"
        "print(build_statement(request, schema, Relation('', '', 't'), 'duckdb', 10).sql)\n"
        "assert 'sqlglot' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == 'SELECT "id" AS "id" FROM "t"\nLIMIT 5\n'
