"""`chart` as a client gets it: words, a picture, the specification as a resource; within what is listed and sent."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from mcp.types import ImageContent, ResourceLink, TextContent
from support.instances import ERAS, body_of, connected

from agnes_mcp.gateway import Gateway

pytestmark = [pytest.mark.parametrize("mode", ERAS)]
MAX_LISTED_CHARS = 1_200
#: A host takes a million characters for a whole answer.
MAX_SENT_CHARS = 1_000_000
BAR = {"mark": "bar", "x": "country", "y": "sum(amount)", "sql": "SELECT country, amount FROM orders"}


async def test_its_listing_is_short(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode) as client:
        tool = next(tool for tool in (await client.list_tools()).tools if tool.name == "chart")
    listed = {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
    assert len(json.dumps(listed, separators=(",", ":"))) <= MAX_LISTED_CHARS


async def test_words_picture_and_specification_come_together(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode) as client:
        result = await client.call_tool("chart", {**BAR, "title": "Příjmy"})
        words, picture, link = result.content
        assert isinstance(words, TextContent)
        assert isinstance(picture, ImageContent)
        assert isinstance(link, ResourceLink)
        body = body_of(result)
        assert body["title"] == "Příjmy"
        assert body["marks"] == 3
        assert "highest" in " ".join(body["words"])
        assert (picture.mime_type, base64.b64decode(picture.data)[:4]) == ("image/png", b"\x89PNG")
        assert picture.meta == {"alt": "Bar chart: Příjmy, 3 marks."} == {"alt": link.description}
        assert len(result.model_dump_json(by_alias=True)) < MAX_SENT_CHARS
        (kept,) = (await client.read_resource(str(link.uri))).contents
        spec = json.loads(kept.text)  # type: ignore[union-attr]
        assert spec["title"]["text"] == ["Příjmy"]
        assert str(link.uri) == body["spec"]


async def test_a_wrong_column_is_an_error_that_names_them(gateway: Gateway, mode: Any) -> None:
    async with connected(gateway, mode) as client:
        result = await client.call_tool("chart", {**BAR, "x": "countri"})
    assert result.is_error
    body = body_of(result)
    assert body["error"] == "unknown_column"
    assert "Did you mean country?" in body["hint"]


async def test_a_chart_that_there_is_not_is_an_error(gateway: Gateway, mode: Any) -> None:
    from mcp.shared.exceptions import MCPError

    async with connected(gateway, mode) as client:
        with pytest.raises(MCPError, match="no such chart"):
            await client.read_resource("agnes://charts/0000000000000000")
