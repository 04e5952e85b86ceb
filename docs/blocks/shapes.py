"""JSON schemas in words: what an argument takes, what a field holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .markdown import code, literal, words

Schema = dict[str, Any]
_WORDS = {"string": "text", "boolean": "true or false", "null": "null", "object": "object"}


def spell_type(schema: Schema, link: Callable[[str], str] = code) -> str:
    """`integer ≥ 1, or null`; `link` turns the name of a shape into what is shown of it."""
    if "anyOf" in schema:
        return ", or ".join(spell_type(option, link) for option in schema["anyOf"])
    if "$ref" in schema:
        return link(schema["$ref"].rsplit("/", 1)[1])
    if "enum" in schema or "const" in schema:
        return words(schema.get("enum") or [schema["const"]])
    if schema.get("type") == "array":
        return f"list of {spell_type(schema['items'], link)}" if schema.get("items") else "list"
    if schema.get("format") == "date-time":
        return "time"
    kind = str(schema.get("type", "any value"))
    return str(_WORDS.get(kind, kind)) + _spell_bounds(schema)


def _spell_bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f" {low:,} to {high:,}"
    if low is not None:
        return f" ≥ {low:,}"
    if "exclusiveMinimum" in schema:
        return f" > {schema['exclusiveMinimum']:,}"
    return ""


def spell_default(name: str, schema: Schema) -> str:
    """The default of a field of an object: `needed` where there is none, nothing where it means "not given"."""
    field = schema["properties"][name]
    if name in schema.get("required", ()):
        return "needed"
    return "" if field.get("default") in (None, "", [], {}) else literal(field["default"])


def references(schema: Any) -> list[str]:
    """The names of the shapes that a schema speaks of, in order of mention, without those they speak of."""
    if isinstance(schema, dict):
        own = [schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else []
        return own + [name for key, value in schema.items() if key != "$defs" for name in references(value)]
    return [name for value in schema for name in references(value)] if isinstance(schema, list) else []
