"""A folder of small awkward files, as people have them; each with how it is served, and what bare DuckDB reads of it.

Every file is made here, so that the repository holds none of them.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from agnes_mcp.sql import duckdb_lines

#: What the first field of a struct is called that has no name: DuckDB 2.0 has a name for it, and reads a MAP from JSON.
_NAMELESS = "f1" if duckdb_lines.line() == "1.5" else "element1"
_DEEP: dict[str, Any] = (  # the newer line reads 128 levels of JSON
    {"whole": True} if duckdb_lines.line() == "1.5" else {"kind": "table_unavailable", "says": "nested deeper"}
)
_DEEPER_STILL: dict[str, Any] = (  # nor does it read the levels of 300 lists, which are 600 in Parquet
    {} if duckdb_lines.line() == "1.5" else {"kind": "table_unavailable", "says": "nested deeper"}
)
_NAMELESS_JSON = "SELECT {'f1': 1::BIGINT}" if duckdb_lines.line() == "1.5" else "SELECT MAP {'': 1::BIGINT}"


@dataclass(frozen=True)
class Awkward:
    """One table. `rows` is SQL that gives the same rows in bare DuckDB (`{path}` is the file); `kind` an error instead.

    `whole`: the error comes only where all rows are read. `query_kind`: what `query` of it ends in.
    """

    path: Path
    rows: str = ""
    kind: str = ""
    says: str = ""
    whole: bool = False
    query_kind: str = ""
    table: dict[str, Any] = field(default_factory=dict)


def _duckdb(path: Path, *statements: str) -> Path:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def _copy(path: Path, select: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:") as connection:
        connection.sql(select).write_parquet(str(path))
    return path


def _bytes(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def csvs(folder: Path) -> dict[str, Awkward]:
    numbers = "".join(f"{n},{n}\n" for n in range(25_000))
    packable = f"x,y\n{numbers}".encode()
    ragged = _bytes(folder / "ragged.csv", b"a,b\n1,2\n3,4,5\n6\n")
    fewer = _bytes(folder / "fewer.csv", b"a,b\n1,2\n1,2\n3,4,5\n")
    late = _bytes(folder / "late.csv", f"x,y\n{numbers}25000,none\n".encode())
    latin = _bytes(folder / "latin.csv", "x,name\n1,café\n".encode("latin-1"))
    german = _bytes(folder / "german.csv", b"id;amount;day\n1;1234,5;31.12.2025\n2;0,5;01.01.2026\n")
    noted = _bytes(folder / "noted.csv", b"made by hand\n# a comment\nid|note\n1|'a|b'\n2|'-'\n")
    return {
        "late_text": Awkward(late, "SELECT * FROM read_csv('{path}', sample_size=-1)"),
        "late_forced": Awkward(
            late,
            kind="table_unavailable",
            says="types",
            whole=True,
            query_kind="query_failed",
            table={"csv": {"sample_size": 100}},
        ),
        "late_typed": Awkward(
            late,
            "SELECT * FROM read_csv('{path}', nullstr=['none'], sample_size=-1)",
            table={"csv": {"null_values": ["none"]}},
        ),
        "ragged": Awkward(ragged, kind="table_unavailable", says="null_padding"),
        "ragged_padded": Awkward(
            ragged,
            "SELECT * FROM read_csv('{path}', delim=',', null_padding=true, strict_mode=false)",
            table={"csv": {"delimiter": ",", "null_padding": True}},
        ),
        "fewer_at_first": Awkward(fewer, kind="table_unavailable", says="skip: 3"),
        "fewer_skipped": Awkward(
            fewer, "SELECT 3::BIGINT, 4::BIGINT, 5::BIGINT", table={"csv": {"skip": 3, "header": False}}
        ),
        "fewer_typed": Awkward(
            fewer, kind="table_unavailable", says="null_padding", table={"csv": {"null_values": ["-"]}}
        ),
        "header_apart": Awkward(
            _bytes(folder / "header_apart.csv", b"a|b\n1,2\n3,4\n"), kind="table_unavailable", says="skip: 1"
        ),
        "titled": Awkward(
            _bytes(folder / "titled.csv", b"Sales of the year\n\nid,amount\n1,2\n3,4\n"),
            "SELECT 1::BIGINT AS id, 2::BIGINT AS amount UNION ALL SELECT 3, 4",
        ),
        "quoted_places": Awkward(
            _bytes(folder / "quoted.csv", b'"City, State"\n"Brno, CZ"\n"Praha, CZ"\n'),
            "SELECT 'Brno, CZ' UNION ALL SELECT 'Praha, CZ'",
        ),
        **{
            f"torn_{name}": Awkward(
                _bytes(folder / f"torn_{name}.csv.{ending}", packed[:-cut]), kind="table_unavailable", says="breaks off"
            )
            for name, ending, packed, cut in (
                ("gz", "gz", gzip.compress(packable), 5_000),
                ("gz_sum", "gz", gzip.compress(packable), 4),
                ("zst", "zst", pa.compress(packable, codec="zstd", asbytes=True), 5_000),
                ("upper", "GZ", gzip.compress(packable), 5_000),
            )
        },
        "not_packed": Awkward(
            _bytes(folder / "not_packed.csv.gz", b"a,b\n1,2\n"), kind="table_unavailable", says="not packed"
        ),
        "packed_in_parts": Awkward(
            _bytes(folder / "parts.csv.gz", gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n")),
            "SELECT 1::BIGINT, 2::BIGINT UNION ALL SELECT 3, 4",
        ),
        "packed_in_frames": Awkward(
            _bytes(
                folder / "frames.csv.zst",
                b"".join(pa.compress(part, codec="zstd", asbytes=True) for part in (b"a,b\n1,2\n", b"3,4\n")),
            ),
            "SELECT 1::BIGINT, 2::BIGINT UNION ALL SELECT 3, 4",
        ),
        "noted_among": Awkward(  # DuckDB takes the lines with a delimiter in quotes for the regular ones
            _bytes(folder / "noted_among.csv", b'a,b\n# hi\n1,"x,y"\n2,"p,q"\n'),
            "SELECT 1::BIGINT, 'x,y' UNION ALL SELECT 2, 'p,q'",
        ),
        **{
            f"noted_among_{name}": Awkward(
                _bytes(folder / f"noted_{name}.csv.gz", gzip.compress(before + b'1,"x,y"\n# no, no\n2,"p,""q"\n3,z\n')),
                "SELECT 1::BIGINT, 'x,y' UNION ALL SELECT 2, 'p,\"q' UNION ALL SELECT 3, 'z'",
                table={"csv": {"comment": "#", **more}},
            )
            for name, before, more in (
                ("told", b"a,b\n", {}),
                ("headless", b"", {"header": False}),
                ("skipped", b"Report, of; the year\nby hand\na,b\n", {"skip": 2}),
                ("ignoring", b"a,b\n", {"ignore_errors": True}),
                ("padded", b"a,b\n", {"null_padding": True}),
            )
        },
        "noted_above": Awkward(
            _bytes(folder / "noted_above.tsv", b"# Name: cars, old\n# By: somebody, else\n\nid\tname\n1\tx\n2\ty\n"),
            "SELECT 1::BIGINT, 'x' UNION ALL SELECT 2, 'y'",
        ),
        "carets": Awkward(
            _bytes(folder / "carets.csv", b"a^b\n1^x, y\n2^z\n"), kind="table_unavailable", says='{delimiter: "^"}'
        ),
        "carets_said": Awkward(
            folder / "carets.csv",
            "SELECT 1::BIGINT, 'x, y' UNION ALL SELECT 2, 'z'",
            table={"csv": {"delimiter": "^"}},
        ),
        "caret_within": Awkward(
            _bytes(folder / "power.txt", b"m^2 of it\n1\n2\n"), "SELECT 1::BIGINT UNION ALL SELECT 2"
        ),
        "later_two": Awkward(  # of one column alone DuckDB believes that the lines have no more
            _bytes(folder / "later_two.csv", b"a\n" + b"x\n" * 3_000 + b"x,y\nz\n"),
            kind="table_unavailable",
            says="null_padding",
        ),
        "latin": Awkward(latin, kind="table_unavailable", says="encoding"),
        "latin_said": Awkward(latin, "SELECT 1::BIGINT, 'café'", table={"csv": {"encoding": "latin-1"}}),
        "latin_within_quotes": Awkward(
            _bytes(folder / "latin_quotes.csv", b'a,"Dir\rOp\xe9",b\r\n,,\r\n1,"x",2\r\n'),
            kind="table_unavailable",
            says="its text is not UTF-8",
        ),
        "windows_said": Awkward(
            _bytes(folder / "windows.csv", b"x,name\n1,\x80 5\n"),
            kind="table_unavailable",
            says="Windows-1252",
            table={"csv": {"encoding": "latin-1"}},
        ),
        "utf16_big": Awkward(
            _bytes(folder / "big.csv", b"\xfe\xff" + "x,name\n1,café\n".encode("utf-16-be")),
            kind="table_unavailable",
            says="higher byte first",
            table={"csv": {"encoding": "utf-16"}},
        ),
        "utf16_said_of_latin": Awkward(
            latin, kind="table_unavailable", says="csv.encoding", table={"csv": {"encoding": "utf-16"}}
        ),
        "latin_said_of_utf16": Awkward(
            folder / "utf16.csv", kind="table_unavailable", says="is UTF-16", table={"csv": {"encoding": "latin-1"}}
        ),
        "utf16": Awkward(
            _bytes(folder / "utf16.csv", "x,name\n1,café\n".encode("utf-16")), kind="table_unavailable", says="encoding"
        ),
        "utf16_said": Awkward(folder / "utf16.csv", "SELECT 1::BIGINT, 'café'", table={"csv": {"encoding": "utf-16"}}),
        "german": Awkward(
            german,
            "SELECT 1::BIGINT, 1234.5::DOUBLE, DATE '2025-12-31' UNION ALL SELECT 2, 0.5, DATE '2026-01-01'",
            table={"csv": {"delimiter": ";", "decimal": ",", "dateformat": "%d.%m.%Y"}},
        ),
        "noted": Awkward(
            noted,
            "SELECT 1::BIGINT, 'a|b' UNION ALL SELECT 2, NULL",
            table={"csv": {"skip": 1, "comment": "#", "delimiter": "|", "quote": "'", "null_values": ["-"]}},
        ),
        "headless": Awkward(
            _bytes(folder / "headless.csv", b"a,b\nc,d\n"),
            "SELECT 'a', 'b' UNION ALL SELECT 'c', 'd'",
            table={"csv": {"header": False}},
        ),
        "zipped": Awkward(
            _bytes(folder / "zipped.CSV.GZ", gzip.compress(b"a\n1\n2\n")), "SELECT 1::BIGINT UNION ALL SELECT 2"
        ),
        "union_by_name": Awkward(
            _bytes(folder / "union" / "b.csv", b"x,z\n1,2026-01-01\n").parent
            if _bytes(folder / "union" / "a.csv", b"x,y\n1,text\n")
            else folder,
            "SELECT 1::BIGINT, 'text', NULL::DATE UNION ALL SELECT 1, NULL, DATE '2026-01-01'",
        ),
        "other_order": Awkward(
            _bytes(folder / "order" / "b.csv", b"y,x\n3,4\n").parent
            if _bytes(folder / "order" / "a.csv", b"x,y\n1,2\n")
            else folder,
            "SELECT 1::BIGINT, 2::BIGINT UNION ALL SELECT 4, 3",
        ),
        "beside_empty": Awkward(
            _bytes(folder / "beside" / "b.csv", b"").parent
            if _bytes(folder / "beside" / "a.csv", b"x,y\n1,2\n")
            else folder,
            "SELECT 1::BIGINT, 2::BIGINT",
        ),
        "key_typed": Awkward(  # told as a plain type, DuckDB 1.5 ends with an internal error, and with it every table
            _bytes(folder / "keys" / "k=1" / "t.csv", b"a;k\n1;9\n").parent.parent
            if _bytes(folder / "keys" / "k=2" / "t.csv", b"a;k\n2;9\n")
            else folder,
            "SELECT 1::BIGINT, '1' UNION ALL SELECT 2, '2'",
            table={"csv": {"delimiter": ";", "types": {"K": "VARCHAR"}}},
        ),
        "typed_in_other_case": Awkward(
            _bytes(folder / "case.csv", b"Aa,b\n1,2\n"),
            "SELECT '1', 2::BIGINT",
            table={"csv": {"types": {"aa": "VARCHAR"}}},
        ),
        "empty": Awkward(_bytes(folder / "empty.csv", b""), kind="table_unavailable", says="empty"),
        "only_header": Awkward(_bytes(folder / "header.csv", b"a,b\n"), "SELECT 'x', 'y' LIMIT 0"),
    }


def texts_and_workbooks(folder: Path) -> dict[str, Awkward]:
    two = pa.table({"a": [1, 2], "b": ["x", None]})
    arrow, feather, stream = folder / "t.arrow", folder / "t.feather", folder / "stream.arrows"
    with pa.ipc.new_file(arrow, two.schema) as writer:
        writer.write_table(two)
    pyarrow.feather.write_feather(two, str(feather))
    with pa.ipc.new_stream(stream, two.schema) as writer:
        writer.write_table(two)
    old_stream, geo = folder / "old.arrow", folder / "geo.arrow"
    with pa.ipc.new_stream(old_stream, two.schema, options=pa.ipc.IpcWriteOptions(use_legacy_format=True)) as writer:
        writer.write_table(two)
    placed = two.replace_schema_metadata({"geo": '{"schema_version":"0.1.0","primary_column":"b","columns":{}}'})
    with pa.ipc.new_file(geo, placed.schema) as writer:
        writer.write_table(placed)
    pq.write_table(placed, folder / "geo.parquet")
    rows = "SELECT 1::BIGINT, 'x' UNION ALL SELECT 2, NULL"
    return {
        "json": Awkward(_bytes(folder / "list.json", b'[{"a":1,"b":"x"},{"a":2}]'), rows),
        "json_moments": Awkward(
            _bytes(folder / "moments.json", b'{"t":"30-04-2024 10:06:21"}\n{"t":"01-05-2024 11:00:00"}\n'),
            "SELECT strftime(t, '%Y-%m-%dT%H:%M:%S') FROM read_json('{path}')",
        ),
        "json_nameless": Awkward(_bytes(folder / "nameless.json", b'[{"a":{"":1}}]'), _NAMELESS_JSON),
        "geojsonl": Awkward(_bytes(folder / "shapes.geojsonl", b'{"type":"Feature"}\n'), "SELECT 'Feature'"),
        "text": Awkward(_bytes(folder / "export.txt", b"a\tb\n1\tx\n2\t\n"), rows),
        "json_unnamed": Awkward(_bytes(folder / "export.dat", b'\n [ {"a":1,"b":"x"},{"a":2}]'), rows),
        "upper_json": Awkward(_bytes(folder / "UPPER.JSON", b'[{"a":1,"b":"x"},{"a":2}]'), rows),
        "ndjson": Awkward(_bytes(folder / "lines.ndjson", b'{"a":1,"b":"x"}\n{"a":2}\n'), rows),
        "jsonl_packed": Awkward(_bytes(folder / "lines.jsonl.gz", gzip.compress(b'{"a":1,"b":"x"}\n{"a":2}\n')), rows),
        "json_nested": Awkward(_bytes(folder / "nested.json", b'[{"a":{"b":[1,2]}}]'), "SELECT {'b': [1::BIGINT, 2]}"),
        "json_marked": Awkward(
            _bytes(folder / "marked.json", b'\xef\xbb\xbf [{"a":1},{"a":2}]'), "SELECT 1 UNION ALL SELECT 2"
        ),
        "json_marked_lines": Awkward(
            _bytes(folder / "marked.ndjson", b'\xef\xbb\xbf{"a":1}\n{"a":2}\n'), "SELECT 1 UNION ALL SELECT 2"
        ),
        "json_deep": Awkward(_bytes(folder / "deep.json", b'[{"a":' + b"[" * 500 + b"]" * 500 + b"}]"), **_DEEP),
        "json_names": Awkward(  # DuckDB makes other names of the first and the third
            _bytes(folder / "names.json", b'[{"":1,"A":2,"a":3,"b_1":4}]'),
            "SELECT * FROM read_json('{path}', sample_size=-1)",
        ),
        "json_latin": Awkward(
            _bytes(folder / "latin.json", b'[{"a":"caf\xe9"}]'), kind="table_unavailable", says="not UTF-8"
        ),
        "json_two": Awkward(_bytes(folder / "two.json", b"[3[4]"), kind="table_unavailable", says="well-formed JSON"),
        "json_broken": Awkward(_bytes(folder / "broken.json", b'[{"a":1},{"a":]'), kind="table_unavailable"),
        "arrow": Awkward(arrow, rows),
        "feather": Awkward(feather, rows),
        "arrow_stream": Awkward(stream, rows),
        "arrow_old_stream": Awkward(old_stream, rows),
        "arrow_geo": Awkward(geo, rows),
        "parquet_geo": Awkward(folder / "geo.parquet", kind="table_unavailable", says="GeoParquet"),
        "arrow_not": Awkward(
            _bytes(folder / "not.arrow", b"\0\1\2\3" * 9), kind="unsupported_format", says="unknown format"
        ),
        "arrow_torn": Awkward(_bytes(folder / "torn.arrow", arrow.read_bytes()[:-200]), kind="table_unavailable"),
        "avro": Awkward(_bytes(folder / "x.avro", b"Obj\x01rest"), kind="unsupported_format", says="Avro"),
        "csv_called_parquet": Awkward(
            _bytes(folder / "c.parquet", b"a,b\n1,2\n"), kind="unsupported_format", says="text"
        ),
        "encrypted": Awkward(
            _bytes(folder / "e.parquet", b"PARE" + b"\0" * 40 + b"PARE"), kind="unsupported_format", says="encrypted"
        ),
        "sqlite": Awkward(
            _bytes(folder / "s.db", b"SQLite format 3\0" + b"\0" * 100), kind="unsupported_format", says="SQLite"
        ),
    }


def _nested(path: Path, levels: int, of_lists: bool) -> Path:
    """A column of one value below that many lists or records; another that is plain."""
    value: Any = 1
    kind = pa.int64()
    for _ in range(levels):
        value, kind = ([value], pa.list_(kind)) if of_lists else ({"a": value}, pa.struct([("a", kind)]))
    pq.write_table(pa.table({"id": [1], "x": pa.array([value], kind)}), path)
    return path


def nested(folder: Path) -> dict[str, Awkward]:
    """DuckDB doubles its work with each list in a list of Parquet, uninterrupted; Arrow ends at 64 levels."""
    refused: dict[str, Any] = {"kind": "unsupported_format", "says": "in one another"}
    beside = "SELECT id FROM read_parquet('{path}')"
    plain = "SELECT * FROM read_parquet('{path}')"
    return {
        "lists_16": Awkward(_nested(folder / "lists16.parquet", 16, of_lists=True), plain),
        **{
            f"lists_{levels}": Awkward(_nested(folder / f"lists{levels}.parquet", levels, of_lists=True), beside)
            for levels in (17, 30, 90)
        },
        "lists_300": Awkward(_nested(folder / "lists300.parquet", 300, of_lists=True), beside, **_DEEPER_STILL),
        "records_24": Awkward(_nested(folder / "records24.parquet", 24, of_lists=False), plain),
        **{
            f"records_{levels}": Awkward(_nested(folder / f"records{levels}.parquet", levels, of_lists=False), beside)
            for levels in (61, 90, 300)
        },
        "lists_in_database": Awkward(
            _duckdb(folder / "lists.duckdb", f"CREATE TABLE lists_in_database AS SELECT {'[' * 90}1{']' * 90} AS x"),
            **refused,
        ),
    }


def _with_old_bounds(path: Path, *, within: bool = False) -> Path:
    """Whole numbers from 1 to 24 as decimals, with bounds as writers of old took them: 2 for the least; `within` a
    record, where that is said."""
    numbers: pa.Array = pa.array(map(Decimal, range(1, 25)), pa.decimal128(25, 2))
    if within:
        numbers = pa.StructArray.from_arrays([numbers], names=["d"])
    pq.write_table(pa.table({"v": numbers}), path, use_dictionary=False, compression="none", store_schema=False)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    most, least, second = (b"\x0b" + number.to_bytes(11, "big") for number in (2400, 100, 200))
    footer = whole[-8 - length : -8].replace(b"\x28" + most + b"\x18" + least + b"\x11\x11\0", b"\0")
    footer = footer.replace(least, second).replace(b"parquet-cpp-arrow", b"parquet-of-old-by")
    path.write_bytes(whole[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def parquets(folder: Path) -> dict[str, Awkward]:
    nameless = pa.table({"s": pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["", "b"])})
    pq.write_table(nameless, folder / "nameless.parquet")
    _copy(folder / "mixed" / "a.parquet", "SELECT 1 AS a")
    _bytes(folder / "mixed" / "b.csv", b"a\n1\n")
    _copy(folder / "a=b" / "t.parquet", "SELECT 1 AS x")
    _copy(folder / "a=b" / "more" / "u.parquet", "SELECT 2 AS x")
    _copy(folder / "y" / "year=2025" / "t.parquet", "SELECT 1 AS x")
    _copy(folder / "y" / "year=2026" / "t.parquet", "SELECT 2 AS x")
    foreign = folder / "foreign.parquet"  # a column's name, and nothing else, in Latin-1
    pq.write_table(pa.table({"caf__": [1]}), foreign, store_schema=False)
    foreign.write_bytes(foreign.read_bytes().replace(b"caf__", b"caf\xe9_"))
    plain = "SELECT * FROM read_parquet('{path}')"
    pipe = folder / "pipe.parquet"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    return {
        "old_bounds": Awkward(_with_old_bounds(folder / "old.parquet"), plain.replace("*", "v::VARCHAR")),
        "old_bounds_within": Awkward(
            _with_old_bounds(folder / "within.parquet", within=True), plain.replace("*", "{'d': v.d::VARCHAR}")
        ),
        "pipe": Awkward(pipe, kind="unsupported_format", says="pipe"),
        "count_column": Awkward(_copy(folder / "count.parquet", "SELECT 7 AS count, 'x' AS rows"), plain),
        "geometry": Awkward(
            _copy(folder / "g.parquet", "SELECT 1 AS id, 'POINT (1 2)'::GEOMETRY AS g"),
            "SELECT 1, 'POINT (1 2)'",
        ),
        "timetz": Awkward(
            _copy(folder / "tz.parquet", "SELECT '12:00:00+02'::TIMETZ AS t"),
            "SELECT t::VARCHAR FROM '{path}'",
        ),
        "variant": Awkward(
            _copy(folder / "v.parquet", "SELECT i::VARIANT AS v, i FROM range(2) r(i)"),
            "SELECT i::VARCHAR, i FROM range(2) r(i)",
        ),
        "foreign_name": Awkward(foreign, kind="table_unavailable", says="name that is not UTF-8"),
        "union_type": Awkward(
            _copy(folder / "u.parquet", "SELECT 1::UNION(num INT, s VARCHAR) AS u"),
            f"SELECT {{'{_NAMELESS}': 0, 'num': 1, 's': NULL}}",
        ),
        "nameless": Awkward(
            folder / "nameless.parquet",
            f"SELECT {{'{_NAMELESS}': 1, 'b': 3}} UNION ALL SELECT {{'{_NAMELESS}': 2, 'b': 4}}",
        ),
        "brackets": Awkward(_copy(folder / "w[1]" / "x[2].parquet", "SELECT 1 AS a"), "SELECT 1"),
        "brackets_glob": Awkward(folder / "w[1]" / "*.parquet", "SELECT 1"),
        "brackets_folder": Awkward(folder / "w[1]", "SELECT 1"),
        "upper": Awkward(_copy(folder / "up" / "T.PARQUET", "SELECT 1 AS a").parent, "SELECT 1"),
        "mixed": Awkward(folder / "mixed", kind="unsupported_format", says="csv, parquet"),
        "no_partition": Awkward(folder / "a=b", "SELECT 1 AS x UNION ALL SELECT 2"),
        "partition": Awkward(folder / "y", "SELECT 1, 2025::BIGINT UNION ALL SELECT 2, 2026"),
        "no_hive": Awkward(folder / "y", "SELECT 1 UNION ALL SELECT 2", table={"hive": False}),
        "quoted_name": Awkward(_copy(folder / "it's.parquet", 'SELECT 1 AS "a ""b"" c", 2 AS "x.y"'), "SELECT 1, 2"),
        "decimal_map": Awkward(
            _copy(
                folder / "m.parquet",
                "SELECT MAP {'k': 1.25} AS m, [NULL, {'x': 1}] AS l",
            ),
            "SELECT m, l FROM '{path}'",
        ),
    }


def databases(folder: Path) -> dict[str, Awkward]:
    shop = _duckdb(
        folder / "shop.duckdb",
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE SCHEMA s",
        "CREATE TABLE s.u AS SELECT 2 AS b",
        "CREATE VIEW fine AS WITH x AS (SELECT * FROM t) SELECT x.a, u.b FROM x, s.u AS u",
        'CREATE VIEW "named AS t" (q) AS SELECT a FROM t UNION ALL SELECT * FROM range(2)',
        "CREATE VIEW over_view AS SELECT a FROM fine",
        "CREATE VIEW counting AS WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 2) FROM r",
        "CREATE TABLE latin AS SELECT 1 AS a",
        "CREATE VIEW other_table AS WITH latin AS (SELECT * FROM latin) SELECT * FROM latin",
        "DROP TABLE latin",
        "CREATE VIEW leak AS SELECT * FROM read_csv_auto('/etc/passwd', delim=':', header=false)",
        "CREATE VIEW leak_text AS SELECT content FROM read_text('/etc/passwd')",
        "CREATE VIEW leak_deep AS SELECT (SELECT max(content) FROM read_text('/etc/hostname'))",
        "CREATE VIEW leak_over AS SELECT * FROM leak",
        "CREATE VIEW leak_glob AS SELECT * FROM glob('/etc/*')",
    )
    macro = _duckdb(
        folder / "macro.duckdb",
        "CREATE TABLE t AS SELECT 1 AS a",
        "CREATE MACRO lower(p) AS (SELECT max(content) FROM read_text('/etc/hostname'))",
        "CREATE VIEW hidden AS SELECT lower('x') AS a FROM t",
    )
    return {
        "db_schema": Awkward(shop, "SELECT 2", table={"source_table": "u", "source_schema": "s"}),
        "db_schema_wrong": Awkward(shop, kind="table_unavailable", says="source_schema", table={"source_table": "u"}),
        "db_view": Awkward(shop, "SELECT 1, 2", table={"source_table": "fine"}),
        "db_view_named": Awkward(
            shop, "SELECT 1 UNION ALL SELECT 0 UNION ALL SELECT 1", table={"source_table": "named AS t"}
        ),
        "db_view_recursive": Awkward(shop, "SELECT 1 UNION ALL SELECT 2", table={"source_table": "counting"}),
        "db_other_table": Awkward(shop, kind="table_unavailable", says="view", table={"source_table": "other_table"}),
        "db_view_over": Awkward(shop, "SELECT 1", table={"source_table": "over_view"}),
        **{
            f"db_{name}": Awkward(shop, kind="table_unavailable", says="view", table={"source_table": name})
            for name in ("leak", "leak_text", "leak_deep", "leak_over", "leak_glob")
        },
        "db_macro": Awkward(macro, kind="table_unavailable", says="view", table={"source_table": "hidden"}),
        "db_macro_table": Awkward(macro, "SELECT 1", table={"source_table": "t"}),
    }


def links(folder: Path) -> dict[str, Awkward]:
    inside = _copy(folder / "linked" / "a.parquet", "SELECT 1 AS a")
    _copy(folder / "linked_too" / "a.parquet", "SELECT 1 AS a")
    outside = _copy(folder / "outside" / "secret.parquet", "SELECT 99 AS a")
    (folder / "linked" / "b.parquet").symlink_to(outside)
    (folder / "linked" / "deep").symlink_to(outside.parent)
    (folder / "named.parquet").symlink_to(inside)
    round_ = _copy(folder / "round" / "deep" / "a.parquet", "SELECT 1 AS a").parent
    for name in ("back", "again"):  # two ways back: after forty levels of both a trillion folders
        (round_ / name).symlink_to(round_.parent)
    (round_ / "latest.parquet").symlink_to("a.parquet")
    if hasattr(os, "mkfifo"):
        os.mkfifo(round_ / "pipe.parquet")
    system = Path("/proc/version")  # some of these are regular files, and reading them waits for ever
    (folder / "system.csv").symlink_to(system)
    refused: dict[str, Any] = {"kind": "unsupported_format", "says": "device"}
    of_system = {"system": Awkward(system, **refused), "link_to_system": Awkward(folder / "system.csv", **refused)}
    (folder / "folder_link").symlink_to(folder / "linked_too")
    return {
        **(of_system if system.exists() else {}),
        "links_round_folder": Awkward(folder / "round", "SELECT 1"),
        "links_round_glob": Awkward(folder / "round" / "**" / "*.parquet", "SELECT 1"),
        "links_round_end": Awkward(folder / "round" / "**", "SELECT 1"),
        "link_in_folder": Awkward(folder / "linked", "SELECT 1"),
        "link_in_glob": Awkward(folder / "linked" / "**" / "*.parquet", "SELECT 1"),
        "link_named": Awkward(folder / "named.parquet", "SELECT 1"),
        "link_to_folder": Awkward(folder / "folder_link", "SELECT 1"),
    }


def awkward_files(folder: Path) -> dict[str, Awkward]:
    """Every one of them, by the id of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Awkward] = {}
    for make in (csvs, texts_and_workbooks, parquets, nested, databases, links):
        found |= make(folder)
    return found
