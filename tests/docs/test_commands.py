"""The commands of the documentation: each exists, and those of the runnable blocks do what their page says."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
import yaml
from support import pages
from support.forward_proxy import BIGQUERY, LOGIN, TOKEN, ForwardProxy
from support.instances import ME
from support.metadata_server import MetadataServer
from support.pages import DOCS, ROOT

from agnes_mcp.calls.audit import AuditLine
from agnes_mcp.cli import app_for
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import PredicateError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import ScanRequest
from agnes_mcp.stand_in import StandIn

COMMAND = Path(sys.executable).with_name("agnes-mcp")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `make demo` prints."""
    recipe = re.search(r"^demo:.*\n\t(.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe
    assert recipe[1] == "$(BIN)/agnes-mcp demo"
    environment = pages.clean_environment(tmp_path_factory.mktemp("home"))
    shown = subprocess.run([str(COMMAND), "demo"], capture_output=True, text=True, timeout=110, env=environment)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_the_session_in_the_readme_is_the_demo(demo: str) -> None:
    shown = pages.blocks(ROOT / "README.md", "console")[0].text.splitlines()
    assert shown[0] == "$ make demo"
    at = 0
    for line in shown[1:]:
        if line.strip(" …"):
            found = re.compile(pages.as_pattern(line)).search(demo, at)
            assert found, f"the demo does not print, in this place: {line}"
            at = found.start() + 1


def checkout(folder: Path) -> Path:
    """A folder with this installation as its `.venv`, and an empty home beside it."""
    (folder / "checkout").mkdir()
    (folder / "home").mkdir()
    (folder / "checkout" / ".venv").symlink_to(sys.prefix)
    return folder / "checkout"


class Tutorial(NamedTuple):
    """The folder that it leaves behind, and what it printed, with the pattern of what it should."""

    folder: Path
    printed: list[tuple[str, str]]

    def copied(self, home: Path) -> Path:
        shutil.copytree(self.folder, home / "shop")
        return home / "shop"


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Tutorial:
    folder = tmp_path_factory.mktemp("tutorial")
    environment = pages.clean_environment(folder / "home")
    printed = pages.run([DOCS / "tutorials" / "first-instance.md"], checkout(folder), environment)
    return Tutorial(folder / "home" / "shop", printed)


def test_the_tutorial_does_what_it_says(tutorial: Tutorial) -> None:
    assert len(tutorial.printed) >= 3
    for shown, expected in tutorial.printed:
        assert re.search(expected, shown), shown


def test_what_the_tutorial_made_is_served_over_http(tutorial: Tutorial, tmp_path: Path) -> None:
    page = DOCS / "how-to" / "serve-over-http.md"
    printed = pages.run([page], tutorial.copied(tmp_path), pages.clean_environment(tmp_path))
    assert len(printed) >= 2
    for shown, expected in printed:
        assert re.search(expected, shown), shown


def test_a_machine_of_google_cloud_is_its_own_identity(tmp_path: Path) -> None:
    """The page's instance, with a metadata server and a BigQuery on loopback in the place of Google's."""
    page = DOCS / "how-to/run-on-a-google-vm.md"
    kept = {name: value for name, value in pages.clean_environment(tmp_path).items() if not name.startswith("GOOGLE_")}
    with StandIn(project="my-project", location="EU") as bq, MetadataServer() as metadata:
        bq.create_table("my_dataset", "web_sessions_v", "id INT64", rows=[{"id": 1}])
        environment = {
            **kept,
            "GCE_METADATA_HOST": metadata.host,
            "AGNES_DATA_SOURCE__BIGQUERY__API_ENDPOINT": bq.api_endpoint,
            "AGNES_DATA_SOURCE__BIGQUERY__STORAGE_ENDPOINT": f"grpc://{bq.grpc_target}",
        }
        ((shown, expected),) = pages.run([page], tmp_path, environment)
        assert metadata.token_requests >= 1
    assert re.search(expected, shown), shown


def logged_in(home: Path) -> dict[str, str]:
    """What `gcloud auth application-default login` leaves behind, and nothing else that says who one is."""
    gcloud = home / ".config" / "gcloud"
    gcloud.mkdir(parents=True)
    login = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    (gcloud / "application_default_credentials.json").write_text(json.dumps(login))
    (home / ".agnes").mkdir()
    told = ("GOOGLE_", "GCE_", "CLOUDSDK_", "REQUESTS_", "SSL_", "CURL_")
    kept = {name: value for name, value in pages.clean_environment(home).items() if not name.startswith(told)}
    return {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}


def test_a_laptop_is_its_owner(tmp_path: Path) -> None:
    """The page's instance and a login of gcloud's; a proxy answers in Google's place."""
    environment = logged_in(tmp_path)
    with StandIn(project="my-project") as bq, ForwardProxy(tmp_path, bq.api_endpoint) as proxy:
        bq.create_table("my_dataset", "web_sessions", "id INT64", rows=[{"id": 1}])
        behind = {"HTTPS_PROXY": proxy.url, "REQUESTS_CA_BUNDLE": str(proxy.roots)}
        ((shown, expected),) = pages.run([DOCS / "how-to/run-on-a-laptop.md"], tmp_path, {**environment, **behind})
        assert re.search(expected, shown), shown
        assert {f"{LOGIN}:443", f"{BIGQUERY}:443"} <= set(proxy.asked)
        assert {request.token for request in bq.requests} == {TOKEN["access_token"]}


def test_what_a_proxy_lets_through_is_enough(tmp_path: Path) -> None:
    """Its page's variables lead every request through it; it cuts gRPC, and rows come all the same."""
    environment = logged_in(tmp_path)
    (instance,) = pages.blocks(DOCS / "how-to/run-on-a-laptop.md", "yaml")
    (tmp_path / ".agnes" / "instance.yaml").write_text(instance.text)
    with StandIn(project="my-project") as bq, ForwardProxy(tmp_path, bq.api_endpoint) as proxy:
        bq.create_table("my_dataset", "web_sessions", "id INT64", rows=[{"id": n} for n in range(4)])
        here = {"http://proxy.example.com:3128": proxy.url, "/etc/ssl/certs/company.pem": str(proxy.roots)}
        ((shown, expected),) = pages.run([DOCS / "how-to/work-behind-a-proxy.md"], tmp_path, environment, here)
        assert re.search(expected, shown), shown
        behind = {**environment, "HTTPS_PROXY": proxy.url, "REQUESTS_CA_BUNDLE": str(proxy.roots)}
        scan = [str(COMMAND), "scan", "web_sessions", "--select", "id", "--json"]
        read = subprocess.run(scan, cwd=tmp_path, env=behind, capture_output=True, text=True, timeout=100)
        assert read.returncode == 0, read.stdout + read.stderr
        assert sorted(json.loads(read.stdout)["rows"]) == [[0], [1], [2], [3]]
        without = {name: value for name, value in behind.items() if name != "REQUESTS_CA_BUNDLE"}
        refused = subprocess.run(scan, cwd=tmp_path, env=without, capture_output=True, text=True, timeout=100)
        assert refused.returncode != 0  # whoever leaves out the authority is not served by a stranger
        assert "ya29" not in refused.stdout + refused.stderr


def test_fifty_users_get_their_tokens(tutorial: Tutorial, tmp_path: Path) -> None:
    page, folder = DOCS / "how-to" / "serve-fifty-users.md", tutorial.copied(tmp_path)
    printed = pages.run([page], folder, pages.clean_environment(tmp_path))
    assert len(printed) >= 3
    for shown, expected in printed:
        assert re.search(expected, shown), shown
    given = dict(line.split() for line in (folder / "tokens.txt").read_text().splitlines())
    users = yaml.safe_load((folder / "instance.yaml").read_text())["access"]["users"]
    digests = {user["name"]: user["token_sha256"] for user in users}
    assert digests == {name: hashlib.sha256(token.encode()).hexdigest() for name, token in given.items()}
    assert len(given) == 3
    (scraping,) = pages.blocks(page, "yml")
    assert yaml.safe_load(scraping.text)["scrape_configs"][0]["authorization"]["credentials_file"].endswith(
        "metrics.token"
    )
    assert (folder / "tokens.txt").stat().st_mode & 0o077 == 0


async def test_what_is_restored_from_a_backup_is_served(tmp_path: Path, settings: Settings) -> None:
    here = settings.model_copy(update={"data_dir": tmp_path / ".agnes"})
    count = "SELECT count(*) AS n, sum(order_id) AS s FROM kept"
    async with Gateway(here) as gateway:
        await gateway.fetches.fetch(ME, ScanRequest(table_id="orders"), name="kept")
        before = await gateway.queries.query(ME, count)
        gateway.calls.audit.write(AuditLine(request_id="r", tool="scan", principal="me", bytes_billed=123))
    printed = pages.run([DOCS / "how-to/back-up-and-upgrade.md"], tmp_path, pages.clean_environment(tmp_path))
    shown, expected = printed[-1]
    assert re.search(expected, shown), shown
    async with Gateway(here) as gateway:
        assert (await gateway.queries.query(ME, count)).rows == before.rows
        assert (await gateway.snapshots.entry(ME, "kept")).damaged is None
        assert (await gateway.usage.today(ME)).quota.daily_bytes_used == 123


def read_audit(folder: Path) -> list[str]:
    """What the page's questions answer about the instance.yaml of that folder."""
    environment = pages.clean_environment(folder / "home")
    return [shown for shown, _ in pages.run([DOCS / "how-to/read-the-audit.md"], folder, environment)]


async def test_the_audit_is_read_as_its_page_says(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "instance.yaml").write_text("data_dir: it's here\n")
    async with Gateway(settings.model_copy(update={"data_dir": tmp_path / "it's here"})) as gateway:
        await gateway.scans.scan(ME, ScanRequest(table_id="orders", limit=1))
        for _ in range(2):
            with pytest.raises(PredicateError):
                await gateway.scans.scan(ME, ScanRequest(table_id="orders", where="SELECT 1"))
    spent, refused = read_audit(tmp_path)
    assert re.search(r"│ me +│ +3 │ +0 │ +2 │", spent), spent
    assert re.search(r"│ nested_select │ scan +│ orders +│ +2 │", refused), refused


async def test_an_audit_in_which_nothing_was_ever_billed_or_refused_is_read_too(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "instance.yaml").write_text("data_dir: state\n")
    async with Gateway(settings.model_copy(update={"data_dir": tmp_path / "state"})) as gateway:
        await gateway.queries.query(ME, "SELECT 1")
    with (tmp_path / "state" / "audit" / "audit.jsonl").open("a") as lines:
        lines.write('{"time":"2026-01-0')  # what a crash cut short
    spent, refused = read_audit(tmp_path)
    assert re.search(r"│ me +│ +1 │ +0 │ +0 │", spent), spent
    assert "0 rows" in refused


def typed(block: pages.Block) -> list[str]:
    """The arguments of each `agnes-mcp` that a reader is to type."""
    lines = block.text.splitlines()
    lines = [line[2:] for line in lines if line.startswith("$ ")] if block.language == "console" else lines
    return [match[1] for line in lines for match in re.finditer(r"\bagnes-mcp\"? +([a-z].*)", line)]


#: Programs of others, which a test cannot run here; what is written behind them is looked at where it is ours.
OTHERS = {"claude", "gcloud", "gemini", "npx", "export", "pip"}


def test_every_block_is_run_read_or_generated() -> None:
    """Of each kind of block that a page shows something is tried: here, or in the test that is named."""
    languages = {block.language for page in pages.pages() for block in pages.blocks(page)}
    assert languages == {
        "bash", "sh", "console",  # run, or below; their options: the next test
        "python",  # saved and run
        "yaml", "json",  # `test_pages`
        "yml", "toml",  # of other programs: below
        "text",  # generated, or a drawing
    }  # fmt: skip
    for page in pages.pages():
        for block in pages.blocks(page):
            if block.language == "python":
                assert block.note.startswith("file: "), page
            elif block.language == "yml":
                assert isinstance(yaml.safe_load(block.text), dict), page
            elif block.language == "toml":
                assert tomllib.loads(block.text), page
            elif block.language in ("sh", "bash") and not block.note:
                check_shell(block.text)


def check_shell(text: str) -> None:
    """A block that only a reader can run: valid for a shell, of programs that are known, and ours as they are."""
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30)
    assert (parsed.returncode, parsed.stderr) == (0, ""), text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for words in (shlex.split(line, comments=True) for line in text.splitlines()):
        if words and words[0] == "make":
            assert words[1] in targets, text
        elif words and words[0] == "pip":
            named = re.fullmatch(r"agnes-data-mcp\[(\w+)\]", words[2])
            assert named, text
            assert named[1] in extras, text
        elif words:
            assert words[0] in {"agnes-mcp", ".venv/bin/python", *OTHERS}, text


def test_commands_in_the_pages_exist_with_their_options() -> None:
    shown = [
        line
        for page in pages.pages()
        for name in ("sh", "bash", "console")
        for b in pages.blocks(page, name)
        for line in typed(b)
    ]
    assert len(shown) >= 6
    for line in shown:
        words = line.split()
        command: Any = typer.main.get_command(app_for())
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known, line
