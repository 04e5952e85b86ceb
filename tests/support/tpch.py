"""The eight tables of TPC-H, made by DuckDB from hashes of row numbers: the same on every machine, about scale 0.01.

The distributions are not the benchmark's to the letter; every one of its 22 questions has rows over them.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from agnes_mcp.sql.warehouse import Place
from support.warehouse import PROJECT, place

DATASET = "tpch"
QUESTIONS = Path(__file__).parent.parent / "fixtures" / "sql" / "tpch.sql"
_UNIT = "CREATE MACRO unit(i, k) AS (hash(i * 1009 + k) % 1000003) / 1000003.0"
_PICK = "CREATE MACRO pick(list, i, k) AS list[1 + CAST(floor(len(list) * unit(i, k)) AS INT)]"
_WORD = (
    "CREATE MACRO word(i, k) AS pick(['quick', 'special', 'requests', 'final', 'regular', 'Complaints', 'sleep'], i, k)"
)
_NATIONS = """['ALGERIA','ARGENTINA','BRAZIL','CANADA','EGYPT','ETHIOPIA','FRANCE','GERMANY','INDIA','INDONESIA','IRAN',
 'IRAQ','JAPAN','JORDAN','KENYA','MOROCCO','MOZAMBIQUE','PERU','CHINA','ROMANIA','SAUDI ARABIA','VIETNAM','RUSSIA',
 'UNITED KINGDOM','UNITED STATES']"""
_REGION_OF = "[0,1,1,1,4,0,3,3,2,2,4,4,2,4,0,0,0,1,2,3,4,2,3,3,1]"
#: Each with its columns as BigQuery spells them, and the SELECT that makes it.
TABLES: dict[str, tuple[str, str]] = {
    "region": (
        "r_regionkey INT64, r_name STRING, r_comment STRING",
        "SELECT CAST(i AS BIGINT), ['AFRICA','AMERICA','ASIA','EUROPE','MIDDLE EAST'][i + 1], '' FROM range(5) r(i)",
    ),
    "nation": (
        "n_nationkey INT64, n_name STRING, n_regionkey INT64, n_comment STRING",
        f"SELECT CAST(i AS BIGINT), {_NATIONS}[i + 1], CAST({_REGION_OF}[i + 1] AS BIGINT), 'none' FROM range(25) r(i)",
    ),
    "supplier": (
        "s_suppkey INT64, s_name STRING, s_address STRING, s_nationkey INT64, s_phone STRING, s_acctbal NUMERIC, "
        "s_comment STRING",
        """SELECT CAST(i AS BIGINT), 'Supplier#' || printf('%09d', i), 'address ' || i, CAST(i * 7 % 25 AS BIGINT),
        (10 + i * 7 % 25) || '-555-' || printf('%04d', i), CAST(-900 + 10000 * unit(i, 1) AS DECIMAL(15, 2)),
        word(i, 2) || ' Customer ' || word(i, 3) FROM range(1, 101) r(i)""",
    ),
    "customer": (
        "c_custkey INT64, c_name STRING, c_address STRING, c_nationkey INT64, c_phone STRING, c_acctbal NUMERIC, "
        "c_mktsegment STRING, c_comment STRING",
        """SELECT CAST(i AS BIGINT), 'Customer#' || printf('%09d', i), 'address ' || i,
        CAST(floor(25 * unit(i, 11)) AS BIGINT), (10 + CAST(floor(25 * unit(i, 11)) AS INT)) || '-555-' || i,
        CAST(-900 + 10000 * unit(i, 12) AS DECIMAL(15, 2)),
        pick(['AUTOMOBILE', 'BUILDING', 'FURNITURE', 'HOUSEHOLD', 'MACHINERY'], i, 13), word(i, 14)
        FROM range(1, 1501) r(i)""",
    ),
    "part": (
        "p_partkey INT64, p_name STRING, p_mfgr STRING, p_brand STRING, p_type STRING, p_size INT64, "
        "p_container STRING, p_retailprice NUMERIC, p_comment STRING",
        """SELECT CAST(i AS BIGINT), pick(['forest', 'green', 'blue', 'rosy', 'linen'], i, 21) || ' ' ||
        pick(['green', 'ivory', 'navy', 'peru'], i, 22), 'Manufacturer#' || (1 + i % 5),
        'Brand#' || (1 + i % 5) || (1 + CAST(floor(5 * unit(i, 23)) AS INT)),
        pick(['STANDARD', 'PROMO', 'ECONOMY', 'MEDIUM'], i, 24) || ' ' ||
        pick(['ANODIZED', 'POLISHED', 'PLATED'], i, 25) || ' ' ||
        pick(['TIN', 'STEEL', 'BRASS'], i, 26), CAST(1 + floor(50 * unit(i, 27)) AS BIGINT),
        pick(['SM', 'MED', 'LG', 'WRAP'], i, 28) || ' ' || pick(['CASE', 'BOX', 'PACK', 'BAG', 'PKG'], i, 29),
        CAST(900 + i % 1000 AS DECIMAL(15, 2)), 'none' FROM range(1, 2001) r(i)""",
    ),
    "partsupp": (
        "ps_partkey INT64, ps_suppkey INT64, ps_availqty INT64, ps_supplycost NUMERIC, ps_comment STRING",
        """SELECT CAST(p AS BIGINT), CAST(1 + (p + n * 25) % 100 AS BIGINT),
        CAST(1 + 9999 * unit(p * 4 + n, 31) AS BIGINT),
        CAST(1 + 999 * unit(p * 4 + n, 32) AS DECIMAL(15, 2)), 'none' FROM range(1, 2001) r(p), range(4) s(n)""",
    ),
    "orders": (
        "o_orderkey INT64, o_custkey INT64, o_orderstatus STRING, o_totalprice NUMERIC, o_orderdate DATE, "
        "o_orderpriority STRING, o_clerk STRING, o_shippriority INT64, o_comment STRING",
        """SELECT CAST(i AS BIGINT), CAST(1 + floor(1000 * unit(i, 41)) AS BIGINT), pick(['F', 'O', 'P'], i, 42),
        CAST(900 + 400000 * unit(i, 43) AS DECIMAL(15, 2)), DATE '1992-01-01' + CAST(floor(2400 * unit(i, 44)) AS INT),
        pick(['1-URGENT', '2-HIGH', '3-MEDIUM', '4-NOT SPECIFIED', '5-LOW'], i, 45), 'Clerk#' || i % 10,
        CAST(0 AS BIGINT), word(i, 46) || ' ' || word(i, 47) || ' ' || word(i, 48) FROM range(1, 15001) r(i)""",
    ),
    "lineitem": (
        "l_orderkey INT64, l_partkey INT64, l_suppkey INT64, l_linenumber INT64, l_quantity NUMERIC, "
        "l_extendedprice NUMERIC, l_discount NUMERIC, l_tax NUMERIC, l_returnflag STRING, l_linestatus STRING, "
        "l_shipdate DATE, l_commitdate DATE, l_receiptdate DATE, l_shipinstruct STRING, l_shipmode STRING, "
        "l_comment STRING",
        """SELECT CAST(o AS BIGINT), CAST(p AS BIGINT), CAST(1 + (p + n % 4 * 25) % 100 AS BIGINT),
        CAST(n + 1 AS BIGINT), CAST(1 + floor(50 * unit(k, 52)) AS DECIMAL(15, 2)),
        CAST(900 + 90000 * unit(k, 53) AS DECIMAL(15, 2)),
        CAST(floor(11 * unit(k, 54)) / 100 AS DECIMAL(15, 2)), CAST(floor(9 * unit(k, 55)) / 100 AS DECIMAL(15, 2)),
        pick(['A', 'N', 'R'], k, 56), pick(['F', 'O'], k, 57), day + CAST(1 + floor(120 * unit(k, 58)) AS INT),
        day + CAST(30 + floor(60 * unit(k, 59)) AS INT),
        day + CAST(1 + floor(120 * unit(k, 58)) AS INT) + CAST(1 + floor(30 * unit(k, 60)) AS INT),
        pick(['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'], k, 61),
        pick(['AIR', 'AIR REG', 'FOB', 'MAIL', 'RAIL', 'SHIP', 'TRUCK'], k, 62), 'none'
        FROM (SELECT o, n, o * 7 + n AS k, 1 + CAST(floor(2000 * unit(o * 7 + n, 51)) AS INT) AS p,
              DATE '1992-01-01' + CAST(floor(2400 * unit(o, 44)) AS INT) AS day
              FROM range(1, 15001) r(o), range(7) s(n) WHERE n <= 6 * unit(o, 63))""",
    ),
}


def places() -> list[Place]:
    """The tables as a principal may read them."""
    return [place(name, DATASET, name, spec) for name, (spec, _) in TABLES.items()]


def database() -> duckdb.DuckDBPyConnection:
    """DuckDB with the eight tables."""
    connection = duckdb.connect(":memory:")
    for macro in (_UNIT, _PICK, _WORD):
        connection.execute(macro)
    for name, (spec, select) in TABLES.items():
        names = ", ".join(column.split()[0] for column in spec.split(", "))
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM ({select}) AS made({names})")
    return connection


def write_parquet(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, Path]:
    """Each table as a file."""
    files = {name: folder / f"{name}.parquet" for name in TABLES}
    for name, path in files.items():
        connection.execute(f"COPY {name} TO '{path}' (FORMAT parquet)")
    return files


def questions() -> dict[str, str]:
    """The 22 questions by name, each a text that GoogleSQL and DuckDB read alike."""
    found: dict[str, str] = {}
    for part in QUESTIONS.read_text(encoding="utf-8").split("\n-- ")[1:]:
        name, _, text = part.partition("\n")
        found[name.strip()] = text.strip().removesuffix(";")
    return found


__all__ = ["DATASET", "PROJECT", "database", "places", "questions", "write_parquet"]
