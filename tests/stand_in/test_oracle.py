"""The stand-in against GoogleSQL's own evaluator: every predicate of the corpus selects the same rows."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from support.bigquery_backend import Client, rest_client
from support.predicates import BIGQUERY_SCHEMA, accepted

from agnes_mcp.models import Column
from agnes_mcp.stand_in import Field, Partition, StandIn
from agnes_mcp.stand_in.fields import read_schema

pytestmark = pytest.mark.slow

#: Parts of predicates that one of the two cannot answer, with the reason.
NOT_COMPARED = {
    "BIGNUMERIC '99999999999999999999999999999.5'": "the stand-in counts BIGNUMERIC with 38 digits",
    "_TABLE_SUFFIX": "the table of this corpus is no wildcard",
    "PARSE_DATETIME('%F %T'": "the evaluator's build parses no %T",
    "PARSE_TIMESTAMP('%F %T'": "the evaluator's build parses no %T",
    "CONTAINS_SUBSTR": "the evaluator does not have it",
}
AT_A_TIME = 40
MOMENT = dt.datetime(2026, 1, 31, 10, tzinfo=dt.UTC)
DEVICE = {
    "browser": {"name": "firefox", "version": 128, "engine": {"kind": "gecko", "build": {"number": {"major": 7}}}}
}
ROWS: list[dict[str, Any]] = [
    {
        "session_id": "s-1",
        "user_id": 1,
        "country_code": "CZ",
        "platform": "web",
        "event_date": dt.date(2026, 1, 31),
        "started_at": MOMENT,
        "local_at": MOMENT.replace(tzinfo=None),
        "at_time": dt.time(10, 30),
        "amount": Decimal("12.5"),
        "score": 1.5,
        "is_paid": True,
        "payload": {"plan": "pro", "items": [{"sku": "A-1"}]},
        "raw": b"s-1",
        "tags": ["new", "vip"],
        "device": {"os": "android", "mobile": True, **DEVICE},
        "items": [{"sku": "A-1", "price": Decimal("3.5")}],
        "order": 1,
        "group": "a",
        "date": dt.date(2026, 2, 1),
        "timestamp": MOMENT,
        "page views": 11,
        "net-amount": Decimal(-1),
        "štítek": "x",
    },
    {
        "session_id": "50%\\ it's",
        "user_id": 2,
        "country_code": "sk",
        "platform": "app",
        "event_date": dt.date(2024, 2, 29),
        "started_at": dt.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
        "local_at": dt.datetime(1999, 12, 31, 23, 59, 59),
        "at_time": dt.time(0, 0),
        "amount": Decimal("-250.5"),
        "score": -0.25,
        "is_paid": False,
        "payload": {},
        "raw": b"\xff",
        "tags": ["c", "d", "e", "f", "g", "h"],
        "device": {"os": "ios", "mobile": False, "browser": {"name": "safari", "version": 17}},
        "order": 0,
        "group": "b",
        "date": dt.date(2025, 1, 1),
        "net-amount": Decimal(0),
    },
    {"user_id": None, "tags": ["only", "two"]},
]


def rest(column: Column) -> dict[str, Any]:
    inner = [rest(field) for field in column.fields]
    return {"name": column.name, "type": column.type, "mode": column.mode, "fields": inner}


FIELDS = read_schema([rest(column) for column in BIGQUERY_SCHEMA.columns])


def literal(value: Any, field: Field, element: bool = False) -> str:
    """`value` in GoogleSQL, typed as the field is."""
    if field.repeated and not element:
        inside = ", ".join(literal(item, field, element=True) for item in value or [])
        return f"CAST([{inside}] AS {field.sql_type()})" if inside else f"CAST([] AS {field.sql_type()})"
    if value is None:
        return f"CAST(NULL AS {Field('', field.type, fields=field.fields).sql_type()})"
    if field.type == "STRUCT":
        parts = ", ".join(f"{literal(value.get(f.name), f)} AS `{f.name}`" for f in field.fields)
        return f"STRUCT({parts})"
    if field.type == "BYTES":
        return "b'" + "".join(f"\\x{byte:02x}" for byte in value) + "'"
    if field.type in ("STRING", "JSON"):
        text = value if field.type == "STRING" else json.dumps(value)
        return ("JSON " if field.type == "JSON" else "") + json.dumps(text, ensure_ascii=False)
    if field.type in ("INT64", "FLOAT64", "BOOL"):
        return f"CAST({value} AS {field.type})"
    return f"{field.type} '{value}'"


def with_rows(expression: str) -> str:
    rows = [
        "SELECT "
        + ", ".join(f"{literal(row.get(f.name), f)} AS `{f.name}`" for f in FIELDS)
        + f", TIMESTAMP '2026-01-{31 - index} 00:00:00 UTC' AS _PARTITIONTIME"
        + f", DATE '2026-01-{31 - index}' AS _PARTITIONDATE"
        for index, row in enumerate(ROWS)
    ]
    return f"WITH web_sessions AS ({' UNION ALL '.join(rows)}) SELECT {expression} FROM web_sessions"


def verdict(predicate: str) -> str:
    return f"CASE (\n{predicate}\n) WHEN TRUE THEN 'T' WHEN FALSE THEN 'F' ELSE 'N' END"


class Evaluator:
    """GoogleSQL's own evaluator."""

    def __init__(self) -> None:
        from zetasql.api import CatalogBuilder, PreparedQuery
        from zetasql.types import AnalyzerOptions, LanguageOptions, ZetaSQLBuiltinFunctionOptions

        language = LanguageOptions.maximum_features()
        builtin = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._catalog = CatalogBuilder("instance").with_builtin_functions(builtin).build()
        self._options = AnalyzerOptions(language_options=language, default_timezone="UTC")
        self._builder = PreparedQuery.builder

    def verdicts(self, predicates: list[str]) -> list[str]:
        """For each predicate "TFN" by row, or "error" where it fails on some row."""
        from zetasql.core import ServerError

        marks = ", ".join(f"STRING_AGG({verdict(p)}, '' ORDER BY user_id DESC)" for p in predicates)
        built = self._builder().set_sql(with_rows(marks)).set_analyzer_options(self._options)
        with built.set_catalog(self._catalog).prepare() as query:
            try:
                return [str(cell.string_value) for cell in query.execute().content.table_data.row[0].cell]
            except ServerError as error:
                if "[OUT_OF_RANGE]" not in str(error):
                    raise
        if len(predicates) == 1:
            return ["error"]
        half = len(predicates) // 2  # few fail, and a statement takes as long with one of them as with a dozen
        return self.verdicts(predicates[:half]) + self.verdicts(predicates[half:])


@pytest.fixture(scope="module")
def evaluator(googlesql: Any) -> Evaluator:
    return Evaluator()


@pytest.fixture(scope="module")
def sessions() -> Iterator[Client]:
    with StandIn() as stand_in, rest_client(stand_in.api_endpoint) as client:
        rows = [row | {"_at": f"2026-01-{31 - index}"} for index, row in enumerate(ROWS)]
        stand_in.create_table("staging", "rows", (*FIELDS, Field("_at", "DATE")), rows=rows)
        staged = 'SELECT * FROM "my-project.staging"."rows"'
        stand_in.create_table("d", "web_sessions", FIELDS, sql=staged, partition=Partition(), ingested="_at")
        yield client


def stand_in_verdict(client: Client, predicate: str) -> str:
    from google.api_core.exceptions import BadRequest

    sql = f"SELECT {verdict(predicate)} AS v FROM d.web_sessions ORDER BY user_id DESC"
    try:
        return "".join(row.v for row in client.query_and_wait(sql))
    except BadRequest as refused:
        if any(words in refused.message for words in ("out of bounds", "division by zero", "Could not", "Overflow")):
            return "error"
        raise AssertionError(f"{predicate}: {refused.message}") from None


CORPUS = [text for text in accepted("bigquery") if not any(part in text for part in NOT_COMPARED)]


@pytest.mark.parametrize("start", range(0, len(CORPUS), AT_A_TIME))
def test_predicates_select_the_rows_that_googlesql_selects(evaluator: Evaluator, sessions: Client, start: int) -> None:
    predicates = CORPUS[start : start + AT_A_TIME]
    expected = dict(zip(predicates, evaluator.verdicts(predicates), strict=True))
    answered = {predicate: stand_in_verdict(sessions, predicate) for predicate in predicates}
    assert {p: (answered[p], expected[p]) for p in predicates if answered[p] != expected[p]} == {}
