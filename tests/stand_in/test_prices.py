"""The price of a statement: bytes of the referenced columns in the partitions its filter leaves.

`orders` holds 1000 rows on ten days: id 8 bytes a row, day 8, amount (NUMERIC) 16, code ("abc") 2 + 3, at 8,
buyer.name ("Jo") 2 + 2, buyer.age 8, items (two INT64) 16. All in all 73 bytes a row.
"""

from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest, InternalServerError
from google.cloud import bigquery
from support.bigquery_backend import Client
from support.steps import steps_of

from agnes_mcp.stand_in import StandIn
from agnes_mcp.stand_in.googlesql.session import Names
from agnes_mcp.stand_in.sql.analysis import analyse

MIB = 1024 * 1024
DRY = {"dry_run": True, "use_query_cache": False}

#: What a dry run of each statement says, in bytes.
PRICES = {
    "SELECT id FROM my_dataset.orders": 8_000,
    "SELECT id FROM `my-project`.`my_dataset`.`orders`": 8_000,
    "SELECT ID FROM my_dataset.orders": 8_000,
    "SELECT * FROM my_dataset.orders": 73_000,
    "SELECT * EXCEPT (items) FROM my_dataset.orders": 57_000,
    "SELECT * FROM my_dataset.orders LIMIT 1": 73_000,
    "SELECT id FROM my_dataset.orders ORDER BY amount LIMIT 1": 24_000,
    "SELECT COUNT(*) FROM my_dataset.orders": 0,
    "SELECT 1": 0,
    "SELECT COUNT(id) FROM my_dataset.orders": 8_000,
    "SELECT id FROM my_dataset.orders WHERE code = 'abc'": 13_000,
    "SELECT id, code FROM my_dataset.orders WHERE id > 5 AND code IN ('abc', 'x')": 13_000,
    # fields of a STRUCT are priced by themselves
    "SELECT buyer.age FROM my_dataset.orders": 8_000,
    "SELECT buyer.name FROM my_dataset.orders": 4_000,
    "SELECT buyer FROM my_dataset.orders": 12_000,
    "SELECT orders.buyer.age FROM my_dataset.orders": 8_000,
    "SELECT item FROM my_dataset.orders, UNNEST(items) AS item": 16_000,
    "SELECT item FROM my_dataset.orders AS o, o.items AS item": 16_000,
    "SELECT id FROM my_dataset.orders WHERE EXISTS (SELECT 1 FROM UNNEST(items) AS x WHERE x = 1)": 24_000,
    # columns that a view, subquery or CTE offers and nobody asks for are not read
    "SELECT id FROM my_dataset.orders_v": 8_000,
    "SELECT * FROM my_dataset.orders_v": 21_000,
    "SELECT COUNT(*) FROM my_dataset.orders_v": 0,
    "SELECT twice FROM my_dataset.all_v": 16_000,
    "SELECT id FROM (SELECT * FROM my_dataset.orders)": 8_000,
    "WITH w AS (SELECT * FROM my_dataset.orders) SELECT code FROM w": 5_000,
    "SELECT id FROM my_dataset.over_v": 1_600,  # id and day of one day, through two views
    # a partition that the filter excludes is not read
    "SELECT id FROM my_dataset.orders WHERE day = '2024-01-03'": 1_600,
    "SELECT id FROM my_dataset.orders WHERE '2024-01-03' = day": 1_600,
    "SELECT id FROM my_dataset.orders WHERE day = DATE '2024-01-03' AND id > 7": 1_600,
    "SELECT id FROM my_dataset.orders WHERE day < '2024-01-03'": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day <= '2024-01-03'": 4_800,
    "SELECT id FROM my_dataset.orders WHERE day > '2024-01-08'": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day >= DATE_SUB(DATE '2024-01-10', INTERVAL 1 DAY)": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day BETWEEN '2024-01-02' AND '2024-01-04'": 4_800,
    "SELECT id FROM my_dataset.orders WHERE day IN ('2024-01-02', '2024-01-09', '2030-01-01')": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day = '2024-01-02' OR day = '2024-01-05'": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day = '2024-01-02' OR id = 1": 16_000,
    "SELECT id FROM my_dataset.orders WHERE NOT day > '2024-01-02'": 3_200,
    "SELECT id FROM my_dataset.orders WHERE NOT (day < '2024-01-09' OR id = 1)": 3_200,
    "SELECT id FROM my_dataset.orders WHERE day >= DATE_SUB(CURRENT_DATE(), INTERVAL 30 DAY)": 0,
    "SELECT id FROM my_dataset.orders WHERE day = '2030-01-01'": 0,
    "SELECT id FROM my_dataset.orders WHERE day IS NOT NULL": 16_000,
    "SELECT id FROM my_dataset.orders WHERE day IS NULL": 0,
    "SELECT id FROM my_dataset.orders WHERE day = (SELECT MAX(day) FROM my_dataset.orders)": 16_000,
    "SELECT id FROM my_dataset.orders_v WHERE day = '2024-01-03'": 1_600,
    "WITH w AS (SELECT * FROM my_dataset.orders) SELECT id FROM w WHERE day = '2024-01-03'": 1_600,
    "SELECT id FROM my_dataset.by_time WHERE at >= '2024-01-03' AND at < '2024-01-05'": 3_200,
    "SELECT id FROM my_dataset.by_time WHERE DATE(at) = '2024-01-03'": 1_600,
    "SELECT id FROM my_dataset.by_time WHERE CAST(at AS DATE) = '2024-01-03'": 1_600,
    "SELECT id FROM my_dataset.by_time WHERE TIMESTAMP_TRUNC(at, DAY) = TIMESTAMP '2024-01-03'": 1_600,
    "SELECT id FROM my_dataset.by_time WHERE at = TIMESTAMP '2024-01-03 05:00:00+00'": 1_600,
    "SELECT id FROM my_dataset.by_month WHERE day = '2024-01-03'": 16_000,
    "SELECT id FROM my_dataset.by_month WHERE day = '2024-02-03'": 0,
    "SELECT code FROM my_dataset.by_range WHERE id < 100": 1_300,
    "SELECT code FROM my_dataset.by_range WHERE id BETWEEN 100 AND 299": 2_600,
    "SELECT id FROM my_dataset.loaded WHERE _PARTITIONTIME = TIMESTAMP '2024-01-03'": 800,
    "SELECT id FROM my_dataset.loaded WHERE _PARTITIONDATE BETWEEN '2024-01-03' AND '2024-01-04'": 1_600,
    "SELECT id FROM my_dataset.loaded WHERE DATE(_PARTITIONTIME) > '2024-01-08'": 1_600,
    "SELECT id FROM my_dataset.loaded": 8_000,
    "SELECT a.id FROM my_dataset.orders AS a JOIN my_dataset.plain AS b USING (id) WHERE a.day = '2024-01-03'": 9_600,
    "SELECT a.id FROM my_dataset.orders AS a JOIN my_dataset.orders AS b ON a.id = b.id "
    "WHERE a.day = '2024-01-03'": 16_000,
    "SELECT id FROM my_dataset.orders UNION ALL SELECT id FROM my_dataset.plain": 16_000,
}


@pytest.mark.parametrize("sql", PRICES)
def test_dry_run_says_the_bytes_of_columns_and_partitions(shop_client: Client, sql: str) -> None:
    job = shop_client.query(sql, job_config=bigquery.QueryJobConfig(**DRY))
    assert job.total_bytes_processed == PRICES[sql]


@pytest.mark.parametrize("sql", [sql for sql in PRICES if "CURRENT" not in sql][::5])
def test_the_job_processes_what_the_dry_run_said(shop_client: Client, sql: str) -> None:
    job = shop_client.query(sql, job_config=bigquery.QueryJobConfig(use_query_cache=False))
    job.result()
    assert job.total_bytes_processed == PRICES[sql]
    assert job.total_bytes_billed % (10 * MIB) == 0
    assert (job.total_bytes_billed == 0) == (PRICES[sql] == 0)


def test_a_dry_run_makes_no_job(shop: StandIn, shop_client: Client) -> None:
    before = len(shop.query_jobs())
    job = shop_client.query("SELECT id, code FROM my_dataset.orders_v", job_config=bigquery.QueryJobConfig(**DRY))
    assert (job.job_id, job.state, job.total_bytes_billed, job.cache_hit) == (None, "DONE", 0, False)
    assert [field.name for field in job.schema] == ["id", "code"]
    assert [str(table) for table in job.referenced_tables] == ["my-project.my_dataset.orders"]
    assert job.statement_type == "SELECT"
    assert len(shop.query_jobs()) == before


def test_the_bill_is_rounded_up_for_each_table(shop_client: Client) -> None:
    job = shop_client.query(
        "SELECT a.id FROM my_dataset.plain AS a JOIN my_dataset.orders AS b ON a.id = b.id",
        job_config=bigquery.QueryJobConfig(use_query_cache=False),
    )
    job.result()
    assert (job.total_bytes_processed, job.total_bytes_billed) == (16_000, 20 * MIB)


def test_large_reads_are_billed_by_the_mebibyte(bq: StandIn, client: Client) -> None:
    bq.create_table("my_dataset", "wide", sql="SELECT i AS id FROM range(2_000_000) t(i)")
    job = client.query("SELECT id FROM my_dataset.wide")
    job.result(max_results=1)
    assert (job.total_bytes_processed, job.total_bytes_billed) == (16_000_000, 16 * MIB)


@pytest.mark.parametrize(("table", "column"), [("strict", "day"), ("by_time", "at")])
@pytest.mark.parametrize("condition", ["", " WHERE id = 1", " WHERE {0} = '2024-01-01' OR id = 1"])
def test_a_required_partition_filter_is_required(shop_client: Client, table: str, column: str, condition: str) -> None:
    sql = f"SELECT id FROM my_dataset.{table}{condition.format(column)}"
    with pytest.raises(BadRequest) as refused:
        shop_client.query(sql, job_config=bigquery.QueryJobConfig(**DRY))
    assert (
        f"Cannot query over table 'my-project.my_dataset.{table}' without a filter over column(s) '{column}' "
        "that can be used for partition elimination"
    ) in refused.value.message
    assert refused.value.errors[0]["reason"] == "invalidQuery"


def test_a_cap_below_the_bill_fails_the_job(shop: StandIn, shop_client: Client) -> None:
    """The cap counts what would be billed, not what would be read."""
    capped = bigquery.QueryJobConfig(use_query_cache=False, maximum_bytes_billed=8_000)
    job = shop_client.query("SELECT id FROM my_dataset.orders", job_config=capped)
    with pytest.raises(InternalServerError) as refused:
        job.result()
    assert refused.value.errors[0]["reason"] == "bytesBilledLimitExceeded"
    assert "Query exceeded limit for bytes billed: 8000. 10485760 or higher required." in refused.value.message
    assert shop_client.get_job(job.job_id, location=job.location).total_bytes_billed == 0
    assert shop.query_jobs()[-1].maximum_bytes_billed == 8_000


def test_a_cap_of_the_rounded_bill_is_enough(shop_client: Client) -> None:
    capped = bigquery.QueryJobConfig(use_query_cache=False, maximum_bytes_billed=10 * MIB)
    job = shop_client.query("SELECT id FROM my_dataset.orders", job_config=capped)
    assert job.result().total_rows == 1000


def test_a_repeated_statement_costs_nothing(bq: StandIn, client: Client) -> None:
    jobs = [client.query("SELECT id FROM my_dataset.things") for _ in range(2)]
    rows = [[row.id for row in job.result()] for job in jobs if job.result() is not None]
    assert rows[0] == rows[1] == [0, 1, 2]
    again = client.query("SELECT id FROM my_dataset.things")
    again.result()
    assert (again.cache_hit, again.total_bytes_processed, again.total_bytes_billed) == (True, 0, 0)


def test_the_cache_forgets_a_changed_table_and_obeys_the_switch(bq: StandIn, client: Client) -> None:
    sql = "SELECT id FROM my_dataset.things"
    client.query_and_wait(sql)
    bq.create_table("my_dataset", "things", "id INT64", rows=[{"id": 9}])
    changed = client.query(sql)
    assert ([row.id for row in changed.result()], changed.cache_hit) == ([9], False)
    uncached = client.query(sql, job_config=bigquery.QueryJobConfig(use_query_cache=False))
    uncached.result()
    assert uncached.cache_hit is False


def test_a_volatile_statement_is_never_cached(bq: StandIn, client: Client) -> None:
    for _ in range(2):
        job = client.query("SELECT CURRENT_TIMESTAMP() AS now FROM my_dataset.things")
        job.result()
        assert job.cache_hit is False


def test_sizes_by_type_are_bigquerys(bq: StandIn, client: Client) -> None:
    schema = {
        "i INT64": (1, 8),
        "f FLOAT64": (1.5, 8),
        "n NUMERIC": ("1.5", 16),
        "b BIGNUMERIC": ("1.5", 32),
        "o BOOL": (True, 1),
        "s STRING": ("žluť", 2 + 6),
        "y BYTES": (b"abc", 2 + 3),
        "d DATE": ("2024-01-01", 8),
        "t TIME": ("10:00:00", 8),
        "dt DATETIME": ("2024-01-01 10:00:00", 8),
        "ts TIMESTAMP": ("2024-01-01 10:00:00+00", 8),
        "iv INTERVAL": ("1 month", 16),
        "g GEOGRAPHY": ("LINESTRING(1 1, 2 2, 3 3)", 16 + 3 * 24),
        "j JSON": ({"a": 1}, 7),
        "r RANGE<DATE>": ({"start": "2024-01-01"}, 16),
        "a ARRAY<STRING>": (["x", "yy"], 3 + 4),
        "st STRUCT<x INT64, y ARRAY<BOOL>>": ({"x": 1, "y": [True, False]}, 8 + 2),
    }
    rows = [{column.split()[0]: value for column, (value, _) in schema.items()}, {}]  # NULLs weigh nothing
    bq.create_table("my_dataset", "typed", ", ".join(schema), rows=rows)
    for column, (_, size) in schema.items():
        name = column.split()[0]
        job = client.query(f"SELECT `{name}` FROM my_dataset.typed", job_config=bigquery.QueryJobConfig(**DRY))
        assert (name, job.total_bytes_processed) == (name, size)
    assert client.get_table("my_dataset.typed").num_bytes == sum(size for _, size in schema.values())


@pytest.mark.parametrize(
    ("sql", "size"),
    [
        ("SELECT line FROM my_dataset.o, UNNEST(lines) AS line", 3 + 8 + 16),
        ("SELECT line.n FROM my_dataset.o, UNNEST(lines) AS line", 8),
        ("SELECT n FROM my_dataset.o AS o, o.lines WHERE sku = 'a'", 3 + 8),
        ("SELECT (SELECT SUM(n) FROM UNNEST(lines)) AS total FROM my_dataset.o", 8),
        ("SELECT lines FROM my_dataset.o", 3 + 8 + 16),
    ],
)
def test_of_unnested_structs_the_used_fields_are_priced(bq: StandIn, client: Client, sql: str, size: int) -> None:
    line = {"sku": "a", "n": 1, "price": "1.5"}
    bq.create_table(
        "my_dataset", "o", "lines ARRAY<STRUCT<sku STRING, n INT64, price NUMERIC>>", rows=[{"lines": [line]}]
    )
    assert client.query(sql, job_config=bigquery.QueryJobConfig(**DRY)).total_bytes_processed == size
    assert client.query(sql).result().total_rows == 1


def test_nothing_is_estimated_of_an_external_table_but_it_is_billed(
    bq: StandIn, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("files") / "files.parquet"
    with bq.store.cursor() as cursor:
        cursor.execute(f"COPY (SELECT i AS id FROM range(100) t(i)) TO '{path}' (FORMAT parquet)")
    bq.create_external("my_dataset", "files", path)
    sql = "SELECT id FROM my_dataset.files"
    assert client.query(sql, job_config=bigquery.QueryJobConfig(**DRY)).total_bytes_processed == 0
    job = client.query(sql)
    job.result()
    assert (job.total_bytes_processed, job.total_bytes_billed) == (800, 10 * MIB)


def test_a_statement_over_many_columns_is_as_much_work_as_it_has_columns() -> None:
    """Twice the columns are twice the work, not four times: thousands of columns are priced within a second."""
    with StandIn() as bq:

        def work(count: int) -> int:
            names = [f"c{n}" for n in range(count)]
            bq.create_table("my_dataset", f"t{count}", ", ".join(f"{name} INT64" for name in names), rows=[])
            sql = f"SELECT {', '.join(names)} FROM my_dataset.t{count}"
            return steps_of(lambda: analyse(sql, bq.catalog, bq.store, Names("my-project")))

        few, many = work(300), work(600)
        assert many < 2.5 * few
