"""EXISTS over the row's own lists: what it may hold, what its names mean, and what does not get through with it."""

from __future__ import annotations

import random
from typing import Any

import duckdb
import pytest
from support.conditions import Conditions
from support.counts import count, tell

from agnes_mcp.errors import AgnesError, PredicateError
from agnes_mcp.models import Column, Dialect, Relation, ScanRequest, TableSchema
from agnes_mcp.sql.predicate import confirm_skeleton, render_predicate, validate_predicate
from agnes_mcp.sql.statement import build_statement


def _field(name: str, kind: str, *fields: Column, repeated: bool = False) -> Column:
    return Column(name=name, type=kind, mode="REPEATED" if repeated else "NULLABLE", fields=list(fields))


def schema_of(text: str, number: str) -> TableSchema:
    """Events as an analytics export has them, and columns that are called like fields, and like our own names."""
    value = _field("value", "STRUCT", _field("string_value", text), _field("int_value", number))
    return TableSchema(
        table_id="events",
        columns=[
            _field("id", number),
            _field("key", text),
            _field("p", text),
            _field("element_1", text),
            _field("params", "STRUCT", _field("key", text), value, repeated=True),
            _field("tags", text, repeated=True),
            _field(
                "items", "STRUCT", _field("name", text), _field("id", number),
                _field("params", "STRUCT", _field("key", text), _field("element_2", number), repeated=True),
                repeated=True,
            ),
        ],
    )  # fmt: skip


SCHEMAS: dict[Dialect, TableSchema] = {
    "bigquery": schema_of("STRING", "INT64"),
    "duckdb": schema_of("VARCHAR", "BIGINT"),
}
_BIGQUERY_ROWS = """
    SELECT 1 AS id, 'a' AS key, 'b' AS p, 'c' AS element_1,
      [STRUCT('a' AS key, STRUCT('x' AS string_value, 1 AS int_value) AS value), ('b', ('y', 2))] AS params,
      ['a', 'b'] AS tags,
      [STRUCT('a' AS name, 1 AS id, [STRUCT('a' AS key, 1 AS element_2), ('c', 3)] AS params),
        ('b', 2, ARRAY<STRUCT<key STRING, element_2 INT64>>[])] AS items
    UNION ALL SELECT 2, 'b', 'a', 'a', [('b', ('a', 2))], ['c'], [('a', 3, [('b', 2)])]
    UNION ALL SELECT 3, NULL, NULL, NULL, [], [], []"""
_DUCKDB_ROWS = """
    SELECT 1 AS id, 'a' AS key, 'b' AS p, 'c' AS element_1,
      [{'key': 'a', 'value': {'string_value': 'x', 'int_value': 1}},
       {'key': 'b', 'value': {'string_value': 'y', 'int_value': 2}}] AS params, ['a', 'b'] AS tags,
      [{'name': 'a', 'id': 1, 'params': [{'key': 'a', 'element_2': 1}, {'key': 'c', 'element_2': 3}]},
       {'name': 'b', 'id': 2, 'params': []}] AS items
    UNION ALL SELECT 2, 'b', 'a', 'a', [{'key': 'b', 'value': {'string_value': 'a', 'int_value': 2}}], ['c'],
      [{'name': 'a', 'id': 3, 'params': [{'key': 'b', 'element_2': 2}]}]
    UNION ALL SELECT 3, NULL, NULL, NULL, NULL, [], [NULL]"""

#: Conditions with the rows that they keep, the same in both dialects.
MEANT: dict[str, tuple[str, str, list[int]]] = {
    "a field of each element": (
        "EXISTS (SELECT 1 FROM UNNEST(params) AS e WHERE e.key = 'a' AND e.value.int_value = 1)",
        "EXISTS (SELECT 1 FROM UNNEST(params) AS t(e) WHERE e.key = 'a' AND e.value.int_value = 1)", [1],
    ),
    "all of it is of one element": (
        "EXISTS (SELECT 1 FROM UNNEST(params) WHERE key = 'a' AND value.int_value = 2)",
        "EXISTS (SELECT 1 FROM (SELECT UNNEST(params) AS e) WHERE e.key = 'a' AND e.value.int_value = 2)", [],
    ),
    "no element": ("NOT EXISTS(SELECT * FROM UNNEST(tags))", "NOT EXISTS(SELECT * FROM UNNEST(tags))", [3]),
    "beside the list": (
        "EXISTS(SELECT 1 FROM UNNEST(tags) t WHERE t = p)",
        "EXISTS(SELECT 1 FROM UNNEST(tags) AS l(t) WHERE t = p)", [1],
    ),
    "an element that is called like a column": (
        "EXISTS(SELECT 1 FROM UNNEST(tags) AS p WHERE p = 'c')",
        "EXISTS(SELECT 1 FROM UNNEST(tags) AS l(p) WHERE p = 'c')", [2],
    ),
    "a column that is called like our own name": (
        "EXISTS(SELECT 1 FROM UNNEST(params) e WHERE e.value.string_value = element_1)",
        "EXISTS(SELECT 1 FROM UNNEST(params) AS l(e) WHERE e.value.string_value = element_1)", [2],
    ),
    "a list in an element": (
        "EXISTS(SELECT 1 FROM UNNEST(items) i WHERE EXISTS(SELECT 1 FROM UNNEST(i.params) q "
        "WHERE q.element_2 = i.id AND q.key != p))",
        "EXISTS(SELECT 1 FROM UNNEST(items) AS l(i) WHERE EXISTS(SELECT 1 FROM UNNEST(i.params) AS m(q) "
        "WHERE q.element_2 = i.id AND q.key != p))", [1],
    ),
}  # fmt: skip


def rendered(text: str, dialect: Dialect) -> str:
    once = render_predicate(validate_predicate(text, SCHEMAS[dialect], dialect), dialect)
    assert render_predicate(validate_predicate(once, SCHEMAS[dialect], dialect), dialect) == once
    return once


def kept_by_duckdb(condition: str) -> list[int]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE events AS {_DUCKDB_ROWS}")
        return [
            row[0] for row in connection.execute(f"SELECT id FROM events WHERE ({condition}) ORDER BY 1").fetchall()
        ]


@pytest.fixture(scope="module")
def evaluator(googlesql: Any) -> Conditions:
    return Conditions(lambda marks: f"WITH events AS ({_BIGQUERY_ROWS}) SELECT {marks} FROM events", "id")


@pytest.mark.parametrize("case", MEANT)
def test_duckdb_keeps_the_rows_that_were_meant(case: str) -> None:
    _, text, rows = MEANT[case]
    assert kept_by_duckdb(rendered(text, "duckdb")) == kept_by_duckdb(text) == rows


def test_googlesql_keeps_the_rows_that_were_meant(evaluator: Conditions) -> None:
    texts = [text for text, _, _ in MEANT.values()]
    written = evaluator.kept([rendered(text, "bigquery") for text in texts])
    assert written == evaluator.kept(texts)
    assert [[n + 1 for n, mark in enumerate(marks) if mark == "T"] for marks in written] == [
        rows for _, _, rows in MEANT.values()
    ]


#: Names as tables have them: of words, of other scripts, with what only stands in quotes.
ODD = ["order", "select", "unnest", "exists", "from", "Größe", "ชื่อ", "价格", "a-b", "x y", "1st", "_", "element_1", "İ"]
#: The forms that each dialect has for it; `L` is the list, `A` the alias, `F` the element's field.
FORMS: dict[Dialect, list[str]] = {
    "bigquery": [
        "EXISTS (SELECT 1 FROM UNNEST(`L`) AS `A` WHERE `A`.`F` = 'a')",
        "EXISTS(SELECT * FROM UNNEST(`L`) `A` WHERE `A`.`F` = 'a')",
        "EXISTS(SELECT `F` FROM UNNEST(`L`) WHERE `F` = 'a')",
        "NOT EXISTS(SELECT NULL FROM UNNEST(events.`L`) AS `A` WHERE NOT `A`.`F` = 'a')",
    ],
    "duckdb": [
        'EXISTS (SELECT 1 FROM UNNEST("L") AS t("A") WHERE "A"."F" = \'a\')',
        'EXISTS(SELECT 1 FROM (SELECT UNNEST("L") AS "A") WHERE "A"."F" = \'a\')',
        'EXISTS(SELECT 1 FROM UNNEST("L") AS "A"("A") WHERE "A"."F" = \'a\')',
        'NOT EXISTS(SELECT * FROM UNNEST(events."L") "A"("A") WHERE NOT "A"."F" = \'a\')',
    ],
}


def oddly_named(form: str, listed: str, alias: str, field: str, dialect: Dialect) -> tuple[str, str]:
    """The condition as it is given, and as it is written anew for a table with that list."""
    quote = "`" if dialect == "bigquery" else '"'
    text = form
    for mark, name in (("L", listed), ("A", alias), ("F", field)):
        text = text.replace(f"{quote}{mark}{quote}", f"{quote}{name}{quote}")
    kind = "STRING" if dialect == "bigquery" else "VARCHAR"
    columns = [_field("id", "INT64"), _field(listed, "STRUCT", _field(field, kind), repeated=True)]
    tree = validate_predicate(text, TableSchema(table_id="events", columns=columns), dialect)
    return text, render_predicate(tree, dialect)


TURNS = [(ODD[n], ODD[n - 3], ODD[n - 7]) for n in range(len(ODD))]


@pytest.mark.parametrize("form", FORMS["duckdb"])
def test_odd_names_mean_the_same_in_duckdb(form: str) -> None:
    for listed, alias, field in TURNS:
        text, written = oddly_named(form, listed, alias, field, "duckdb")
        rows = f"SELECT 1 AS id, [{{'{field}': 'a'}}] AS \"{listed}\" UNION ALL SELECT 2, [{{'{field}': 'b'}}]"
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE events AS {rows}")
            for condition in (text, written):
                found = connection.execute(f"SELECT id FROM events WHERE ({condition})").fetchall()
                assert found == [(1,)], condition


@pytest.mark.parametrize("form", FORMS["bigquery"])
def test_odd_names_mean_the_same_in_googlesql(form: str, googlesql: Any) -> None:
    for listed, alias, field in TURNS:
        text, written = oddly_named(form, listed, alias, field, "bigquery")
        rows = f"SELECT 1 AS id, [STRUCT('a' AS `{field}`)] AS `{listed}` UNION ALL SELECT 2, [STRUCT('b')]"
        over = Conditions(lambda marks, rows=rows: f"WITH events AS ({rows}) SELECT {marks} FROM events", "id")  # type: ignore[misc]
        assert over.kept([text, written]) == ["TF", "TF"], written


_NAMES = ["key", "p", "id", "element_1", "tags", "params", "items", "value", "name", "e", "f", "element_2", "list_1"]


class Texts:
    """Random conditions whose aliases, columns and fields are called alike."""

    def __init__(self, seed: int, dialect: Dialect) -> None:
        self._random = random.Random(seed)
        self._dialect = dialect

    def next(self, depth: int = 0) -> str:
        pick = self._random.choice
        listed = pick(["params", "tags", "items", "events.params", "events.tags", "i.params", "e.params", "p.params"])
        alias = pick(["e", "i", "p", "key", "tags", "f", "events", "element_1", "list_1"])
        shape = pick(["AS {}", "{}", ""] if self._dialect == "bigquery" else ["AS l({})", "AS {0}({0})", "e({})"])
        where = " AND ".join(self._comparison(alias) for _ in range(pick([1, 1, 2])))
        if depth < 2 and self._random.random() < 0.4:
            where = f"{where} {pick(['AND', 'OR', 'AND NOT'])} {self.next(depth + 1)}"
        select = pick(["1", "*", "NULL", alias, "key"])
        return f"EXISTS(SELECT {select} FROM UNNEST({listed}) {shape.format(alias)} WHERE {where})"

    def _comparison(self, alias: str) -> str:
        left, right = self._path(alias), self._random.choice([self._path(alias), "'a'", "2"])
        return f"{left} {self._random.choice(['=', '!=', '>'])} {right}"

    def _path(self, alias: str) -> str:
        pick = self._random.choice
        return pick(
            [pick(_NAMES), f"{alias}.{pick(_NAMES)}", f"events.{pick(_NAMES)}", alias, f"{alias}.value.int_value"]
        )


def accepted(texts: Texts, wanted: int, dialect: Dialect) -> list[tuple[str, str]]:
    """So many random texts that pass, each with how it is written anew."""
    found: list[tuple[str, str]] = []
    while len(found) < wanted:
        text = texts.next()
        try:
            found.append((text, rendered(text, dialect)))
        except PredicateError:
            continue
    return found


@pytest.mark.soak
def test_names_mean_what_duckdb_takes_them_for() -> None:
    tried, agreed = count(60, 3_000), 0
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE events AS {_DUCKDB_ROWS}")

        def kept(condition: str) -> list[Any]:
            return connection.execute(f"SELECT id FROM events WHERE ({condition}) ORDER BY 1").fetchall()

        for text, written in accepted(Texts(7, "duckdb"), tried, "duckdb"):
            try:
                meant = kept(text)
            except duckdb.Error:  # of another type, or a name that DuckDB finds ambiguous
                continue
            assert kept(written) == meant, text
            agreed += 1
    assert agreed > tried // 8
    tell("EXISTS over lists, DuckDB", tried=tried, through=agreed)


@pytest.mark.soak
def test_names_mean_what_googlesql_takes_them_for(evaluator: Conditions) -> None:
    from zetasql.core import ServerError

    tried, agreed = count(60, 3_000), 0
    for text, written in accepted(Texts(11, "bigquery"), tried, "bigquery"):
        try:
            meant = evaluator.kept([text])
        except ServerError:  # of another type, or a name that GoogleSQL finds ambiguous
            continue
        assert evaluator.kept([written]) == meant, text
        agreed += 1
    assert agreed > tried // 8
    tell("EXISTS over lists, GoogleSQL", tried=tried, through=agreed)


def refusal(text: str, dialect: Dialect) -> str:
    with pytest.raises(PredicateError) as refused:
        validate_predicate(text, SCHEMAS[dialect], dialect)
    return refused.value.kind


def test_what_is_hidden_by_a_field_is_not_read_as_the_column() -> None:
    """Written without its table, `events.key` would mean the element's field."""
    assert refusal(
        "EXISTS(SELECT 1 FROM UNNEST(params) e WHERE e.value.int_value = 1 AND events.key = 'a')", "bigquery"
    ) == ("cross_table_reference")
    assert rendered("EXISTS(SELECT 1 FROM UNNEST(params) AS t(e) WHERE events.key = 'a')", "duckdb")


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
def test_how_many_and_how_deep(dialect: Dialect) -> None:
    one = "EXISTS(SELECT 1 FROM UNNEST(tags))"
    assert rendered(" AND ".join([one] * 16), dialect)
    assert refusal(" AND ".join([one] * 17), dialect) == "too_complex"
    two = "EXISTS(SELECT 1 FROM UNNEST({}) {} WHERE {})"
    names = ("i", "j", "k") if dialect == "bigquery" else ("l(i)", "l(j)", "l(k)")
    inner = two.format("j.params", names[2], "1 = 1")
    nested = two.format("items", names[0], two.format("i.params", names[1], inner))
    assert refusal(nested, dialect) == "too_complex"
    assert rendered(nested.replace(inner, "1 = 1"), dialect)


PREFIX: dict[Dialect, str] = {"bigquery": "SELECT `id` FROM `events`", "duckdb": 'SELECT "id" FROM "events"'}
FORGED = [
    "EXISTS(SELECT 1 FROM `my-project`.`hr`.`people`)",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`) AS `t`, `people`)",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`) AS `t` UNION ALL SELECT 1)",
    "EXISTS(SELECT `id` FROM UNNEST(`tags`) AS `t`)",
    "EXISTS(SELECT 1 FROM UNNEST(SPLIT(`key`)) AS `t`)",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`))",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`) AS `t` WHERE 1 = (SELECT 1))",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`) AS `t` WHERE TRUE WHERE TRUE)",
    "EXISTS(SELECT 1 FROM UNNEST(`tags`) AS `t` ORDER BY 1)",
    "`id` IN (SELECT 1 FROM UNNEST(`tags`) AS `t`)",
]


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
@pytest.mark.parametrize("text", FORGED)
def test_the_skeleton_alone_holds_nothing_but_lists(text: str, dialect: Dialect) -> None:
    forged = text if dialect == "bigquery" else text.replace("`", '"').replace('AS "t"', 'AS "l"("t")')
    prefix = PREFIX[dialect]
    sql = f"{prefix}\nWHERE (\n{forged}\n)\nLIMIT 5"
    with pytest.raises(PredicateError):
        confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=forged, suffix_sql="LIMIT 5")


@pytest.mark.parametrize("dialect", ["bigquery", "duckdb"])
def test_it_runs_where_it_can_be_killed(dialect: Dialect) -> None:
    """BigQuery's cost is not ours to bound; DuckDB runs it in a process of its own."""
    written = MEANT["beside the list"]
    request = ScanRequest(table_id="events", select=["id"], where=written[0] if dialect == "bigquery" else written[1])
    statement = build_statement(request, SCHEMAS[dialect], Relation("", "", "events"), dialect, 10)
    assert statement.bounded is (dialect == "bigquery")


def test_a_query_is_pointed_to_it() -> None:
    with pytest.raises(AgnesError) as refused:
        validate_predicate(
            "(SELECT value.int_value FROM UNNEST(params) WHERE key = 'a') = 1", SCHEMAS["bigquery"], "bigquery"
        )
    assert "EXISTS (SELECT 1 FROM UNNEST(" in refused.value.hint
