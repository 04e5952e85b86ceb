"""Documentation that cannot lie: what is written is compared with what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from mcp import Client
from pydantic import BaseModel
from support import pages
from support.pages import DOCS, ROOT

from agnes_mcp.config.loading import OTHER_VARIABLES
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import KINDS, PredicateError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Column, TableSchema
from agnes_mcp.serving.server import build_server
from agnes_mcp.sql.predicate import validate_predicate


@cache
def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


# what is generated, and what has to be in it


def test_generated_blocks_are_up_to_date() -> None:
    check = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert check.returncode == 0, check.stderr


async def test_every_tool_is_documented_with_every_argument(gateway: Gateway) -> None:
    async with Client(build_server(gateway)) as client:
        tools = (await client.list_tools()).tools
    parts = re.split(r"^## (\w+)$", text_of("docs/reference/tools.md"), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert [name for name in sections if name != "Shapes"] == [tool.name for tool in tools]
    for tool in tools:
        arguments, _, answer = sections[tool.name].partition("Answer:")
        for name in tool.input_schema.get("properties", {}):
            assert f"| `{name}` |" in arguments
        for name in (tool.output_schema or {})["properties"]:
            assert f"| `{name}` |" in answer


async def test_the_readme_lists_the_tools_there_are(gateway: Gateway) -> None:
    async with Client(build_server(gateway)) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
    section = text_of("README.md").partition("\n## Tools\n")[2].partition("\n## ")[0]
    listed = [name for row in pages.tables(section) for name in re.findall(r"`(\w+)`", row[0])]
    assert listed == tools


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key that holds a value; those in the entries of a list have `[]` in their path."""
    for name, field in model.model_fields.items():
        inner = section_in(field.annotation)
        listed = "list[" in str(field.annotation)
        if inner is None or listed:
            yield f"{prefix}{name}", field
        if inner is not None:
            yield from keys_of(inner, f"{prefix}{name}{'[]' if listed else ''}.")


def section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part)) is not None), None)


KEYS = dict(keys_of(Settings))


def test_every_setting_is_documented_and_says_what_it_means() -> None:
    rows = {row[0]: row for row in pages.tables(text_of("docs/reference/configuration.md"))}
    documented = {re.findall(r"`([^`]+)`", name)[0]: row for name, row in rows.items() if "`" in name}
    assert sorted(name for name in documented if not name.startswith("AGNES_")) == sorted(KEYS)
    assert [name for name, row in documented.items() if len(row[-1]) < 10] == []


def variable(key: str) -> str:
    return "AGNES_" + key.upper().replace(".", "__")


def test_every_environment_variable_is_documented() -> None:
    written = set(re.findall(r"`(AGNES_[A-Z0-9_]+)`", text_of("docs/reference/configuration.md")))
    assert written == {variable(key) for key in KEYS if "[]" not in key} | set(OTHER_VARIABLES)


def test_no_page_names_a_variable_that_the_server_would_refuse() -> None:
    named = {name for page in pages.pages() for name in re.findall(r"\bAGNES_[A-Z0-9_]+", page.read_text("utf-8"))}
    assert named - {variable(key) for key in KEYS} - set(OTHER_VARIABLES) == set()


#: A value that is not the default, where the default does not suggest one.
OTHER_VALUES = {
    "quota.store": "postgresql://user@host:5432/database",
    "quota.max_daily_bytes_per_project": "1",
    "quota.warn_at_percent": "90",
    "audit.keep_days": "30", "audit.keep_bytes": "1", "snapshots.keep_days": "30", "snapshots.keep_gb": "5",
    "data_dir": "/elsewhere", "tables": '[{"id": "orders", "path": "orders.csv"}]', "access.users": '[{"name": "ana"}]',
    "access.groups": '[{"name": "shop"}]',
    "data_source.bigquery.project": "my-project", "data_source.bigquery.billing_project": "my-billing-project",
    "data_source.bigquery.auth": "adc", "data_source.bigquery.datasets": '["my_dataset"]',
    "access.oidc.issuer": "https://a.example.com", "access.oidc.jwks_uri": "https://a.example.com/keys",
    "data_source.bigquery.impersonate": "bot@my-project.iam.gserviceaccount.com",
    "data_source.bigquery.scopes": '["https://www.googleapis.com/auth/drive.readonly"]',
    "data_source.bigquery.universe_domain": "cloud.example",
    "data_source.bigquery.attach": "lazy", "data_source.bigquery.direct_reads": "attached",
    "server.public_url": "https://a.example.com", "server.metrics_token_sha256": "0" * 64,
    "server.allowed_hosts": '["a.example.com"]', "server.allowed_origins": '["https://a.example.com"]',
}  # fmt: skip
#: What has to be there before a key of an optional section can be.
BESIDE = {
    "data_source.bigquery.": {"data_source.bigquery.project": "my-project"},
    "access.oidc.": {
        "access.oidc.issuer": "https://b.example.com",
        "access.oidc.audience": "agnes",
        "access.oidc.jwks_uri": "https://b.example.com/keys",
    },
}


def value_at(settings: Settings, key: str) -> Any:
    found: Any = settings
    for part in key.split("."):
        found = getattr(found, part)
    return found


def as_file(keys: dict[str, str]) -> dict[str, Any]:
    """The same keys as an instance.yaml has them."""
    content: dict[str, Any] = {}
    for key, value in keys.items():
        *sections, last = key.split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = yaml.safe_load(value) if value.startswith("[") else value
    return content


@pytest.mark.parametrize("key", [key for key in KEYS if "[]" not in key])
def test_every_environment_variable_sets_its_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = KEYS[key].default
    another = {bool: "true", int: f"{default!r}1", float: f"{default!r}1"}.get(type(default), "another")
    written = OTHER_VALUES.get(key, another if key != "server.port" else "8788")
    beside = next((keys for section, keys in BESIDE.items() if key.startswith(section)), {})
    for name, value in {**beside, key: written}.items():
        monkeypatch.setenv(variable(name), value)
    found = value_at(Settings(), key)
    for name in {**beside, key: written}:
        monkeypatch.delenv(variable(name))
    assert found == value_at(Settings(**as_file({**beside, key: written})), key)
    assert found != default


def test_every_kind_of_error_is_documented_with_its_exit_code() -> None:
    rows = [row for row in pages.tables(text_of("docs/reference/errors.md")) if row[0].startswith("`")]
    documented = {row[0].strip("`"): int(row[1]) for row in rows}
    assert len(documented) == len(rows)
    assert documented == KINDS
    assert all(len(cell) > 10 for row in rows for cell in row[2:])


def test_the_exit_codes_of_the_command_line_are_those_that_tests_reach() -> None:
    """Neither one that no command returns, nor one that is returned and not told."""
    told = text_of("docs/reference/cli.md").split("## Exit codes", 1)[1]
    documented = {int(row[0]) for row in pages.tables(told) if row[0].isdigit()}
    reached = {int(code) for code in re.findall(r"def test_(\d+)_is_for", text_of("tests/cli/test_exits.py"))}
    partly = "def test_what_failed_is_told_and_exits_1(" in text_of("tests/cli/test_agnes.py")
    assert documented == reached | ({1} if partly else set())
    assert documented == {1, 130, 0, *KINDS.values()}


SESSIONS = TableSchema(
    table_id="web_sessions",
    columns=[
        Column(name="platform", type="STRING"),
        Column(name="event_date", type="DATE"),
        Column(name="converted", type="BOOL"),
    ],
)
REFUSED = [row for row in pages.tables(text_of("docs/reference/where.md")) if len(row) == 3 and row[0].startswith("`")]


@pytest.mark.parametrize(("kind", "predicate"), [(row[0].strip("`"), row[2].strip("`")) for row in REFUSED])
def test_the_examples_of_refused_predicates_are_refused_so(kind: str, predicate: str) -> None:
    with pytest.raises(PredicateError) as refusal:
        validate_predicate(predicate, SESSIONS, "bigquery")
    assert refusal.value.kind == kind


def test_every_refusal_of_a_predicate_has_an_example() -> None:
    source = text_of("agnes_mcp/errors.py").partition("# the WHERE predicate was refused")[2].partition("#")[0]
    assert {row[0].strip("`") for row in REFUSED} == {*re.findall(r'"(\w+)"', source), "unknown_column"}


# what has to hold on every page


@pytest.mark.parametrize("page", pages.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in pages.headings(target.read_text(encoding="utf-8")), link


def test_the_first_page_leads_to_every_other() -> None:
    """Of what somebody looks for; decisions are listed in their folder."""
    linked = {(DOCS / link).resolve() for link in pages.links(text_of("docs/README.md"))}
    there = {
        page for folder in ("tutorials", "how-to", "reference", "explanation") for page in DOCS.glob(f"{folder}/*.md")
    }
    assert there - linked == set()


def test_instances_in_the_pages_are_accepted() -> None:
    shown = [block.text for page in pages.pages() for block in pages.blocks(page, "yaml")]
    assert len(shown) >= 6
    bigquery = {"data_source": {"bigquery": {"project": "my-project"}}}
    for text in shown:
        Settings(**{**bigquery, **yaml.safe_load(text)})


def test_json_in_the_pages_is_json() -> None:
    for page in pages.pages():
        for block in pages.blocks(page, "json"):
            json.loads(block.text)


# what must be on no page and in no file


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


FORBIDDEN = {
    "a path of one machine": r"(?<![a-z<.~*])/(?:work|root|farm)/",
    "a package registry": "|".join(("pypi" + r"\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs")),
    "the number of an issue or a session": r"\b(?:issue|session|helper) #?\d+\b",
    "a stranger's package": r"(?:uvx|pip install) agnes-mcp\b",
    "the code of a row that is in no document here": r"(?<![\w./-])(?-i:(?!UTF|SHA)[A-Z]{2,5})-\d{1,3}\b(?![.\w-])",
}
#: Cut in two, so that this file does not hold them.
HELD = {
    "a path of one machine": "see /wo" + "rk/main/notes",
    "a package registry": "from py" + "pi.org",
    "the number of an issue or a session": "as issue" + " 12 asks",
    "a stranger's package": "pip install" + " agnes-mcp",
    "the code of a row that is in no document here": "as SN" + "P-3 says",
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout knows which files are its own")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        for match in pattern.finditer(path.read_bytes().decode("utf-8", "replace"))
    ]
    assert found == []
    assert pattern.search(HELD[what])


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.name)
def test_a_decision_is_short(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("\n") <= 60
    assert text.startswith(f"# {int(page.name[:4])}. ")
