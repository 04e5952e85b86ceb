"""Tables of functions: each line a signature and the DuckDB text that answers it.

    LEFT(STRING, INT64) STRING = left({0}, {1})

`T`, `U` stand for any type and are the same wherever they stand; `N` is a number. `…*` is any number of arguments, at
least one, which `{*}` writes with commas. A template that says `bq_…` uses a macro of the store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.function_tables import TABLES
from agnes_mcp.stand_in.googlesql.macros import RAISING, safe_text
from agnes_mcp.stand_in.googlesql.values import Value, coerced, made, no_signature, unsupported

#: Functions that treat a collated text as any other; the rest would have to compare by it.
_BLIND_TO_COLLATION = frozenset({"LOWER", "UPPER", "LENGTH", "CHAR_LENGTH", "BYTE_LENGTH", "COALESCE", "IFNULL"})
#: Those that look for one text in another, and so compare as its collation does.
_COMPARING = frozenset({"STARTS_WITH", "ENDS_WITH", "STRPOS", "INSTR"})
_LINE = re.compile(r"(?P<name>[\w.]+)\((?P<arguments>.*?)\) (?P<answer>[\w<>]+) = (?P<template>.+)")
_HOLE = re.compile(r"\{(\d+|\*|\|\|)\}")


@dataclass(frozen=True)
class Signature:
    arguments: tuple[str, ...]
    answer: str
    template: str

    @property
    def variadic(self) -> bool:
        return bool(self.arguments) and self.arguments[-1].endswith("*")

    def spread(self, count: int) -> tuple[str, ...] | None:
        """The argument types for `count` arguments; None where it does not take so many."""
        if not self.variadic:
            return self.arguments if len(self.arguments) == count else None
        fixed = self.arguments[:-1]
        more = count - len(fixed)
        return (*fixed, *[self.arguments[-1][:-1]] * more) if more >= 1 else None


@cache
def signatures() -> dict[str, tuple[Signature, ...]]:
    found: dict[str, list[Signature]] = {}
    for line in re.sub(r"\n +", " ", "\n".join(TABLES)).splitlines():
        parsed = _LINE.fullmatch(line.strip())
        if parsed is None:
            continue
        arguments = tuple(part.strip() for part in parsed["arguments"].split(",") if part.strip())
        signature = Signature(arguments, parsed["answer"], parsed["template"])
        found.setdefault(parsed["name"], []).append(signature)
    return {name: tuple(listed) for name, listed in found.items()}


@dataclass
class _Match:
    cost: int
    signature: Signature
    types: list[t.Type]
    answer: t.Type


def apply(name: str, values: Sequence[Value], safe: bool = False) -> Value:
    """The call of the listed function `name`. Raises where no signature takes these types."""
    matches = [match for match in (_match(s, values) for s in signatures()[name]) if match is not None]
    if not matches:
        raise no_signature(f"function {name}", values)
    best = min(matches, key=lambda match: match.cost)
    collated = any(value.type.collation for value in values)
    if collated and name == "REPLACE":
        return _replaced(*values)
    if collated and name not in _BLIND_TO_COLLATION | _COMPARING:
        raise unsupported(f"{name} of a collated text")
    taken = [coerced(value, kind) for value, kind in zip(values, best.types, strict=True)]
    if collated and name in _COMPARING:
        taken = [replace(v, sql=f"lower({v.sql})") if v.kind == "STRING" else v for v in taken]
    template = best.signature.template
    if safe:
        template = f"TRY({safe_text(template, RAISING)})"
    sql = _HOLE.sub(lambda hole: _filling(hole[1], [value.sql for value in taken]), template)
    return made(f"({sql})" if " " in sql else sql, best.answer, *taken)


def _replaced(subject: Value, sought: Value, given: Value) -> Value:
    """REPLACE of text whose case does not count; what is put in stands as it is."""
    pattern, literal = f"regexp_escape({sought.sql})", f"replace({given.sql}, '\\', '\\\\')"
    inside = f"regexp_replace({subject.sql}, {pattern}, {literal}, 'gi')"
    sql = f"CASE WHEN {sought.sql} = '' THEN {subject.sql} ELSE {inside} END"
    return made(f"({sql})", t.Type("STRING", collation="und:ci"), subject, sought, given)


def _filling(hole: str, texts: Sequence[str]) -> str:
    if hole.isdigit():
        return texts[int(hole)]
    return {"*": ", ", "||": " || "}[hole].join(texts)


def _match(signature: Signature, values: Sequence[Value]) -> _Match | None:
    wanted = signature.spread(len(values))
    if wanted is None:
        return None
    bound: dict[str, t.Type] = {}
    for letter in ("T", "U", "N"):
        held = [_held(value, pattern, letter) for value, pattern in zip(values, wanted, strict=True)]
        kinds = [kind for kind in held if kind is not None]
        if kinds:
            unified = t.supertype(kinds)
            if unified is None or (letter == "N" and unified.kind not in (*t.NUMBERS, "NULL")):
                return None
            bound[letter] = t.INT64 if letter == "N" and unified.kind == "NULL" else unified
    types = [_named(pattern, bound) for pattern in wanted]
    costs = [t.coercion_cost(v.type, kind, v.literal) for v, kind in zip(values, types, strict=True)]
    if None in costs:
        return None
    return _Match(sum(cost or 0 for cost in costs), signature, types, _named(signature.answer, bound))


def _held(value: Value, pattern: str, letter: str) -> tuple[t.Type, str] | None:
    """What `value` says of the type that `letter` stands for."""
    if pattern == letter:
        return value.type, value.literal
    if pattern == f"ARRAY<{letter}>" and value.kind == "ARRAY":
        return value.type.of, value.literal
    return None


def _named(pattern: str, bound: dict[str, t.Type]) -> t.Type:
    if pattern in bound:
        return bound[pattern]
    if pattern.startswith("ARRAY<"):
        return t.array_of(_named(pattern[6:-1], bound))
    return t.NULL if pattern in ("T", "U", "N") else t.Type(pattern)
