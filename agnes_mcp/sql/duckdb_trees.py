"""A statement as DuckDB's parser sees it, in the one form that is read here, whichever line of DuckDB parsed it.

The form is that of `json_serialize_sql` in DuckDB 1.5. DuckDB 2.0 writes the same statement with other fields, and each
is turned into the older one only where it says nothing else. A field that says more, or that nobody here has met, is
left as it stands, so a reader that knows its fields by name refuses it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agnes_mcp.sql.duckdb_lines import writes_new_trees
from agnes_mcp.sql.names import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Node = dict[str, Any]

#: Fields that only DuckDB 2.0 writes, with the only values that say nothing which 1.5 does not say; by the tag.
_SILENT: dict[str, dict[str, tuple[Any, ...]]] = {
    "FUNCTION": {"is_legacy_function_call": (False,)},
    "JOIN": {
        "is_implicit": (True, False),  # whether a comma stood for CROSS JOIN
        "ranking_expression": (None,),
        "nearest_count": (1,),
        "nearest_order_type": ("ASCENDING",),
        "nearest_approx": (False,),
    },
    "LAMBDA": {"syntax_type": ("SINGLE_ARROW", "LAMBDA_KEYWORD")},
    "WINDOW": {"is_legacy_function_call": (False,), "has_ignore_nulls": (True, False)},
}
#: The fields of 1.5 that spell out what `qualified_name` holds as a path, by the tag.
_NAMED: dict[str, tuple[str, str, str]] = {
    "BASE_TABLE": ("catalog_name", "schema_name", "table_name"),
    "FUNCTION": ("catalog", "schema", "function_name"),
    "TYPE": ("catalog", "schema", "type_name"),
    "WINDOW": ("catalog", "schema", "function_name"),
}


def parsed(connection: DuckDBPyConnection, sql: str, *, positions: bool = True) -> Node:
    """What DuckDB's parser makes of a text; it binds nothing and runs nothing.

    `error` says whether it failed, with `error_type`, `error_message` and mostly `position`; else `statements` holds
    each statement's tree under `node`. Without `positions` no part says where in the text it stood. Raises
    RecursionError for a text that is nested too deeply.
    """
    return all_parsed(connection, sql, positions=positions)[0]


def all_parsed(connection: DuckDBPyConnection, *texts: str, positions: bool = True) -> list[Node]:
    """The same of several texts, each on its own, in one statement.

    As literals: for each text handed over as a parameter, DuckDB looks for pandas twice, and where there is none that
    takes longer than to parse it. A text with a NUL, which no literal holds, is a parameter all the same.
    """
    given = [text for text in texts if "\0" in text]
    calls = ", ".join(f"json_serialize_sql({'?::VARCHAR' if text in given else literal(text)})" for text in texts)
    row = connection.execute(f"SELECT {calls}", given or None).fetchone()
    documents: list[Node] = [json.loads(tree, object_hook=None if positions else _unplaced) for tree in row or ()]
    return [one_form(document) for document in documents] if writes_new_trees() else documents


def _unplaced(node: Node) -> Node:
    node.pop("query_location", None)
    return node


def one_form(tree: Any) -> Any:
    """A tree of DuckDB 2.0, or a part of it, as DuckDB 1.5 would have written it; changed in place, at any depth."""
    parts = [tree]
    for part in parts:
        inner = part if isinstance(part, list) else part.values() if isinstance(part, dict) else ()
        parts += [one for one in inner if isinstance(one, dict | list)]
    for part in reversed(parts):  # what is inside comes first
        if isinstance(part, dict):
            _change(part)
    return tree


def _change(node: Node) -> None:
    node.pop("query_location_length", None)
    tag = str(node.get("class") or node.get("type"))
    _drop_silent(node, _SILENT.get(tag, {}))
    if tag in _NAMED:
        _drop_path(node, _NAMED[tag])
    change = _CHANGES.get(tag)
    if change is not None:
        change(node)
    elif "query_node" in node and "materialized" in node:
        _change_cte(node)
    elif "sample_size" in node:
        _drop_silent(node, {"repeatable": (True, False), "sample_rate": (-1.0,)})


def _drop_silent(node: Node, fields: dict[str, tuple[Any, ...]]) -> None:
    for name, values in fields.items():
        if name in node and any(node[name] == value and type(node[name]) is type(value) for value in values):
            del node[name]


def _drop_path(node: Node, names: tuple[str, str, str]) -> None:
    """`qualified_name`, where it says what the three fields say."""
    if node.get("qualified_name") == {"path": [node[name] for name in names if node.get(name)]}:
        del node["qualified_name"]


def _change_call(node: Node) -> None:
    """`arguments`, each with a name beside it, are `children`, each with its name as an alias."""
    arguments = node.get("arguments")
    if "children" in node or not isinstance(arguments, list):
        return
    if all(_is_argument(one) for one in arguments):
        del node["arguments"]
        node["children"] = [one["expression"] | ({"alias": one["name"]} if one["name"] else {}) for one in arguments]
        _change_if(node)


def _change_if(node: Node) -> None:
    """if(a, b, c), which 1.5 writes as CASE."""
    plain: Node = {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "schema": "",
        "catalog": "",
        "filter": None,
        "distinct": False,
    }
    plain |= {"order_bys": {"type": "ORDER_MODIFIER", "orders": []}, "is_operator": False, "export_state": False}
    rest = {key: value for key, value in node.items() if key not in _OF_CASE}
    if str(node.get("function_name")).lower() == "if" and rest == plain and len(node["children"]) == 3:
        condition, then, otherwise = node["children"]
        for key in rest | {"function_name": "", "children": ""}:
            del node[key]
        node |= {"class": "CASE", "type": "CASE_EXPR", "else_expr": otherwise}
        node["case_checks"] = [{"when_expr": condition, "then_expr": then}]


_OF_CASE = {"alias", "query_location", "function_name", "children"}


def _is_argument(one: Any) -> bool:
    if not isinstance(one, dict) or one.keys() != {"name", "expression"} or not isinstance(one["expression"], dict):
        return False
    return not one["name"] or one["expression"].get("alias") in ("", one["name"])


def _change_constant(node: Node) -> None:
    literal = node.get("literal")
    if "value" in node or not isinstance(literal, dict) or literal.keys() != {"kind", "text"}:
        return
    read = _LITERALS.get(literal["kind"])
    if read is not None:
        del node["literal"]
        node["value"] = read(str(literal["text"]))


def _number(kind: str, read: Callable[[str], float], text: str) -> Node:
    """A number; of more digits than Python reads, or with an underscore where it has none, its text."""
    try:
        return _value(kind, read(text))
    except ValueError:
        return _value(kind, text)


def _value(kind: str, value: Any) -> Node:
    return {"type": {"id": kind, "type_info": None}, "is_null": value is None, "value": value}


#: The kinds of literals of 2.0, each as the constant that it is.
_LITERALS: dict[str, Callable[[str], Node]] = {
    "BIT": lambda text: _value("BIT", text),
    "BOOLEAN": lambda text: _value("BOOLEAN", text == "true"),
    "HEX": lambda text: _value("BLOB", text),
    "INTEGER": lambda text: _number("INTEGER", int, text),
    "NULL_LITERAL": lambda text: _value("NULL", None),
    "NUMERIC": lambda text: _number("DOUBLE", float, text),
    "STRING": lambda text: _value("VARCHAR", text),
}


def _change_cast(node: Node) -> None:
    kind = _kind(node.get("type_expr"))
    if kind is not None and "cast_type" not in node:
        del node["type_expr"]
        node["cast_type"] = kind


def _kind(tree: Any) -> Node | None:
    """A type, which 2.0 writes as an expression; None for one that is not made of names and constants alone."""
    if not isinstance(tree, dict) or tree.get("class") != "TYPE" or not tree.keys() <= _TYPE_FIELDS:
        return None
    if not tree["children"] and not tree["schema"] and not tree["catalog"]:
        return {"id": tree["type_name"], "type_info": None}
    details: Node = {"type": "UNBOUND_TYPE_INFO", "alias": "", "name": tree["type_name"]}
    details |= {"catalog": tree["catalog"], "schema": tree["schema"], "user_type_modifiers": [], "child_types": []}
    for child in tree["children"]:
        inner = _kind(child)
        if inner is not None:
            details["child_types"].append({"first": child["alias"], "second": inner})
        elif (
            child.get("class") == "CONSTANT"
            and child.keys() - {"query_location"} == _CONSTANT_FIELDS
            and not child["alias"]
        ):
            details["user_type_modifiers"].append(child["value"])
        else:
            return None
    return {"id": "UNBOUND", "type_info": details}


_CONSTANT_FIELDS = {"class", "type", "alias", "value"}
_TYPE_FIELDS = {"class", "type", "alias", "query_location", "catalog", "schema", "type_name", "children"}


def _change_limit(node: Node) -> None:
    tag = {"ROW_COUNT": "LIMIT_MODIFIER", "PERCENTAGE": "LIMIT_PERCENT_MODIFIER"}.get(str(node.get("limit_type")))
    if tag is not None:
        del node["limit_type"]
        node["type"] = tag


def _change_cte(node: Node) -> None:
    if "query" not in node:
        node["query"] = {"node": node.pop("query_node"), "named_param_map": []}


_CHANGES: dict[str, Callable[[Node], None]] = {
    "CAST": _change_cast,
    "CONSTANT": _change_constant,
    "FUNCTION": _change_call,
    "LIMIT_MODIFIER": _change_limit,
    "WINDOW": _change_call,
}
