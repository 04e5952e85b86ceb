"""What each kind of instance is opened with: the settings are part of the perimeter, and none may be lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agnes_mcp.sources.bigquery import attached_job
from agnes_mcp.sources.extensions import job
from agnes_mcp.sql.instance import OneAnswer, open_instance
from agnes_mcp.sql.views import View

MEMORY_BYTES = 256 * 2**20
QUESTION = {"unsigned": False, "extensions": "/nowhere/extensions"}
Opener = Callable[[], duckdb.DuckDBPyConnection]
OF_ALL = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",
    "allow_unsigned_extensions": "false",
    "temp_directory": "",
    "threads": "1",
}
BESIDE_EXTENSION = OF_ALL | {"memory_limit": "128.0 MiB", "extension_directory": "/nowhere/extensions"}
OF_QUERIES = OF_ALL | {
    "memory_limit": "192.0 MiB",
    "allow_community_extensions": "false",
    "max_temp_directory_size": "0 bytes",
    "TimeZone": "UTC",
}
KINDS: dict[str, tuple[Opener, dict[str, str]]] = {
    "queries": (lambda: open_instance(MEMORY_BYTES, 1), OF_QUERIES),
    "bigquery": (lambda: attached_job.Attached(MEMORY_BYTES, 2).open_instance(QUESTION), BESIDE_EXTENSION),
    "extensions": (lambda: job.Attached(MEMORY_BYTES, 2).open_instance(QUESTION), BESIDE_EXTENSION),
}


def settings_of(opened: Opener) -> dict[str, Any]:
    """Of DuckDB 2.0, which lists only what has taken the place of `extension_directory`, that one as well."""
    with opened() as connection:
        listed = dict(connection.execute("SELECT name, value FROM duckdb_settings()").fetchall())
        directory = connection.execute("SELECT current_setting('extension_directory')").fetchone()
    assert directory is not None
    return listed | {"extension_directory": directory[0]}


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_as_listed(kind: str) -> None:
    opened, listed = KINDS[kind]
    found = settings_of(opened)
    assert {name: found[name] for name in listed} == listed


def test_the_two_kinds_beside_an_extension_are_set_alike() -> None:
    assert settings_of(KINDS["bigquery"][0]) == settings_of(KINDS["extensions"][0])


def test_an_unsigned_extension_is_loaded_only_where_the_question_says_so() -> None:
    unsigned = QUESTION | {"unsigned": True}
    for kind in (attached_job.Attached, job.Attached):
        with kind(MEMORY_BYTES, 2).open_instance(unsigned) as connection:
            found = connection.execute("SELECT current_setting('allow_unsigned_extensions')").fetchone()
        assert found == (True,)


@pytest.mark.parametrize(("files", "kept"), [([1], "true"), ([1, 1], "true"), ([1, 2], "false"), ([3], "false")])
def test_footers_are_kept_where_each_table_has_one(tmp_path: Path, files: list[int], kept: str) -> None:
    """Of the files of every table, so many: of many, what is kept would not be counted."""
    views = []
    for table, count in enumerate(files):
        paths = [str(tmp_path / f"{table}_{number}.parquet") for number in range(count)]
        for path in paths:
            pq.write_table(pa.table({"id": [1]}), path)
        views.append(View(f"table_{table}", "parquet", paths))
    answer = OneAnswer(MEMORY_BYTES, 1)
    answer.grant(views)
    with answer._instance as connection:
        assert connection.execute("SELECT current_setting('parquet_metadata_cache')::VARCHAR").fetchone() == (kept,)
        assert connection.execute("SELECT count(*) FROM table_0").fetchone() == (files[0],)
