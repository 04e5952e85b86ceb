"""JSON schemas as short as a model needs them: the list of tools is in every conversation.

Left out is what is repeated (titles made of names, a definition met before), what hosts' converters fail on
(`additionalProperties`, `$ref`), what is checked anyway (lengths, lower bounds), and null where it only means that
nothing is given or known. That unknown arguments are refused does not depend on what is listed.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_DROPPED = frozenset({"title", "additionalProperties", "maxLength", "minLength", "minimum", "maxItems", "$defs"})


def terse(schema: Schema) -> Schema:
    """The schema of an object, made short; its own description, which the tool's repeats, left out."""
    return {"type": "object", **_Shortening(schema.get("$defs", {})).object(schema)}


class _Shortening:
    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions
        self._met: set[str] = set()

    def object(self, schema: Schema) -> Schema:
        required = schema.get("required", [])
        properties = {
            name: self._part(part, nullable=name in required) for name, part in schema.get("properties", {}).items()
        }
        short: Schema = {"type": "object", "properties": properties}
        return {**short, "required": required} if required else short

    def _part(self, part: Schema, *, nullable: bool = False) -> Schema:
        short = {key: value for key, value in part.items() if key not in _DROPPED and _is_telling(key, value)}
        if "$ref" in short:
            return {**self._definition(short.pop("$ref")), **short}
        if "anyOf" in short:
            return {**self._any_of(short.pop("anyOf"), nullable), **short}
        if isinstance(short.get("items"), dict):
            short["items"] = self._part(short["items"])
        return {**self.object(part), **short} if "properties" in short else short

    def _any_of(self, kinds: list[Schema], nullable: bool) -> Schema:
        given = [self._part(kind) for kind in kinds if kind != {"type": "null"}]
        if len(given) > 1:
            return {"anyOf": given}
        null = nullable and len(given) < len(kinds)
        return {**given[0], "type": [given[0]["type"], "null"]} if null and "type" in given[0] else given[0]

    def _definition(self, reference: str) -> Schema:
        """Whole where it is first met; afterwards, and inside itself, as some object."""
        name = reference.rpartition("/")[2]
        if name in self._met:
            return {"type": "object"}
        self._met.add(name)
        found = self._definitions[name]
        return self.object(found) if "properties" in found else self._part(found)


def _is_telling(key: str, value: Any) -> bool:
    """Whether it tells more than that a thing may be left out."""
    return key != "default" or (isinstance(value, int | float) and value is not False)
