"""The lines of DuckDB that are supported, and in what they differ. Nothing else here asks for DuckDB's version."""

from __future__ import annotations

from functools import cache

#: Each as its first two numbers. `pyproject.toml` admits them, CI runs what faces DuckDB on each.
LINES = ("1.5", "2.0")


#: What a DuckDB file is made with that others read: DuckDB 2.0 would write it for itself alone, every 1.x reads this.
FILE_SETTINGS = {"storage_compatibility_version": "v0.10.2"}


@cache
def line() -> str:
    """Which line is installed: the first two numbers of DuckDB's version."""
    import duckdb

    return ".".join(duckdb.__version__.split(".")[:2])


@cache
def writes_new_trees() -> bool:
    """Whether `json_serialize_sql` writes the trees of DuckDB 2.0."""
    return line() != "1.5"


@cache
def settings() -> dict[str, str]:
    """What an instance that runs others' SQL is opened with, so that a statement means the same on each line.

    Unless it is asked not to, DuckDB 2.0 refuses the lambda arrow, `x -> x + 1`, and fails at an integer divided by
    zero, which is NULL in 1.5.
    """
    asked = {"lambda_syntax": "ENABLE_SINGLE_ARROW", "error_on_division_by_zero": "false"}
    return {} if line() == "1.5" else asked


@cache
def compares_blobs_wrongly() -> bool:
    """Whether a BLOB of a Parquet file's dictionary is compared wrongly with a constant that is not plain ASCII.

    Seen up to 1.5.6, the newest of that line, and not in 2.0.1. What is computed is not pushed down into the file.
    """
    return line() == "1.5"


@cache
def misreads_wide_decimals() -> bool:
    """Whether a Parquet file's decimals of more than 38 digits, which become DOUBLE, are read as other numbers unless
    their bytes are a multiple of eight. Seen up to 1.5.6, the newest of that line, and not in 2.0.1."""
    return line() == "1.5"


@cache
def copies_begun_rows() -> bool:
    """Whether rows of a statement that `execute` has begun are copied on their way to Arrow, with a warning of it."""
    return line() != "1.5"
