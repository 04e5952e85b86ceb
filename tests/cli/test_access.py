"""Users come and go in instance.yaml, and everything else in it stays as it was written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cli.conftest import Run
from support.agnes import extract, parquet

from agnes_mcp.access.grants import Access
from agnes_mcp.config.loading import load_grants

FILE = """\
# the shop's instance
data_dir: ./state  # beside this file
tables:
  - id: orders
    path: "orders.parquet"   # quoted on purpose
access:
  users:
    # our analyst
    - name: ana@example.com
      token_sha256: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
      tables: "*"  # everything
# what follows the users
server:
  port: 9000
"""


@pytest.fixture
def instance(home: Path) -> Path:
    file = home / "instance.yaml"
    file.write_text(FILE)
    file.chmod(0o600)
    return file


def test_a_token_that_is_added_is_known_and_nothing_else_changes(run: Run, instance: Path) -> None:
    ran = run("token", "add", "jan@example.com", "--tables", "orders, people", "--expires", "2999-01-31")
    token = ran.out.strip()
    assert (ran.code, token.startswith("agnes_"), token in ran.err) == (0, True, False)
    access = Access(load_grants(instance)[0].users)
    assert access.by_token(token) is not None
    written = instance.read_text()
    assert token not in written
    entry = "".join(line for line in written.splitlines(keepends=True) if line not in FILE.splitlines(keepends=True))
    assert [line.split(":")[0].strip(" -") for line in entry.splitlines()] == [
        "name",
        "token_sha256",
        "tables",
        "expires",
    ]
    assert written.replace(entry, "") == FILE
    assert instance.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in instance.parent.iterdir()] == ["instance.yaml"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_of_another_systems_editor_stays_as_it_was_marked(
    run: Run, instance: Path, mark: str, newline: str
) -> None:
    """With an anchor, its alias, and entries on one line."""
    before = FILE.replace('tables: "*"  # everything', "tables: &all [orders]  # everything").replace(
        "# what follows the users", "    - {name: eva@example.com, token_sha256: null, tables: *all}  # on one line"
    )
    instance.write_bytes((mark + before.replace("\n", newline)).encode())
    assert run("token", "add", "jan@example.com", "--tables", "orders").code == 0
    assert run("token", "revoke", "jan@example.com").code == 0
    written = instance.read_bytes().decode()
    assert written == mark + before.replace("\n", newline)


def test_what_was_added_is_listed_and_revoked(run: Run, instance: Path) -> None:
    run("token", "add", "jan@example.com", "--tables", "orders")
    listed = json.loads(run("token", "list", "--json").out)
    assert [(user["name"], user["tables"], user["state"]) for user in listed] == [
        ("ana@example.com", "*", "has a token"),
        ("jan@example.com", ["orders"], "has a token"),
    ]
    assert "every table" in run("token", "list").out
    assert run("token", "revoke", "jan@example.com").code == 0
    assert instance.read_text() == FILE


def test_a_dataset_is_granted_with_the_tables_to_come(run: Run, instance: Path) -> None:
    token = run("token", "add", "jan", "--tables", "orders", "--datasets", "sales, my-project.web.*").out.strip()
    access = Access(load_grants(instance)[0].users, project="other-project")
    jan = access.by_token(token)
    assert jan is not None
    granted = ("other-project.sales.new", "my-project.web.sessions")
    assert [access.may_read(jan, "x", place) for place in (*granted, "my-project.sales.new")] == [True, True, False]
    assert access.may_read(jan, "orders")
    assert "orders, sales.*, my-project.web.*" in run("token", "list").out


def test_what_is_granted_and_not_there_is_said_loudly(run: Run, instance: Path) -> None:
    served = "data_source: {bigquery: {project: my-project, datasets: [stock]}, agnes: {data_dir: .}}\n"
    with_web = FILE.replace("tables:\n", "tables:\n  - {id: web, source_type: bigquery, bucket: sales}\n", 1)
    instance.write_text(with_web.replace("access:", f"{served}access:"))
    parquet(instance.parent / "extracts" / "shop" / "data" / "Mirrored.parquet")
    extract(instance.parent / "extracts" / "zoo", {"animals": "local"}, "CREATE TABLE animals AS SELECT 1 AS id")
    sound = run("token", "add", "jan", "--tables", "orders,web,mirrored,animals", "--datasets", "sales,stock")
    assert (sound.code, "Warning" in sound.err) == (0, False)
    odd = run("token", "add", "eva", "--tables", "ordrs,orders", "--datasets", "sale,other")
    assert odd.code == 0
    assert [line for line in odd.err.splitlines() if "Warning" in line] == [
        "Warning: no table 'ordrs' is known here yet (did you mean orders?); it is granted for when there is one.",
        "Warning: no dataset 'sale' is known here yet (did you mean sales?); it is granted for when there is one.",
        "Warning: no dataset 'other' is known here yet; it is granted for when there is one.",
    ]
    assert "Warning" not in run("token", "add", "all", "--tables", "*").err
    assert "2020-01-01 is over" in run("token", "add", "old", "--tables", "orders", "--expires", "2020-01-01").err


@pytest.mark.parametrize("name", ["no", "1e5", "2024-01-31", "yes: no", "# x"])
def test_a_name_that_yaml_takes_for_something_else_stays_one(run: Run, instance: Path, name: str) -> None:
    token = run("token", "add", name, "--tables", "orders").out.strip()
    found = Access(load_grants(instance)[0].users).by_token(token)
    assert found is not None
    assert found.name == name
    assert run("token", "revoke", name).code == 0
    assert instance.read_text() == FILE


def test_the_last_user_leaves_no_open_door(run: Run, instance: Path) -> None:
    assert run("token", "revoke", "ana@example.com").code == 0
    access = Access(load_grants(instance)[0].users)
    assert (access.has_users, access.by_token("anything")) == (True, None)
    assert run("token", "add", "ana@example.com", "--tables", "*").code == 0
    assert "# what follows the users\n" in instance.read_text()


def test_a_token_ends_with_its_last_day(run: Run, instance: Path) -> None:
    today = datetime.now(UTC).date()
    tokens = {}
    for days in (-1, 0, 1):
        day = today + timedelta(days=days)
        tokens[days] = run("token", "add", f"user{days}", "--tables", "orders", "--expires", str(day)).out.strip()
    access = Access(load_grants(instance)[0].users)
    assert {days: access.by_token(token) is not None for days, token in tokens.items()} == {-1: False, 0: True, 1: True}
    assert [access.knows(f"user{days}") for days in (-1, 0, 1)] == [False, True, True]
    states = {user["name"]: user["state"] for user in json.loads(run("token", "list", "--json").out)}
    assert states["user-1"] == "expired"


def test_a_file_without_users_gets_them(run: Run, home: Path) -> None:
    for text in ("", "# nothing yet\n", "access:\n", "access: {users: []}\n", "data_dir: x\n"):
        (home / "instance.yaml").write_text(text)
        token = run("token", "add", "ana", "--tables", "*").out.strip()
        assert Access(load_grants(home / "instance.yaml")[0].users).by_token(token) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "ana@example.com"), "has a token already"),
        (("add", "x", "--expires", "tomorrow"), "is no date"),
        (("add", "x", "--tables", "a;b"), "as in `web_sessions`"),
        (("add", "x", "--datasets", "a b"), "my_dataset.*"),
        (("add", "x", "--tables", "*", "--datasets", "sales"), "every table"),
        (("add", ""), "name"),
        (("add", "an\u200ba@example.com"), "U+200B"),
        (("add", "\u202eana"), "U+202E"),
        (("revoke", "nobody"), "There is no user"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(run: Run, instance: Path, arguments: tuple[str, ...], said: str) -> None:
    ran = run("token", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Error: ")
    assert said in ran.err
    assert " Hint: " in ran.err
    assert instance.read_text() == FILE


@pytest.mark.parametrize("text", ["a: [", "- a\n", "access: []\n", "access: {users: 5}\n"])
def test_a_file_that_is_no_instance_is_left_alone(run: Run, home: Path, text: str) -> None:
    (home / "instance.yaml").write_text(text)
    assert run("token", "add", "ana").code == 2
    assert (home / "instance.yaml").read_text() == text


def test_without_a_file_the_next_step_is_named(run: Run) -> None:
    ran = run("token", "add", "ana")
    assert (ran.code, "agnes-mcp init" in ran.err) == (2, True)


def test_a_file_behind_a_link_stays_one(run: Run, instance: Path) -> None:
    real = instance.rename(instance.with_name("real.yaml"))
    instance.symlink_to(real)
    assert run("token", "add", "jan").code == 0
    assert instance.is_symlink()
    assert "jan" in real.read_text()
