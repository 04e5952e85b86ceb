"""Which trees of DuckDB's parser are admitted: every node, and every field of every node, by name.

The trees are those of `json_serialize_sql`. A node is known by its tag; a field by what it holds. Whatever is not
written here is refused, so a release of DuckDB that adds a clause adds it refused.
"""

from __future__ import annotations

from typing import Final

# What a field may hold. A list holds the same, item by item.
SCALAR: Final = "scalar"  # text, number, truth value or nothing; lists of these
OPAQUE: Final = "opaque"  # the value of a literal: not syntax
EXPRESSION: Final = "expression"
QUERY: Final = "query"
RELATION: Final = "relation"
MODIFIER: Final = "modifier"
ORDER: Final = "order"
TYPE_DETAIL: Final = "type_detail"

#: The kinds whose nodes carry a tag in `type`; expressions carry it in `class`.
TAGGED: Final = frozenset({EXPRESSION, QUERY, RELATION, MODIFIER, ORDER, TYPE_DETAIL})

Fields = dict[str, str]

_EXPRESSION: Fields = {"class": SCALAR, "type": SCALAR, "alias": SCALAR, "query_location": SCALAR}
_RELATION: Fields = {"type": SCALAR, "alias": SCALAR, "sample": "sample", "query_location": SCALAR}
_QUERY: Fields = {"type": SCALAR, "modifiers": MODIFIER, "cte_map": "ctes"}
_TYPE: Fields = {"type": SCALAR, "alias": SCALAR}
_ORDER: Fields = {"type": SCALAR, "null_order": SCALAR, "expression": EXPRESSION}

EXPRESSIONS: dict[str, Fields] = {
    "BETWEEN": _EXPRESSION | {"input": EXPRESSION, "lower": EXPRESSION, "upper": EXPRESSION},
    "CASE": _EXPRESSION | {"case_checks": "case_check", "else_expr": EXPRESSION},
    "CAST": _EXPRESSION | {"child": EXPRESSION, "cast_type": "type", "try_cast": SCALAR},
    "COLLATE": _EXPRESSION | {"child": EXPRESSION, "collation": SCALAR},
    "COLUMN_REF": _EXPRESSION | {"column_names": SCALAR},
    "COMPARISON": _EXPRESSION | {"left": EXPRESSION, "right": EXPRESSION},
    "CONJUNCTION": _EXPRESSION | {"children": EXPRESSION},
    "CONSTANT": _EXPRESSION | {"value": "value"},
    "FUNCTION": _EXPRESSION
    | {
        "function_name": SCALAR,
        "schema": SCALAR,
        "children": EXPRESSION,
        "filter": EXPRESSION,
        "order_bys": MODIFIER,
        "distinct": SCALAR,
        "is_operator": SCALAR,
    },
    "LAMBDA": _EXPRESSION | {"lhs": EXPRESSION, "expr": EXPRESSION},
    "OPERATOR": _EXPRESSION | {"children": EXPRESSION},
    "POSITIONAL_REFERENCE": _EXPRESSION | {"index": SCALAR},
    "STAR": _EXPRESSION
    | {
        "relation_name": SCALAR,
        "exclude_list": SCALAR,
        "replace_list": "replacement",
        "columns": SCALAR,
        "expr": EXPRESSION,
        "qualified_exclude_list": "qualified_name",
        "rename_list": "renaming",
    },
    "SUBQUERY": _EXPRESSION
    | {"subquery_type": SCALAR, "subquery": "statement", "child": EXPRESSION, "comparison_type": SCALAR},
    "WINDOW": _EXPRESSION
    | {
        "function_name": SCALAR,
        "children": EXPRESSION,
        "partitions": EXPRESSION,
        "orders": ORDER,
        "start": SCALAR,
        "end": SCALAR,
        "start_expr": EXPRESSION,
        "end_expr": EXPRESSION,
        "offset_expr": EXPRESSION,
        "default_expr": EXPRESSION,
        "ignore_nulls": SCALAR,
        "filter_expr": EXPRESSION,
        "exclude_clause": SCALAR,
        "distinct": SCALAR,
        "arg_orders": ORDER,
    },
}

#: The operators of the classes that hold several.
EXPRESSION_TYPES: dict[str, frozenset[str]] = {
    "COMPARISON": frozenset(
        {
            "COMPARE_EQUAL",
            "COMPARE_NOTEQUAL",
            "COMPARE_LESSTHAN",
            "COMPARE_GREATERTHAN",
            "COMPARE_LESSTHANOREQUALTO",
            "COMPARE_GREATERTHANOREQUALTO",
            "COMPARE_DISTINCT_FROM",
            "COMPARE_NOT_DISTINCT_FROM",
        }
    ),
    "OPERATOR": frozenset(
        {
            "ARRAY_CONSTRUCTOR",
            "ARRAY_EXTRACT",
            "ARRAY_SLICE",
            "COMPARE_IN",
            "COMPARE_NOT_IN",
            "GROUPING_FUNCTION",
            "OPERATOR_COALESCE",
            "OPERATOR_IS_NOT_NULL",
            "OPERATOR_IS_NULL",
            "OPERATOR_NOT",
            "OPERATOR_NULLIF",
            "OPERATOR_TRY",
            "OPERATOR_UNPACK",
            "STRUCT_EXTRACT",
        }
    ),
}

RELATIONS: dict[str, Fields] = {
    "BASE_TABLE": _RELATION | {"table_name": SCALAR, "column_name_alias": SCALAR},
    "EMPTY": _RELATION,
    "EXPRESSION_LIST": _RELATION | {"expected_names": SCALAR, "expected_types": "type", "values": EXPRESSION},
    "JOIN": _RELATION
    | {
        "left": RELATION,
        "right": RELATION,
        "condition": EXPRESSION,
        "join_type": SCALAR,
        "ref_type": SCALAR,
        "using_columns": SCALAR,
        "delim_flipped": SCALAR,
    },
    "PIVOT": _RELATION
    | {
        "source": RELATION,
        "aggregates": EXPRESSION,
        "unpivot_names": SCALAR,
        "pivots": "pivot",
        "groups": SCALAR,
        "column_name_alias": SCALAR,
        "include_nulls": SCALAR,
    },
    "SUBQUERY": _RELATION | {"subquery": "statement", "column_name_alias": SCALAR},
    "TABLE_FUNCTION": _RELATION | {"function": "table_call", "column_name_alias": SCALAR, "with_ordinality": SCALAR},
}

QUERIES: dict[str, Fields] = {
    "SELECT_NODE": _QUERY
    | {
        "select_list": EXPRESSION,
        "from_table": RELATION,
        "where_clause": EXPRESSION,
        "group_expressions": EXPRESSION,
        "group_sets": SCALAR,
        "aggregate_handling": SCALAR,
        "having": EXPRESSION,
        "sample": "sample",
        "qualify": EXPRESSION,
    },
    "SET_OPERATION_NODE": _QUERY
    | {"setop_type": SCALAR, "left": QUERY, "right": QUERY, "setop_all": SCALAR, "children": QUERY},
}

MODIFIERS: dict[str, Fields] = {
    "DISTINCT_MODIFIER": {"type": SCALAR, "distinct_on_targets": EXPRESSION},
    "LIMIT_MODIFIER": {"type": SCALAR, "limit": EXPRESSION, "offset": EXPRESSION},
    "LIMIT_PERCENT_MODIFIER": {"type": SCALAR, "limit": EXPRESSION, "offset": EXPRESSION},
    "ORDER_MODIFIER": {"type": SCALAR, "orders": ORDER},
}

ORDERS: dict[str, Fields] = {"ORDER_DEFAULT": _ORDER, "ASCENDING": _ORDER, "DESCENDING": _ORDER}

#: The details of the types of a cast. A type that the engine knows by a name of its own is resolved by the engine.
TYPE_DETAILS: dict[str, Fields] = {
    "ARRAY_TYPE_INFO": _TYPE | {"child_type": "type", "size": SCALAR},
    "DECIMAL_TYPE_INFO": _TYPE | {"width": SCALAR, "scale": SCALAR},
    "ENUM_TYPE_INFO": _TYPE | {"dict_type": SCALAR, "values_count": SCALAR, "values": SCALAR},
    "GENERIC_TYPE_INFO": _TYPE,
    "LIST_TYPE_INFO": _TYPE | {"child_type": "type"},
    "STRING_TYPE_INFO": _TYPE | {"collation": SCALAR},
    "STRUCT_TYPE_INFO": _TYPE | {"child_types": "named_type"},
    "UNBOUND_TYPE_INFO": _TYPE
    | {"name": SCALAR, "user_type_modifiers": "modifier_value", "child_types": "named_type", "expr": EXPRESSION},
}

TAGS: dict[str, dict[str, Fields]] = {
    EXPRESSION: EXPRESSIONS,
    QUERY: QUERIES,
    RELATION: RELATIONS,
    MODIFIER: MODIFIERS,
    ORDER: ORDERS,
    TYPE_DETAIL: TYPE_DETAILS,
}

#: Nodes without a tag, known by the field that holds them.
RECORDS: dict[str, Fields] = {
    "case_check": {"when_expr": EXPRESSION, "then_expr": EXPRESSION},
    "cte": {"aliases": SCALAR, "query": "statement", "materialized": SCALAR, "key_targets": EXPRESSION},
    "cte_entry": {"key": SCALAR, "value": "cte"},
    "ctes": {"map": "cte_entry"},
    "modifier_value": {"type": "type", "is_null": SCALAR, "value": OPAQUE},
    "named_type": {"first": SCALAR, "second": "type", "key": SCALAR, "value": "type"},
    "pivot": {
        "pivot_expressions": EXPRESSION,
        "unpivot_names": SCALAR,
        "entries": "pivot_entry",
        "pivot_enum": SCALAR,
    },
    "pivot_entry": {"values": "value", "star_expr": EXPRESSION, "alias": SCALAR},
    "qualified_name": {"catalog": SCALAR, "schema": SCALAR, "table": SCALAR, "column": SCALAR},
    "renaming": {"key": "qualified_name", "value": SCALAR},
    "replacement": {"key": SCALAR, "value": EXPRESSION},
    "sample": {"sample_size": "value", "is_percentage": SCALAR, "method": SCALAR, "seed": SCALAR},
    "statement": {"node": QUERY},
    "table_call": EXPRESSIONS["FUNCTION"],
    "type": {"id": SCALAR, "type_info": TYPE_DETAIL},
    "value": {"type": "type", "is_null": SCALAR, "value": OPAQUE},
}

JOIN_SYNTAX = frozenset({"REGULAR", "CROSS", "NATURAL", "ASOF"})

#: How to say what was refused, where the parser's own word would not tell.
PLAIN_WORDS: dict[str, str] = {
    "at_clause": "AT (time travel)",
    "catalog": "a database name before a function",
    "catalog_name": "a database name before a table",
    "named_param_map": "a parameter (? or $1)",
    "PARAMETER": "a parameter (? or $1)",
    "POSITIONAL_REFERENCE": "a positional reference (#1)",
    "RECURSIVE_CTE_NODE": "a recursive CTE",
    "SHOW_REF": "DESCRIBE, SHOW or SUMMARIZE",
    "schema_name": "a schema name before a table",
    "pivot_enum": "PIVOT over an enum",
    "export_state": "EXPORT_STATE",
}

#: What to do instead.
INSTEAD: dict[str, str] = {
    "PARAMETER": "Write the value itself as a literal.",
    "named_param_map": "Write the value itself as a literal.",
    "POSITIONAL_REFERENCE": "Name the column.",
    "RECURSIVE_CTE_NODE": "For a series of numbers or days use FROM range(…) or FROM generate_series(…); unroll a "
    "hierarchy with one join per level.",
    "SHOW_REF": "Use the tools `schema` and `describe` for a table's columns and profile.",
    "catalog_name": "Write the table's id alone, as the catalog gives it.",
    "schema_name": "Write the table's id alone, as the catalog gives it.",
    "catalog": "Write the function's name alone.",
}
