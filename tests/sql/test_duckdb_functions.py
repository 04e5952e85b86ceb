"""The positive list of functions: real names only, and none of the families that are kept out."""

from __future__ import annotations

import duckdb
import pytest

from agnes_mcp.sql import duckdb_functions as functions


def names(text: str) -> set[str]:
    return set(text.split())


#: Functions that read, wait, change state, run text, or make much out of little.
KEPT_OUT = names(
    """
current_setting getvariable version current_query current_query_id current_connection_id
current_transaction_id txid_current nextval currval setseed random uuid gen_random_uuid uuidv4 uuidv7 sleep_ms
pg_sleep write_log error stats vector_type in_search_path json_serialize_sql json_deserialize_sql
json_serialize_plan json_execute_serialized_sql repeat lpad rpad printf format range generate_series
list_resize array_resize levenshtein damerau_levenshtein editdist3 to_json list_aggregate list_aggr
array_aggregate array_aggr aggregate getenv query query_table read_text read_blob read_csv read_json
read_parquet parquet_scan glob sniff_csv enable_logging duckdb_settings duckdb_secrets session_user
current_schema current_database pg_get_viewdef has_table_privilege inet_server_addr bitstring bar read_duckdb
which_secret
"""
)


@pytest.fixture(scope="module")
def real() -> dict[str, str]:
    """Every scalar, aggregate, window function and macro of DuckDB, with what a macro stands for."""
    rows = duckdb.execute(
        "SELECT function_name, string_agg(coalesce(macro_definition, ''), ' ') FROM duckdb_functions() "
        "WHERE function_type IN ('scalar', 'aggregate', 'window', 'macro') GROUP BY 1"
    ).fetchall()
    return dict(rows)


def test_every_name_is_a_function_of_duckdb(real: dict[str, str]) -> None:
    folded = {name.lower() for name in real}
    parsers_own = {"unnest", "->"}  # the binder's, not in the catalog
    assert functions.FUNCTIONS - folded - parsers_own == set()
    assert functions.OPERATORS - folded - parsers_own == set()


def test_what_is_kept_out_is_not_on_the_list() -> None:
    assert not functions.FUNCTIONS & KEPT_OUT
    assert sorted(functions.BOUNDED) == ["lpad", "repeat", "rpad"]
    assert sorted(functions.TABLE_FUNCTIONS) == ["generate_series", "range", "unnest"]


def test_no_macro_on_the_list_stands_for_what_is_kept_out(real: dict[str, str]) -> None:
    #: Inside these macros the bound is the length of a list or group that exists, or the aggregate's name is a literal.
    harmless = {
        "to_json",
        "list_aggr",
        "list_aggregate",
        "array_aggr",
        "aggregate",
        "generate_series",
        "range",
        "format",
        "error",
    }
    found = {
        (name, word)
        for name in functions.FUNCTIONS
        for word in KEPT_OUT - harmless
        if f"{word}(" in real.get(name, "").replace('"', "")
    }
    assert found == set()


def test_every_family_of_analytics_is_on_the_list() -> None:
    wanted = names("""
        sum avg min max count median quantile_cont approx_count_distinct approx_quantile arg_max
        string_agg list histogram stddev corr row_number rank lag lead first_value ntile date_trunc
        date_diff strftime strptime time_bucket epoch regexp_extract regexp_replace json_extract
        json_extract_string list_transform list_filter list_sum map_keys struct_pack unnest round
        coalesce greatest split_part trim lower upper substring md5 try_strptime
    """)
    assert wanted - functions.FUNCTIONS == {"coalesce"}  # an operator of the parser
