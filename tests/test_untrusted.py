"""Foreign text made fit to show."""

from __future__ import annotations

import pytest

from agnes_mcp import untrusted


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [redacted]"),
        ("ya29.a0Af_x-y.z and more", "[redacted] and more"),
        ('{"access_token": "abc", "x": 1}', '{"access_token[redacted]", "x": 1}'),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_credentials_go_by_their_shape(text: str, left: str) -> None:
    assert untrusted.redact(text) == left


def test_a_remembered_secret_goes_whatever_its_shape() -> None:
    untrusted.remember("plain-word-secret")
    assert untrusted.redact("it is plain-word-secret.") == "it is [redacted]."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Could not convert string 'ana@example.com' to INT32", "Could not convert string '…' to INT32"),
        ("Could not convert string 'it's 'x' y' to INT32", "Could not convert string '…' to INT32"),
        ("Could not convert string 'mine' to INT32", "Could not convert string 'mine' to INT32"),
        ("Type INT64 with value 4200003 is out of range", "Type INT64 with value … is out of range"),
        ("Type INT64 with value 17 is out of range", "Type INT64 with value 17 is out of range"),
        ("can't do it", "can't do it"),
    ],
)
def test_values_that_are_not_the_agents_own_go(text: str, left: str) -> None:
    assert untrusted.without_values(text, "SELECT 'mine', 17") == left


@pytest.mark.parametrize("character", ["\u202e", "\u200b", "\U000e0041", "\x1b", "\x00", "\u2028", "\ufeff"])
def test_what_nobody_sees_is_not_shown(character: str) -> None:
    assert untrusted.is_unseen(character)
    assert untrusted.visible(f"a{character}b", 10) == "a\ufffdb"


def test_cleaned_text_is_one_line_of_bounded_length() -> None:
    assert untrusted.clean(" a\tb\nc\u202e\x1b[31m ", 100) == "a b c[31m"
    assert untrusted.clean("x" * 50, 10) == "x" * 9 + "…"
