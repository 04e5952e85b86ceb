"""Ages and sizes as people write them; bad and empty strings are refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots.amounts import format_bytes, parse_age, parse_size

BAD = [
    "",
    " ",
    "x",
    "7",
    "d",
    "7dd",
    "-7d",
    "+7d",
    "7.5d",
    "7 d",
    " 7d",
    "7d\n",
    "0d",
    "0m",
    "00k",
    "1e3g",
    "\u0667d",
    "7days",
]


@pytest.mark.parametrize(
    ("text", "age"),
    [("7d", timedelta(days=7)), ("12h", timedelta(hours=12)), ("30m", timedelta(minutes=30)), ("01d", timedelta(1))],
)
def test_an_age_is_days_hours_or_minutes(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize(
    ("text", "size"), [("1k", 1024), ("500m", 500 * 1024**2), ("1g", 1024**3), ("2T", 2 * 1024**4), ("1K", 1024)]
)
def test_a_size_is_a_number_and_a_power_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [*BAD, "7D", "1k", "1g", "9999999999d"])
def test_what_is_no_age_is_an_error(text: str) -> None:
    with pytest.raises(AgnesError) as refused:
        parse_age(text)
    assert (refused.value.kind, refused.value.details["argument"]) == ("invalid_argument", "older_than")


@pytest.mark.parametrize("text", [*BAD, "1d", "1h", "1gb", "9999999999999k", "zz"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(AgnesError) as refused:
        parse_size(text)
    assert (refused.value.kind, refused.value.details["argument"]) == ("invalid_argument", "larger_than")


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,13}[dhmkgtDG]?", fullmatch=True))
@pytest.mark.parametrize(
    ("parse", "pattern"), [(parse_age, r"[0-9]{1,9}[dhm]"), (parse_size, r"[0-9]{1,12}[kmgtKMGT]")]
)
def test_any_text_is_an_amount_above_zero_or_a_clear_error(
    parse: Callable[[str], timedelta | int], pattern: str, text: str
) -> None:
    if re.fullmatch(pattern, text) and int(text[:-1]) > 0:
        assert parse(text)
    else:
        with pytest.raises(AgnesError) as refused:
            parse(text)
        assert refused.value.kind == "invalid_argument"


@given(st.integers(1, 10**9 - 1), st.sampled_from("dhm"))
def test_every_age_that_can_be_written_is_understood(count: int, unit: str) -> None:
    assert (
        parse_age(f"{count}{unit}") == count * {"d": timedelta(1), "h": timedelta(0, 3600), "m": timedelta(0, 60)}[unit]
    )


@given(st.integers(1, 10**12 - 1), st.sampled_from("kmgt"))
def test_every_size_that_can_be_written_is_understood(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == count * 1024 ** ("kmgt".index(unit) + 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1536, "1.5 KB"),
        (10 * 1024**3, "10.0 GB"),
        (5 * 1024**5, "5120.0 TB"),
    ],
)
def test_sizes_are_shown_in_powers_of_1024(count: int, text: str) -> None:
    assert format_bytes(count) == text
