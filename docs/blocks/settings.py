"""Every key of `instance.yaml`, with its environment variable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from agnes_mcp.config.loading import OTHER_VARIABLES
from agnes_mcp.config.settings import schema_of_settings

from .markdown import code, literal, table
from .shapes import Schema, spell_type

_INTRODUCED = {
    "": "The whole instance",
    "tables[]": "Entries of `tables`",
    "access.groups[]": "Entries of `access.groups`",
    "access.users[]": "Entries of `access.users`",
}


_LISTS = {
    "tables": "The tables that are served.",
    "access.groups": "Users who share tables, and perhaps a budget.",
    "access.users": "Who may call over HTTP.",
}


class Key(NamedTuple):
    """One key: `variable` is "" inside a list, whose entries have none of their own."""

    path: str
    variable: str
    schema: Schema
    needed: bool
    section: str  # what the section says of itself


def keys() -> list[Key]:
    """Every key that holds a value, in the order of the model."""
    schema = schema_of_settings()
    return list(_walk(schema, schema["$defs"], ""))


def _walk(section: Schema, shapes: dict[str, Schema], prefix: str) -> Iterator[Key]:
    for name, field in section["properties"].items():
        path = f"{prefix}.{name}".lstrip(".")
        inner, is_list = _section_of(field, shapes)
        if inner is None or is_list:
            said = "" if not prefix else str(section.get("description", ""))
            yield Key(path, _variable(path), field, name in section.get("required", ()), said)
        if inner is not None:
            yield from _walk(inner, shapes, f"{path}[]" if is_list else path)


def _section_of(field: Schema, shapes: dict[str, Schema]) -> tuple[Schema | None, bool]:
    """The section that a field holds, or the one that its entries are."""
    if field.get("type") == "array":
        inner, _ = _section_of(field["items"], shapes)
        return inner, inner is not None
    reference = field.get("$ref") or next((o["$ref"] for o in field.get("anyOf", ()) if "$ref" in o), None)
    return (shapes[reference.rsplit("/", 1)[1]] if reference else None), False


def _variable(path: str) -> str:
    return "" if "[]" in path else "AGNES_" + path.upper().replace(".", "__")


def settings() -> str:
    """One table for each section."""
    sections: dict[str, list[Key]] = {}
    for key in keys():
        sections.setdefault(key.path.rpartition(".")[0], []).append(key)
    return "\n\n".join(
        "\n\n".join(part for part in (f"## {_heading(name)}", entries[0].section, _table(entries)) if part)
        for name, entries in sections.items()
    )


def _heading(section: str) -> str:
    return _INTRODUCED.get(section) or code(section)


def _table(entries: list[Key]) -> str:
    rows = [
        (_name(key), _type(key.schema), "needed" if key.needed else _default(key.path, key.schema), _meaning(key))
        for key in entries
    ]
    return table(("key, environment variable", "type", "default", "meaning"), rows)


def _name(key: Key) -> str:
    return code(key.path) + (f"<br>{code(key.variable)}" if key.variable else "")


def _type(schema: Schema) -> str:
    options = [option for option in schema.get("anyOf", [schema]) if option.get("const") != ""]
    return spell_type({"anyOf": options}, lambda name: "sections, below").removesuffix(", or null")


def _default(path: str, schema: Schema) -> str:
    value: Any = schema.get("default")
    if value in (None, "", []):
        return "not set"
    if isinstance(value, int) and not isinstance(value, bool) and "bytes" in path and value % 2**20 == 0:
        return f"{literal(value)} ({value // 2**30} GiB)" if value % 2**30 == 0 else f"{literal(value)} (1 MiB)"
    return code(value) if isinstance(value, str) else literal(value)


def _meaning(key: Key) -> str:
    described = str(key.schema.get("description", ""))
    return described or _LISTS[key.path]


def other_variables() -> str:
    """Environment variables that are no settings."""
    meanings = {
        "AGNES_CONFIG": "The instance file, where `--config` does not name one.",
        "AGNES_BIGQUERY_EXTENSION": "A local file of DuckDB's `bigquery` extension, instead of the one that is "
        "downloaded. Such a file is not signed: what loads it then loads unsigned ones.",
        "AGNES_REMOTE_ATTACH_EXTENSIONS": "DuckDB extensions with which an extract may be attached, with commas "
        "between; instead of `bigquery,keboola`.",
        "AGNES_REMOTE_ATTACH_TOKEN_ENVS": "Variables from which an extract's token may come, with commas between; "
        "instead of `KBC_TOKEN`, `KBC_STORAGE_TOKEN`, `KEBOOLA_STORAGE_TOKEN` and `GOOGLE_APPLICATION_CREDENTIALS`.",
        "AGNES_TOKEN": "The token of the server that `agnes-mcp sync` mirrors.",
    }
    return table(("variable", "meaning"), [(code(name), meanings[name]) for name in OTHER_VARIABLES])
