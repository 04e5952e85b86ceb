"""What a snapshot may be called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import NAME_PATTERN, SCAN_PREFIX, check_name, default_name, scan_name
from agnes_mcp.snapshots.names import folder_name

GOOD = ["a", "_", "web_sessions", "s1", "_1", "a" * 64, "select", "snap_orders", "connection", "com"]
HOSTILE = [
    "",
    "s1\n",
    "\ns1",
    "../x",
    "..",
    ".",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "a.meta.json",
    "a\x00",
    "A",
    "1a",
    "a-b",
    "a b",
    "a" * 65,
    'a"; DROP',
    "é",
    "a\u0660",  # an Arabic digit
    "\u017f",  # folds to s
    "%2e%2e",
    "~",
    "$HOME",
    "con",
    "nul",
    "com1",
    "lpt9",
]

TABLE_IDS = st.from_regex(r"[a-z0-9_]{1,64}", fullmatch=True)


@pytest.mark.parametrize("name", GOOD)
def test_a_plain_name_is_taken_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_text_is_refused(name: str) -> None:
    with pytest.raises(AgnesError) as refused:
        check_name(name)
    assert refused.value.kind == "invalid_argument"
    assert "\n" not in refused.value.message


def test_the_id_of_a_table_is_refused_as_a_name() -> None:
    with pytest.raises(AgnesError, match="id of a table"):
        check_name("orders", taken={"orders"})


@given(TABLE_IDS, st.sets(TABLE_IDS), st.integers(0, 12))
def test_a_default_name_is_free_and_valid(table_id: str, tables: set[str], made: int) -> None:
    existing: set[str] = set()
    for _ in range(made):
        existing.add(default_name(table_id, tables, existing))
    name = default_name(table_id, tables, existing)
    assert len(existing) == made
    assert name not in tables | existing
    assert check_name(name) == name


def test_a_default_name_avoids_a_table_that_looks_like_one() -> None:
    assert default_name("orders") == "snap_orders"
    assert default_name("orders", taken={"snap_orders"}) == "snap_orders_2"
    assert default_name("orders", {"snap_orders"}, {"snap_orders_2"}) == "snap_orders_3"


def test_long_table_ids_that_begin_alike_get_different_names() -> None:
    assert default_name("x" * 62 + "_a") != default_name("x" * 62 + "_b")


@given(TABLE_IDS)
def test_names_of_automatic_snapshots_are_marked_and_differ(table_id: str) -> None:
    first, second = scan_name(table_id), scan_name(table_id)
    assert first != second
    assert first.startswith(SCAN_PREFIX)
    assert check_name(first) == first


@given(st.text())
def test_a_folder_name_is_safe_whatever_the_principal(principal: str) -> None:
    assert re.fullmatch(r"u[0-9a-f]{32}", folder_name(principal))


@given(st.text(), st.text())
def test_two_principals_never_share_a_folder(one: str, other: str) -> None:
    assert (folder_name(one) == folder_name(other)) == (one == other)


def test_the_published_pattern_is_the_one_that_is_checked() -> None:
    assert all(re.fullmatch(NAME_PATTERN, name) for name in GOOD)
