"""What a client is told by the real server: tools, resources, prompts."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import anyio
from mcp import Client
from mcp.types import Prompt, Resource, ResourceTemplate, Tool

from agnes_mcp.config.settings import Settings
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server

from .markdown import code, table
from .shapes import Schema, references, spell_default, spell_type


class Offer(NamedTuple):
    tools: list[Tool]
    resources: list[Resource]
    templates: list[ResourceTemplate]
    prompts: list[Prompt]


@lru_cache(maxsize=1)
def offer() -> Offer:
    return anyio.run(_ask)


async def _ask() -> Offer:
    with tempfile.TemporaryDirectory() as folder:
        async with Gateway(Settings(data_dir=Path(folder))) as gateway, Client(build_server(gateway)) as client:
            return Offer(
                (await client.list_tools()).tools,
                (await client.list_resources()).resources,
                (await client.list_resource_templates()).resource_templates,
                (await client.list_prompts()).prompts,
            )


def tools() -> str:
    return "\n\n".join(_tool(tool) for tool in offer().tools)


def _tool(tool: Tool) -> str:
    output: Schema = tool.output_schema or {}
    parts = [f"## {tool.name}", f"**{tool.title}.** {_hints(tool)}", " ".join((tool.description or "").split())]
    if tool.input_schema.get("properties"):
        parts.append(_arguments(tool.input_schema))
    else:
        parts.append("No arguments.")
    return "\n\n".join([*parts, "Answer:", _fields(output)])


def _hints(tool: Tool) -> str:
    told = tool.annotations
    if told is None:
        return ""
    marks = {
        "read-only": told.read_only_hint,
        "destructive": told.destructive_hint,
        "idempotent": told.idempotent_hint,
        "open world": told.open_world_hint,
    }
    return ", ".join(name if marked else f"not {name}" for name, marked in marks.items()).capitalize() + "."


def _arguments(schema: Schema) -> str:
    rows = [
        (code(name), spell_type(field, _link), spell_default(name, schema), field.get("description", ""))
        for name, field in schema["properties"].items()
    ]
    return table(("argument", "type", "default", "meaning"), rows)


def _fields(schema: Schema) -> str:
    rows = [
        (code(name), spell_type(field, _link), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return table(("field", "type", "meaning"), rows)


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def shapes() -> str:
    """Every object that arguments and answers speak of, once."""
    known: dict[str, Schema] = {}
    wanted: list[str] = []
    for tool in offer().tools:
        for schema in (tool.input_schema, tool.output_schema or {}):
            known.update(schema.get("$defs", {}))
            wanted += references(schema)
    shown: dict[str, Schema] = {}
    while wanted:
        name = wanted.pop(0)
        if name not in shown:
            shown[name] = known[name]
            wanted += references(known[name])
    return "\n\n".join(
        "\n\n".join(part for part in (f"### {name}", _first_line(schema), _fields(schema)) if part)
        for name, schema in sorted(shown.items())
    )


def _first_line(schema: Schema) -> str:
    return str(schema.get("description", "")).split("\n\n", 1)[0]


def resources() -> str:
    told = offer()
    fixed = [(code(str(r.uri)), r.mime_type or "", r.description or "") for r in told.resources]
    by_name = [(code(t.uri_template), t.mime_type or "", t.description or "") for t in told.templates]
    return table(("address", "type", "content"), [*fixed, *by_name])


def prompts() -> str:
    rows: list[tuple[str, str, str]] = []
    for prompt in offer().prompts:
        arguments = [code(a.name) if a.required else f"{code(a.name)} (optional)" for a in prompt.arguments or []]
        rows.append((code(prompt.name), ", ".join(arguments), prompt.description or ""))
    return table(("prompt", "arguments", "for"), rows)
