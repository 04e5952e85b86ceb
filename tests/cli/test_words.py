"""People at a keyboard read of commands and flags, never of tools and their arguments."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cli.conftest import Run

import agnes_mcp
from agnes_mcp.cli.looking import _bigquery
from agnes_mcp.cli.words import counted, for_shell, moment_in_words
from agnes_mcp.sql.working import WorkingCall


@pytest.mark.parametrize(
    ("of_a_tool", "of_a_shell"),
    [
        ("Call `catalog` for the tables there are.", "Run `agnes-mcp catalog` for the tables there are."),
        ("Then call schema again.", "Then run `agnes-mcp schema` again."),
        ("Call snapshot_list to see them.", "Run `agnes-mcp snapshot list` to see them."),
        ("refresh it with snapshot_refresh, or", "refresh it with `agnes-mcp snapshot refresh`, or"),
        ("replace it with force=true.", "replace it with --force."),
        ("older_than='7d', larger_than='1g' or expired=true", "--older-than 7d, --larger-than 1g or --expired"),
        ("one of older_than, larger_than and expired.", "one of --older-than, --larger-than and --expired."),
        ("Look into `catalog` and snapshot_list.", "Look into `agnes-mcp catalog` and `agnes-mcp snapshot list`."),
        ("see what there is, or fetch to make one.", "see what there is, or `agnes-mcp fetch` to make one."),
        ("dry_run=true shows them first", "--dry-run shows them first"),
        ("what callers of schema say, recall scan", "what callers of schema say, recall scan"),
        ("the column force = true", "the column force = true"),
        ("Call again in a moment.", "Call again in a moment."),
        ('Call query(sql="SELECT 1"); it is free.', "Run `agnes-mcp query 'SELECT 1'`; it is free."),
        (
            "Refresh it, or fetch(sql=…) under another name.",
            "Refresh it, or `agnes-mcp fetch --sql …` under another name.",
        ),
        (
            'First fetch(table_id="a", name="snap_a"), fetch(table_id="b", name="snap_b"), each',
            "First `agnes-mcp fetch --as snap_a a`, `agnes-mcp fetch --as snap_b b`, each",
        ),
        (
            'Give scan(table_id="t", select=["a", "b"], group_by=["c d"], where="x = \'y\'", limit=5).',
            """Give `agnes-mcp scan --select a,b --group-by 'c d' --where 'x = '"'"'y'"'"'' --limit 5 t`.""",
        ),
        (
            'scan(table_id="t", aggregates=[{"function": "count"}, {"function": "sum", "column": "x", "alias": "y"}])',
            "`agnes-mcp scan --aggregate count --aggregate sum:x:y t`",
        ),
        ('call snapshot_drop(name="kept", force=true)', "run `agnes-mcp snapshot drop --force kept`"),
        (
            "`schema` names it; leave it out of `select` and `order_by`.",
            "`agnes-mcp schema` names it; leave it out of `--select` and `--order-by`.",
        ),
        ("the column 'order_by' and t.group_by", "the column 'order_by' and t.group_by"),
        ("scan(where=", "scan(where="),
    ],
)
def test_a_tools_words_become_a_shells(of_a_tool: str, of_a_shell: str) -> None:
    assert for_shell(of_a_tool) == of_a_shell


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'it''s', \"a b\"",
        "-- first\nSELECT\t'\\'",
        "SELECT `x` FROM t WHERE y = ')' AND z = \"(sql=\"",
        "é $HOME !",
    ],
)
def test_a_call_with_any_text_is_a_command_that_a_shell_takes_as_it_was(sql: str) -> None:
    said = for_shell(f"Call {WorkingCall('query', {'sql': sql})}, in DuckDB's dialect.")
    assert "\n" not in said
    command = said.removeprefix("Run `agnes-mcp ").removesuffix("`, in DuckDB's dialect.")
    taken = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    assert [word for word in taken.stdout.split("\0") if word not in ("--", "")] == ["query", sql]


def _literals() -> Iterator[str]:
    """Every text that the package holds on one line, `x` where a value stands in it; no docstrings."""
    for file in sorted(Path(agnes_mcp.__file__).parent.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            if id(node) in inside | told or not isinstance(node, ast.JoinedStr | ast.Constant):
                continue
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in parts)
            if "\n" not in text and "\\b" not in text:
                yield text


def test_no_text_of_the_package_leaves_a_tools_call_or_name_to_a_shell() -> None:
    tools = "catalog|schema|describe|sample|estimate|scan|fetch|query|usage|chart"
    left = re.compile(
        rf"\b(?:{tools}|snapshot_\w+|disk_info)`?\([a-z_]+=|`(?:{tools})`|\b[Cc]all `?(?:{tools})\b"
        r"|(?<![\w`-])snapshot_(?:list|refresh|drop|prune)\(|\b(?:force|dry_run|estimate_only|expired)=true"
    )
    texts = list(_literals())
    calls = [text for text in texts if left.search(text)]
    assert len(calls) > 30  # there is something to be reworded
    assert [text for text in calls if left.search(for_shell(text))] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nope",), "Error: No such command 'nope'. Hint: `agnes-mcp -h` shows"),
        (("init", "--folder", "x"), "Error: No such option: --folder"),
        (
            ("install", "nope"),
            "Error: Invalid value for 'host': 'nope' is not one of 'claude-code', 'claude-desktop'. ",
        ),
        (("scan", "t", "--limit", "abc"), "Error: Invalid value for '--limit': it should be a whole number. Hint"),
        (
            ("scan", "t", "--limit", "-1"),
            "Error: Invalid value for '--limit': it should be greater than or equal",
        ),
        (("schem", "t"), "Error: No such command 'schem'. Did you mean 'schema'? Hint: "),
        (("token", "add", ""), "Error: name: should not be empty. Hint: "),
        (("snapshot", "show"), "Error: Missing argument 'name'. Hint: `agnes-mcp snapshot show -h` shows"),
        (("scan",), "Error: There is nothing to read. Hint: Name a table, as `agnes-mcp catalog` lists them, or give"),
    ],
)
def test_a_line_that_is_not_understood_is_answered_with_one(run: Run, arguments: tuple[str, ...], said: str) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(said)


@pytest.mark.parametrize("arguments", [(), ("token",), ("snapshot",)])
def test_no_arguments_at_all_show_the_help(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert "Usage: agnes-mcp" in ran.out + ran.err
    assert "Error" not in ran.out + ran.err


def test_numbers_and_moments_are_in_words() -> None:
    assert [counted(number, "row") for number in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    moment = datetime(2026, 1, 31, 14, 5, 9, 123, tzinfo=timezone(timedelta(hours=2)))
    assert (moment_in_words(moment), moment_in_words(None)) == ("2026-01-31 12:05 UTC", None)
    assert moment_in_words(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01 00:00 UTC"


def test_what_is_known_of_bigquery_is_told_without_python() -> None:
    assert _bigquery({"configured": False}) == "not configured"
    known = {"project": "my-project", "token": {"mode": "auto", "last_error": None}, "attached": True, "datasets": []}
    assert _bigquery(known) == "project my-project, token mode auto, attached yes, datasets none"


@pytest.mark.parametrize("sql", ["drop table x", "INSERT INTO t VALUES (1)", "COPY t TO 'x'", "SET threads = 1"])
def test_what_is_no_select_is_told_what_is_admitted(run: Run, shop: Path, sql: str) -> None:
    ran = run("query", sql)
    assert (ran.code, "Only one SELECT is admitted" in ran.err, "serialize" in ran.err) == (2, True, False), ran.err
