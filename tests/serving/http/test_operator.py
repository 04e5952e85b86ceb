"""The operator's page: who may see what, in a browser without scripts and over requests that try to get around it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest
from serving.served import INITIALIZE, Served, serve, token_of, user, write_instance
from support.browser import chromium
from support.instances import bigquery_at, remote_table, write

from agnes_mcp.models import Principal
from agnes_mcp.operations.overview import Overview
from agnes_mcp.serving.http.operator import COOKIE
from agnes_mcp.serving.http.operator_html import overview_page
from agnes_mcp.stand_in import StandIn

JSON = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
HOSTILE = "<script>document.title='owned'</script>"
#: Turns the rest of a line around, and has a part that nobody sees.
TURNED = "eve\u202enimda\u200b"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("operator")
    orders = write(folder, "orders.parquet", "SELECT range AS id FROM range(10)")
    users = [user("ana", ["orders"]), user("root", [], admin=True), user("bob", []), user(HOSTILE, [])]
    instance = write_instance(
        folder / "instance.yaml", tables=[{"id": "orders", "path": str(orders)}], access={"users": users}
    )
    with serve(instance) as server:
        for name, sql in (("ana", "SELECT count(*) FROM orders"), ("bob", "SELECT count(*) FROM orders")):
            call(server, token_of(name), sql)
        yield server


def call(served: Served, token: str, asked_for: str | dict[str, Any], tool: str = "query") -> str:
    """One call, of a text the `query`, so that the page has something to show; what it answers."""
    opened = served.request("POST", "/mcp", token, headers=JSON, json=INITIALIZE)
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-11-25"}
    arguments = {"sql": asked_for} if isinstance(asked_for, str) else asked_for
    params = {"name": tool, "arguments": arguments}
    asked = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
    answer = served.request("POST", "/mcp", token, headers={**JSON, **session}, json=asked)
    assert answer.status_code == 200
    return answer.text


def visitor(served: Served) -> httpx2.Client:
    return httpx2.Client(base_url=served.url, follow_redirects=True, timeout=30)


def sign_in(http: httpx2.Client, name: str) -> httpx2.Response:
    return http.post("/sign-in", data={"token": token_of(name)})


def rows_of(page: str, heading: str) -> list[str]:
    section = page.partition(f"<h2>{heading}</h2>")[2].partition("<h2>")[0]
    return re.findall(r"<tr><td.*?</tr>", section)


def test_a_stranger_sees_a_form_and_nothing_else(served: Served) -> None:
    with visitor(served) as http:
        page = http.get("/")
        assert page.status_code == 200
        assert "name=token type=password" in page.text
        assert "ana" not in page.text
        refused = http.post("/sign-in", data={"token": "agnes_wrong"})
        assert refused.status_code == 401
        assert "agnes_wrong" not in refused.text
        assert COOKIE not in http.cookies


def test_a_user_sees_itself_and_an_administrator_everybody(served: Served) -> None:
    with visitor(served) as http:
        page = sign_in(http, "ana").text
        assert "who sees yourself" in page
        assert len(rows_of(page, "Today's budgets")) == 1
        assert {"bob", "root"} & set(re.findall(r"<td>(\w+)</td>", page)) == set()
        assert "query" in str(rows_of(page, "Recent calls"))
    with visitor(served) as http:
        page = sign_in(http, "root").text
        assert "who sees everybody" in page
        assert len(rows_of(page, "Today's budgets")) == 4
        assert {"ana", "bob"} <= set(re.findall(r"<td>(\w+)</td>", page))
        assert "table_not_found" in page  # how bob's call ended
        assert "<script" not in page


def test_what_groups_and_the_project_have_left_is_shown_once(tmp_path: Path) -> None:
    """Beside what each user has; and a warning where most of it is gone."""
    with StandIn(project="my-project") as bq:
        bq.create_table("my_dataset", "orders", "id INT64", rows=[{"id": 1}])
        bigquery = bigquery_at(bq)
        instance = write_instance(
            tmp_path / "instance.yaml",
            tables=[remote_table("orders")],
            data_source={"bigquery": bigquery},
            quota={"max_daily_bytes_per_project": 100 * 2**20},
            access={
                "users": [user("ana", ["orders"], groups=["<shop>"]), user("root", [], admin=True, groups=["<shop>"])],
                "groups": [{"name": "<shop>", "max_daily_bytes": 12 * 2**20}],
            },
        )
        with serve(instance) as server:
            asked = {"table_id": "orders", "select": ["id"], "where": "id > 0"}
            assert '"isError":true' not in call(server, token_of("ana"), asked, "scan")
            with visitor(server) as http:
                page = sign_in(http, "root").text
    budgets = rows_of(page, "Today's budgets")
    assert [re.findall(r"<td>([^<]*)</td>", row)[:3] for row in budgets] == [
        ["ana", "10.0 MiB", "50.0 GiB"], ["root", "0 B", "50.0 GiB"], ["group &lt;shop&gt;", "10.0 MiB", "12.0 MiB"],
        ["project my-project", "10.0 MiB", "100.0 MiB"],
    ]  # fmt: skip
    assert re.search(r"<p class=bad>ana: [^<]*&lt;shop&gt;", page)


def test_the_disk_and_what_is_removed_are_told(tmp_path: Path) -> None:
    """A user sees what its own snapshots and charts take, an administrator everybody's, and the audit."""
    orders = write(tmp_path, "orders.parquet", "SELECT range AS id FROM range(10)")
    instance = write_instance(
        tmp_path / "instance.yaml",
        tables=[{"id": "orders", "path": str(orders)}],
        access={"users": [user("ana", ["orders"]), user("root", [], admin=True)]},
        snapshots={"keep_days": 90, "keep_gb": 5},
        audit={"keep_days": 400},
    )
    with serve(instance) as server:
        answer = call(server, token_of("ana"), {"sql": "SELECT id FROM orders", "mark": "bar", "x": "id"}, "chart")
        assert "agnes://charts/" in answer
        pages = {}
        for name in ("ana", "root"):
            with visitor(server) as http:
                pages[name] = sign_in(http, name).text.partition("<h2>Snapshots and disk</h2>")[2]
    for page in pages.values():
        assert "0 snapshots and 1 chart, together" in page
        assert "90 days after their fetch or last refresh" in page
        assert "more than 5 GiB" in page
    assert "after 400 days" in pages["root"]
    assert "The audit takes" in pages["root"]
    assert "audit" not in pages["ana"]


def test_without_retention_the_page_says_that_nothing_goes(served: Served) -> None:
    with visitor(served) as http:
        page = sign_in(http, "root").text
    assert "0 snapshots and 0 charts" in page
    assert "Nothing is removed but by its owner, and what expires." in page


def test_the_cookie_is_for_this_site_and_not_for_scripts(served: Served) -> None:
    answer = served.request("POST", "/sign-in", data={"token": token_of("ana")})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token_of("ana") not in cookie
    assert "script-src" not in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/cancel", "/sign-out"])
def test_a_forged_form_changes_nothing(served: Served, path: str) -> None:
    with visitor(served) as http:
        sign_in(http, "ana")
        for data in ({}, {"form_token": ""}, {"form_token": "x"}, {"form_token": "\ud800".encode("utf-8", "replace")}):
            assert http.post(path, data=data).status_code == 403
        foreign = http.post(path, data={}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert http.get(path).status_code == 405
        assert "who sees" in http.get("/").text  # still signed in


def test_signing_out_ends_the_session_itself(served: Served) -> None:
    with visitor(served) as http:
        page = sign_in(http, "ana").text
        kept = http.cookies[COOKIE]
        form_token = re.search(r'name=form_token value="([^"]+)"', page)
        assert form_token
        http.post("/sign-out", data={"form_token": form_token[1]})
        http.cookies.set(COOKIE, kept)
        assert "name=token" in http.get("/").text


def test_a_token_that_is_taken_back_ends_what_it_opened(tmp_path: Path) -> None:
    def instance(users: list[dict[str, Any]]) -> Path:
        return write_instance(tmp_path / "instance.yaml", access={"users": users})

    with serve(instance([user("ana", []), user("bob", [])])) as server, visitor(server) as http:
        assert "who sees" in sign_in(http, "ana").text
        instance([user("bob", [])])
        assert "name=token" in http.get("/").text


@pytest.mark.needs("chromium")
async def test_a_person_signs_in_and_out_without_scripts(served: Served) -> None:
    async with chromium() as browser:
        context = await browser.new_context(java_script_enabled=False, viewport={"width": 1100, "height": 800})
        page = await context.new_page()
        await page.goto(served.url)
        await page.fill("#token", token_of("root"))
        await page.click("text=Sign in")
        assert "who sees everybody" in await page.inner_text("header")
        assert await page.locator("meter").count() == 4
        assert HOSTILE in await page.inner_text("main")
        assert await page.title() == "Agnes"
        (cookie,) = await context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        await page.click("text=Sign out")
        assert await page.locator("#token").count() == 1


#: Rows that are read for as long as nobody stops it.
ENDLESS = "SELECT count(*) FROM range(1000000000000) AS a(i) WHERE hash(i) = 1"


@pytest.mark.needs("chromium")
async def test_the_owner_of_a_call_ends_it_with_the_button(served: Served) -> None:
    """Whoever else sees it has no button; the call is answered as cancelled, and the page shows it no longer."""
    answers: list[str] = []
    running = threading.Thread(target=lambda: answers.append(call(served, token_of("ana"), ENDLESS)))
    running.start()
    async with chromium() as browser:
        for name, buttons in (("root", 0), ("ana", 1)):
            context = await browser.new_context(java_script_enabled=False, viewport={"width": 1100, "height": 800})
            page = await context.new_page()
            await page.goto(served.url)
            await page.fill("#token", token_of(name))
            await page.click("text=Sign in")
            while "Nothing." in await page.inner_text("main"):
                await page.reload()
            assert await page.locator("button:has-text('Cancel')").count() == buttons
            if buttons:
                await page.click("button:has-text('Cancel')")
                await anyio.to_thread.run_sync(running.join, 60)
                await page.reload()
                assert await page.locator("button:has-text('Cancel')").count() == 0
                assert "cancelled" in await page.inner_text("main")
    assert not running.is_alive()
    assert '"isError":true' in answers[0]
    assert '"error":"cancelled"' in answers[0]


def test_what_nobody_sees_is_shown_as_its_number() -> None:
    """The audit holds names of before such ones were refused, for as long as it is kept."""
    overview = Overview(whole=True, recent=[{"principal": TURNED, "tool": "query", "status": "ok"}])
    page = overview_page(Principal("root"), overview, {}, "", signs_out=False)
    assert not re.search("[\u200b\u202e]", page)
    assert "eve&lt;U+202E&gt;nimda&lt;U+200B&gt;" in page
