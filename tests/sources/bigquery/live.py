"""The BigQuery source against BigQuery itself: run by hand, never collected by itself.

    AGNES_LIVE_PROJECT=my-project python -m pytest tests/sources/bigquery/live.py

It uses the credentials of this machine, reads a public table only, and creates nothing. It bills a few queries of
10 MiB (the minimum) and one Storage Read of a column to the project named.
`AGNES_DATA_SOURCE__BIGQUERY__API_ENDPOINT` and `…__STORAGE_ENDPOINT` point it elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.bigquery import call, read_all, statement, table

from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.sources.bigquery.price import MIB
from agnes_mcp.sources.bigquery.source import BigQuerySource

PUBLIC = "bigquery-public-data"
NAMES: Table = table("usa_1910_2013", "usa_names", project=PUBLIC)
VIEWLESS = statement(NAMES, ["name", "number"], "WHERE state = 'WY' AND year = 1910 AND gender = 'F'")
LITERALS = """
SELECT 9007199254740993 AS n, CAST('NaN' AS FLOAT64) AS f, TRUE AS flag, 'č' AS text, b'\\x00\\xff' AS raw,
  NUMERIC '1.5' AS money, BIGNUMERIC '1e-38' AS big, DATE '2024-02-29' AS day, TIME '23:59:59.999999' AS at,
  DATETIME '2024-01-01 00:00:00.000001' AS local, TIMESTAMP '2024-01-01 00:00:00+00' AS moment, JSON '{"a":1}' AS doc,
  ST_GEOGPOINT(14.42, 50.09) AS place, [1, 2] AS many, STRUCT(1 AS x, 'y' AS y) AS pair,
  RANGE<DATE> '[2024-01-01, UNBOUNDED)' AS during, MAKE_INTERVAL(1, 2, 3, 4, 5, 6) AS span
"""


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine() -> None:
    """Here they are wanted."""


@pytest.fixture
def live() -> Iterator[BigQuerySource]:
    project = os.environ.get("AGNES_LIVE_PROJECT")
    if not project:
        pytest.skip("AGNES_LIVE_PROJECT names the project that pays")
    settings = BigQuerySettings(
        project=project,
        api_endpoint=os.environ.get("AGNES_DATA_SOURCE__BIGQUERY__API_ENDPOINT"),
        storage_endpoint=os.environ.get("AGNES_DATA_SOURCE__BIGQUERY__STORAGE_ENDPOINT"),
    )
    source = BigQuerySource(settings)
    yield source
    source.close()


def test_a_schema_and_a_preview_are_free(live: BigQuerySource) -> None:
    schema = live.schema(NAMES, call())
    assert (schema.entity_type, [c.name for c in schema.columns][:2]) == ("BASE TABLE", ["state", "gender"])
    rows = live.preview(NAMES, schema, ["number", "name"], 3, call())
    assert rows is not None
    assert (rows.num_rows, rows.schema.names) == (3, ["number", "name"])


def test_a_query_bills_what_was_reserved_and_no_more(live: BigQuerySource) -> None:
    schema = live.schema(NAMES, call())
    price = live.price(NAMES, schema, VIEWLESS, call())
    rows, receipt = read_all(live, NAMES, VIEWLESS, price=price)
    assert rows.num_rows > 0
    assert price.scan_bytes is not None
    assert price.reserved_bytes is not None
    assert receipt.bytes_billed in (0, price.reserved_bytes)  # 0: from the cache


def test_a_direct_read_counts_what_the_dry_run_counts(live: BigQuerySource) -> None:
    asked = statement(NAMES, ["year"])
    schema = live.schema(NAMES, call())
    price = live.price(NAMES, schema, asked, call())
    rows, receipt = read_all(live, NAMES, asked, price=price, on=call(timeout_s=300))
    assert price.path == "direct_read"
    assert rows.num_rows == schema.rows
    assert receipt.bytes_billed == price.scan_bytes


def test_a_cap_below_the_minimum_is_kept_by_bigquery(live: BigQuerySource) -> None:
    schema = live.schema(NAMES, call())
    tight = statement(NAMES, ["name"], "WHERE year = 1911 AND state = 'WY'")
    price = live.price(NAMES, schema, tight, call()).model_copy(update={"reserved_bytes": MIB})
    with pytest.raises(AgnesError) as caught:
        read_all(live, NAMES, tight, price=price)
    assert caught.value.kind == "bytes_billed_cap_reached"


def test_every_type_comes_the_same_way_through_both_protocols(live: BigQuerySource) -> None:
    from agnes_mcp.models import Statement

    asked = Statement(sql=LITERALS, dialect="bigquery", columns=[], source_columns=[])
    schema = live.schema(NAMES, call())
    through_storage, _ = read_all(live, NAMES, asked)
    assert live._parts is not None
    live._parts.storage._down_until = float("inf")
    through_rest, _ = read_all(live, NAMES, asked)
    assert schema.rows
    assert str(through_storage.to_pylist()) == str(through_rest.to_pylist())  # as text: NaN is not itself


def test_bigquerys_complaints_have_their_kinds(live: BigQuerySource) -> None:
    schema = live.schema(NAMES, call())
    with pytest.raises(AgnesError) as caught:
        live.price(NAMES, schema, statement(NAMES, ["nosuch"], "WHERE year = 1"), call())
    assert caught.value.kind == "bq_bad_request"
    assert caught.value.details["line"] == 1
    with pytest.raises(AgnesError) as caught:
        live.schema(NAMES.model_copy(update={"source_table": "nosuch"}), call())
    assert caught.value.kind == "bq_not_found"
