"""Foreign text made fit to show."""

from __future__ import annotations

import sys
import unicodedata

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


@pytest.mark.parametrize(
    "text",
    [
        "Příliš žluťoučký kůň",
        "日本語のテキスト、全角　空白",
        "辻\U000e0100さん",  # an ideograph and its variant
        "می\u200cخواهم کتاب\u200cها",  # noqa: RUF001 - Persian
        "क\u094d\u200dष क\u094d\u200cष র\u200d\u09cdয ශ\u0dca\u200dරී",  # Devanagari, Bengali, Sinhala
        "שָׁלוֹם אבג",
        "ភាសា\u200bខ្មែរ",  # Khmer, whose words have no spaces
        "👨\u200d👩\u200d👧 👩🏽\u200d🚀 🏳\ufe0f\u200d🌈 🙂\u200d↔\ufe0f ❤\ufe0f\u200d🔥 1\ufe0f\u20e3 ©\ufe0f",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "two\nlines\tand a tab",
    ],
)
def test_what_scripts_and_emoji_need_stays(text: str) -> None:
    assert untrusted.revealed({"a": [text]}) == ({"a": [text]}, 0)
    assert untrusted.tidy(text) == text
    assert untrusted.find_hidden(text) == -1


@pytest.mark.parametrize(
    ("text", "shown", "count"),
    [
        ("pay\u202ecba", "pay<U+202E>cba", 1),
        ("a\u200b\u200b\u200bb", "a<U+200B×3>b", 3),
        ("न\u200d\u200d", "न\u200d<U+200D>", 1),  # one joiner works, a second says something else
        ("latin\u200dletters", "latin<U+200D>letters", 1),
        ("x\ufe0f", "x<U+FE0F>", 1),
        ("❤\ufe0f\ufe0f\ufe01", "❤\ufe0f<U+FE0F><U+FE01>", 2),  # text in a run of variation selectors
        ("🏴\U000e0068\U000e0069\U000e007f", "🏴<U+E0068><U+E0069><U+E007F>", 3),  # no flag, but words
        ("1\ufe0f2", "1<U+FE0F>2", 1),
        ("\ufff9a\ufffab\ufffb", "<U+FFF9>a<U+FFFA>b<U+FFFB>", 3),
        ("\x00\x1b[31m\x9b", "<U+0000><U+001B>[31m<U+009B>", 3),
    ],
)
def test_what_is_hidden_is_shown_and_counted(text: str, shown: str, count: int) -> None:
    assert untrusted.revealed([text]) == ([shown], count)
    assert untrusted.revealed(shown) == (shown, 0)
    assert untrusted.find_hidden(untrusted.tidy({text: 1}).popitem()[0]) == -1


def test_every_character_that_unicode_calls_invisible_is_hidden() -> None:
    """By the table that Python has, which is older or newer than ours; marks of numbers and verses are seen."""
    seen = set("\t\r\n\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
    everything = map(chr, range(sys.maxunicode + 1))
    unseen = {c for c in everything if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}
    assert {c for c in unseen if not untrusted.is_unseen(c)} == seen
