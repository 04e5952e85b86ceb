"""People at a keyboard read of commands and flags, never of tools and their arguments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cli.conftest import Run

from agnes_mcp.cli.looking import _bigquery
from agnes_mcp.cli.words import counted, for_shell, moment_in_words


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
    ],
)
def test_a_tools_words_become_a_shells(of_a_tool: str, of_a_shell: str) -> None:
    assert for_shell(of_a_tool) == of_a_shell


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
