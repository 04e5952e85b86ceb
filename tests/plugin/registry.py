"""What the registry of MCP servers takes, of its schema of 2025-12-11 and of what it looks at when one is published.

No package brings that schema, so its rules are stated here: each is a sentence of it, none of its text is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft7Validator, FormatChecker  # type: ignore[import-untyped]

SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _text(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def _one_of(*values: str) -> dict[str, Any]:
    return _text(enum=[*values])


FLAG = {"type": "boolean"}
URI = _text(format="uri")
#: What whoever installs the server may be asked for, or is given.
INPUT = _object(
    description=_text(), value=_text(), default=_text(), placeholder=_text(), choices=_list(_text()), isRequired=FLAG,
    isSecret=FLAG, format=_one_of("string", "number", "boolean", "filepath"),
)  # fmt: skip
#: One that may be put together of others.
COMPOSED = {"allOf": [INPUT, _object(variables={"type": "object", "additionalProperties": INPUT})]}
NAMED_INPUT = {"allOf": [COMPOSED, _object("name", name=_text())]}
POSITION = {
    "allOf": [
        COMPOSED,
        _object("type", type=_one_of("positional"), valueHint=_text(), isRepeated=FLAG),
        {"anyOf": [{"required": ["value"]}, {"required": ["valueHint"]}]},
    ]
}
OPTION = {"allOf": [COMPOSED, _object("type name", type=_one_of("named"), name=_text(), isRepeated=FLAG)]}
ARGUMENTS = _list({"anyOf": [POSITION, OPTION]})
OVER_HTTP = [
    _object("type url", type=_one_of(kind), url=_text(pattern=r"^https?://[^\s]+$"), headers=_list(NAMED_INPUT))
    for kind in ("streamable-http", "sse")
]
PACKAGE = _object(
    "registryType identifier transport",
    registryType=_text(), registryBaseUrl=URI, identifier=_text(), runtimeHint=_text(),
    version=_text(minLength=1, **{"not": {"const": "latest"}}), fileSha256=_text(pattern="^[a-f0-9]{64}$"),
    transport={"anyOf": [_object("type", type=_one_of("stdio")), *OVER_HTTP]},
    runtimeArguments=ARGUMENTS, packageArguments=ARGUMENTS, environmentVariables=_list(NAMED_INPUT),
)  # fmt: skip
ICON = _object(
    "src", src=_text(format="uri", maxLength=255), theme=_one_of("light", "dark"),
    sizes=_list(_text(pattern=r"^(\d+x\d+|any)$")),
    mimeType=_one_of("image/png", "image/jpeg", "image/jpg", "image/svg+xml", "image/webp"),
)  # fmt: skip
REMOTE = {"allOf": [{"anyOf": OVER_HTTP}, _object(variables={"type": "object", "additionalProperties": INPUT})]}
ENTRY = _object(
    "name description version",
    **{"$schema": URI, "_meta": {"type": "object"}},
    name=_text(minLength=3, maxLength=200, pattern="^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"),
    title=_text(minLength=1, maxLength=100), description=_text(minLength=1, maxLength=100),
    version=_text(maxLength=255), websiteUrl=URI, icons=_list(ICON), packages=_list(PACKAGE), remotes=_list(REMOTE),
    repository=_object("url source", url=URI, source=_text(), id=_text(), subfolder=_text()),
)  # fmt: skip

#: Each half of a name begins and ends with a letter or a digit.
_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])/[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])")
#: A range of versions, or one with a place left open.
_RANGE = re.compile(r"[\^~<>=|*\s]|(^|\.)[xX](\.|$)")


def complaints(entry: dict[str, Any]) -> list[str]:
    """What the registry would refuse it for."""
    validator = Draft7Validator(ENTRY, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(entry)] or [*_published(entry)]


def _published(entry: dict[str, Any]) -> Iterator[str]:
    """What no schema says."""
    if entry.get("$schema") != SCHEMA:
        yield "$schema: not the one that is published now"
    if not _NAME.fullmatch(entry["name"]):
        yield "name: a half begins or ends with a mark"
    if not entry.get("title", "x").strip():
        yield "title: blank"
    for version in [entry["version"], *(package.get("version", "1") for package in entry.get("packages", []))]:
        if version == "latest" or _RANGE.search(version):
            yield f"version: {version} is not one version"
    for package in entry.get("packages", []):
        yield from _package(package)


def _package(package: dict[str, Any]) -> Iterator[str]:
    if re.search(r"\s", package["identifier"]):
        yield "identifier: has a space"
    if package["transport"]["type"] == "stdio" and package["transport"].get("url"):
        yield "transport: stdio has no address"
    for argument in [*package.get("packageArguments", []), *package.get("runtimeArguments", [])]:
        name = argument.get("name", "")
        if argument["type"] == "named" and (re.search(r"[<>$ ]", name) or not name):
            yield f"argument: {name!r} is no flag"
