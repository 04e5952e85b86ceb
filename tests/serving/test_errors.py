"""Errors fit the output schema of their tool: clients that check it show nothing of one that does not."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from serving.served import ERAS, Era
from support.instances import settings_of

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server

jsonschema = importlib.import_module("jsonschema")


@pytest.mark.parametrize("era", ERAS)
async def test_an_error_fits_and_half_an_answer_does_not(
    tmp_path: Path, tables: list[dict[str, Any]], era: Era
) -> None:
    gateway = Gateway(settings_of(tmp_path / "data", tables))
    async with gateway, Client(build_server(gateway), mode=era) as client:
        for tool in (await client.list_tools()).tools:
            refused = await client.call_tool(tool.name, {"no_such_argument": 1})
            assert refused.is_error
            assert refused.structured_content is not None
            check = jsonschema.Draft202012Validator(tool.output_schema)
            assert check.is_valid(refused.structured_content), tool.name
            assert tool.output_schema is not None
            assert tool.output_schema["type"] == "object"
            assert tool.output_schema["properties"]
            wrong = {"error": 1, **dict.fromkeys(("message", "hint", "request_id", "details"), "")}
            if tool.output_schema["anyOf"][0]["required"]:
                assert not check.is_valid({})
                assert not check.is_valid(wrong)
