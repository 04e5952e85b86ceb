"""The skill: valid, in the words of our tools, and the same over MCP."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client
from mcp.types import TextResourceContents
from serving.served import ERAS, Era
from support.instances import settings_of

from agnes_mcp.errors import KINDS
from agnes_mcp.gateway import Gateway
from agnes_mcp.serving.server import build_server

SKILL = Path(__file__).parents[2] / "skills" / "agnes-data-querying"
FILES = sorted(path for path in SKILL.rglob("*.md"))
TEXT = (SKILL / "SKILL.md").read_text()
ALL_TEXT = "\n".join(path.read_text() for path in FILES)


def test_the_format_is_valid() -> None:
    command = [str(Path(sys.executable).with_name("agentskills")), "validate", str(SKILL)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    described = yaml.safe_load(TEXT.split("---\n")[1])
    assert described["name"] == SKILL.name
    assert 50 < len(described["description"]) <= 1024
    assert len(TEXT.splitlines()) < 200


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert all((SKILL / link).is_file() for link in links)


def test_the_order_of_work_is_the_order_of_the_text() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert headings[:6] == ["1. Discover", "2. Price", "3. Narrow", "4. Read", "5. Query", "6. Clean up"]


@pytest.fixture
async def tools(tmp_path: Path) -> dict[str, Any]:
    async with Gateway(settings_of(tmp_path / "data", [])) as gateway:
        return {tool.name: tool for tool in await build_server(gateway).list_tools()}


async def test_it_names_every_tool_and_only_what_there_is(tools: dict[str, Any]) -> None:
    assert [name for name in tools if f"`{name}" not in ALL_TEXT] == []
    kinds = re.search(r"\| kind \| do \|\n.*?\n\n", TEXT, re.DOTALL)
    assert kinds
    named = set(re.findall(r"`([a-z_]+)`", "".join(row.split("|")[1] for row in kinds.group().splitlines()[2:] if row)))
    assert named <= set(KINDS)
    assert {"table_not_found", "over_scan_cap", "quota_exceeded", "approval_declined", "rate_limited"} <= named


async def test_its_calls_are_accepted_as_they_are_written(tools: dict[str, Any]) -> None:
    """Every call in the skill, against the tool's own schema."""
    jsonschema = importlib.import_module("jsonschema")
    calls = re.findall(r"`(\w+) (\{.*?\})`", ALL_TEXT, re.DOTALL)
    calls += [("scan", block) for block in re.findall(r"^```json\n(.*?)^```$", ALL_TEXT, re.DOTALL | re.MULTILINE)]
    assert len(calls) >= 5
    for tool, arguments in calls:
        jsonschema.validate(json.loads(" ".join(arguments.split())), tools[tool].input_schema)


@pytest.mark.parametrize(
    "literal",
    [
        "DATE '2026-01-31'",
        "TIMESTAMP '2026-01-31 12:00:00+00'",
        "CURRENT_DATE()",
        "DATE_SUB(CURRENT_DATE(), INTERVAL 7 DAY)",
        "REGEXP_CONTAINS(s, r'^cz-\\d+')",
        "x IS NOT NULL",
        "CAST(x AS INT64)",
    ],
)
def test_dialects_are_spelled_out(literal: str) -> None:
    assert f"`{literal}`" in (SKILL / "references" / "dialects.md").read_text()


@pytest.mark.parametrize("era", ERAS)
async def test_the_skill_is_offered_over_mcp(tmp_path: Path, era: Era) -> None:
    async with (
        Gateway(settings_of(tmp_path / "data", [])) as gateway,
        Client(build_server(gateway), mode=era) as client,
    ):
        listed = {str(resource.uri) for resource in (await client.list_resources()).resources}
        for path in FILES:
            uri = f"skill://agnes-data-querying/{path.relative_to(SKILL)}"
            assert uri in listed
            content = (await client.read_resource(uri)).contents[0]
            assert isinstance(content, TextResourceContents)
            assert content.text == path.read_text()
            assert content.mime_type == "text/markdown"


def test_entries_carry_the_digest_of_the_bytes() -> None:
    skills = importlib.import_module("agnes_mcp.resources.skills")
    entry = skills.entry()
    assert {resource["uri"] for resource in entry["resources"]} == {
        f"skill://agnes-data-querying/{path.relative_to(SKILL)}" for path in FILES
    }
    for resource in entry["resources"]:
        content = (SKILL / resource["uri"].removeprefix("skill://agnes-data-querying/")).read_bytes()
        assert resource["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert resource["size"] == len(content)
