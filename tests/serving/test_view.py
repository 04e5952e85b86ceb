"""The view in a real Chromium, in the sandbox and under the policy of hosts, with a host that speaks its protocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp.types as t
import pytest
from mcp import Client
from mcp.client import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from playwright.async_api import Frame, Page
from support.browser import chromium, pages
from support.instances import ME, connected

from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.strict_tools import VIEW_URI

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(180)]
#: What hosts allow a view that asks for nothing.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'none'"
#: A host: an iframe of its own origin, the handshake, and a log of what the view sends.
HOST = """<!doctype html><meta charset=utf-8>
<iframe id=view sandbox="allow-scripts" src="/view" width=900 height=700></iframe>
<script>
const view = document.getElementById("view"), capabilities = %s;
window.log = []; window.ready = false;
const send = message => view.contentWindow.postMessage({jsonrpc: "2.0", ...message}, "*");
window.give = (args, result) => {
  send({method: "ui/notifications/tool-input", params: {arguments: args}});
  send({method: "ui/notifications/tool-result", params: result});
};
window.addEventListener("message", event => {
  if (event.source !== view.contentWindow) return;
  const {id, method, params} = event.data;
  log.push({method, params});
  if (method === "ui/initialize")
    send({id, result: {protocolVersion: "2026-01-26", hostInfo: {name: "test", version: "1"},
                       hostCapabilities: capabilities, hostContext: {}}});
  else if (method === "ui/notifications/initialized") ready = true;
  else if (id !== undefined) send({id, result: {}});
});
</script>"""
CHART = {"mark": "bar", "x": "country", "y": "sum(amount)", "sql": "SELECT country, amount FROM orders"}


@asynccontextmanager
async def with_apps(gateway: Gateway) -> AsyncIterator[Client]:
    """A client of a host that has MCP Apps."""
    async with connected(
        gateway, "auto", extensions=[advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]
    ) as client:
        yield client


async def view_of(client: Client) -> str:
    (content,) = (await client.read_resource(VIEW_URI)).contents
    assert isinstance(content, t.TextResourceContents)
    assert content.mime_type == APP_MIME_TYPE
    return content.text


def as_sent(result: t.CallToolResult) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


class Shown:
    """A view in its host. `requests` are those that left the page, `errors` what its console said."""

    def __init__(self, page: Page) -> None:
        self.page, self.requests, self.errors = page, list[str](), list[str]()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    @property
    def frame(self) -> Frame:
        (frame,) = self.page.main_frame.child_frames
        return frame

    async def give(self, arguments: dict[str, Any], result: dict[str, Any]) -> None:
        await self.page.evaluate("([a, r]) => give(a, r)", [arguments, result])

    async def sent(self, method: str) -> list[dict[str, Any]]:
        log = await self.page.evaluate("log")
        return [entry["params"] for entry in log if entry["method"] == method]


@asynccontextmanager
async def shown(html: str, **capabilities: Any) -> AsyncIterator[Shown]:
    content = {"/": (HOST % json.dumps(capabilities), ""), "/view": (html, POLICY)}
    with pages(content) as address:
        async with chromium() as browser:
            one = Shown(await browser.new_page())
            await one.page.goto(address)
            await one.page.wait_for_function("ready", timeout=30_000)
            yield one


async def test_a_chart_is_drawn_under_the_hosts_policy(gateway: Gateway) -> None:
    async with with_apps(gateway) as client:
        html = await view_of(client)
        result = await client.call_tool("chart", CHART)
    async with shown(html) as view:
        await view.give(CHART, as_sent(result))
        await view.frame.wait_for_selector("#chart svg")
        bars = view.frame.locator('#chart [aria-roledescription="bar"]')
        assert await bars.count() == 3
        assert await view.frame.inner_text("#title") == "sum of amount by country"
        assert "highest" in await view.frame.inner_text("#words")
        await view.frame.click("#show-table")
        assert await view.frame.locator("#table tbody tr").count() == 3
        assert await view.frame.is_hidden("#chart")
        assert len(await view.sent("ui/notifications/size-changed")) == 1
        assert [url for url in view.requests if not url.endswith(("/", "/view", "/favicon.ico"))] == []
        assert [error for error in view.errors if "favicon" not in error and "404" not in error] == []


async def test_the_plain_way_of_vega_fails_there(gateway: Gateway) -> None:
    """Without the interpreter of expressions the same view cannot draw: the policy has no eval."""
    async with with_apps(gateway) as client:
        html = await view_of(client)
        result = await client.call_tool("chart", CHART)
    assert html.count("ast: true, actions: false") == 1
    async with shown(html.replace("ast: true, actions: false", "ast: false, actions: false")) as view:
        await view.give(CHART, as_sent(result))
        await view.frame.wait_for_selector("#words li:has-text('The view failed')")
        assert "unsafe-eval" in await view.frame.inner_text("#words")
        assert await view.frame.locator("#chart svg").count() == 0


async def test_rows_are_sorted_by_a_click_and_by_the_keyboard(gateway: Gateway) -> None:
    sql = "SELECT * FROM (VALUES ('b', 10), ('a', 9), ('<img src=x onerror=alert(1)>', NULL)) AS t(name, n)"
    async with with_apps(gateway) as client:
        html, result = await view_of(client), await client.call_tool("query", {"sql": sql})
    async with shown(html) as view:
        await view.give({"sql": sql}, as_sent(result))
        await view.frame.wait_for_selector("#table tbody tr")
        first = view.frame.locator("#table tbody td:first-child")
        assert await first.all_inner_texts() == ["b", "a", "<img src=x onerror=alert(1)>"]
        await view.frame.click("#table th:has-text('n') >> nth=1")
        assert (await first.all_inner_texts())[:2] == ["a", "b"]
        await view.frame.focus("#table th >> nth=0")
        await view.page.keyboard.press("Enter")
        assert await first.all_inner_texts() == ["<img src=x onerror=alert(1)>", "a", "b"]
        assert await view.frame.get_attribute("#table th >> nth=0", "aria-sort") == "ascending"
        assert await view.frame.locator("#table img").count() == 0


async def test_a_costly_call_is_a_card_that_asks_in_the_conversation(gateway: Gateway) -> None:
    """It shows bytes, dollars and advice; its buttons post a message and call nothing."""
    body = {"error": "over_scan_cap", "message": "This statement would scan 92,002,750 bytes.", "hint": "Less.",
            "request_id": "0",
            "details": {"estimated_scan_bytes": 92_002_750, "bq_cost_estimate_usd": 0.000575}}  # fmt: skip
    refused = {"isError": True, "content": [], "structuredContent": body}
    priced = {"content": [], "structuredContent": {
        "table_id": "sessions", "verdict": "needs_approval", "estimated_scan_bytes": 5, "bq_cost_estimate_usd": 1.5,
        "advice": ["Filter on the partition column."]}}  # fmt: skip
    async with with_apps(gateway) as client:
        html = await view_of(client)
    async with shown(html, message={}, serverTools={}) as view:
        await view.give({"table_id": "sessions"}, refused)
        await view.frame.wait_for_selector("#card .bytes")
        assert await view.frame.inner_text("#card .bytes") == "92,002,750 bytes, 0.000575 USD"
        assert await view.frame.locator("#card button").all_inner_texts() == ["Ask for a cheaper way"]
        await view.give({"table_id": "sessions"}, priced)
        await view.frame.click("text=Ask to run it")
        (message,) = await view.sent("ui/message")
        assert '{"table_id":"sessions"}' in message["content"][0]["text"]
        assert "Filter on the partition column." in await view.frame.inner_text("#words")
        assert await view.sent("tools/call") == []
    async with shown(html) as view:  # a host that takes no messages
        await view.give({}, priced)
        await view.frame.wait_for_selector("#card .bytes")
        assert await view.frame.locator("#card button").count() == 0


async def test_hosts_without_the_extension_see_what_they_saw(gateway: Gateway) -> None:
    async with connected(gateway, "auto") as client:
        result = await client.call_tool("chart", CHART)
        listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert result.meta is None or "agnes/spec" not in result.meta
    assert VIEW_URI not in listed
    assert [block.type for block in result.content] == ["text", "image", "resource_link"]
    assert ME.local


async def test_the_view_asks_for_nothing_and_says_so(gateway: Gateway) -> None:
    async with with_apps(gateway) as client:
        (content,) = (await client.read_resource(VIEW_URI)).contents
        viewed = {tool.name for tool in (await client.list_tools()).tools if (tool.meta or {}).get("ui")}
    assert content.meta is not None
    assert content.meta["ui"]["csp"] == {f"{kind}Domains": [] for kind in ("connect", "resource", "frame", "baseUri")}
    assert viewed == {"estimate", "scan", "query", "chart"}
    assert len(content.text) < 1_000_000  # type: ignore[union-attr]
