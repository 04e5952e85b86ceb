"""Grants: nothing by default, looked up on every call, and no word about what may not be seen."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.instances import settings_of, tables_of

from agnes_mcp.access.grants import Access
from agnes_mcp.config.settings import GroupSettings, Settings, UserSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.gateway import Gateway
from agnes_mcp.models import Aggregate, Principal, ScanRequest

ANA, BEN, EVE = Principal("ana"), Principal("ben"), Principal("eve")

Ask = Callable[[Gateway, Principal, str], Awaitable[Any]]
CALLS: dict[str, Ask] = {
    "schema": lambda g, who, t: g.catalog.columns(who, t),
    "sample": lambda g, who, t: g.descriptions.sample(who, t),
    "describe": lambda g, who, t: g.descriptions.describe(who, t, profile=True),
    "estimate": lambda g, who, t: g.scans.estimate(who, ScanRequest(table_id=t)),
    "scan": lambda g, who, t: g.scans.scan(who, ScanRequest(table_id=t, aggregates=[Aggregate(function="count")])),
    "fetch": lambda g, who, t: g.fetches.fetch(who, ScanRequest(table_id=t, limit=1), name="kept", force=True),
}


@pytest.fixture
def settings(tmp_path: Path, files: dict[str, Path]) -> Settings:
    users = [
        {"name": "ana", "tables": "*"},
        {"name": "ben", "tables": ["orders"], "max_daily_bytes": 0, "max_concurrent": 1},
        {"name": "nobody", "tables": []},
    ]
    return settings_of(tmp_path / "state", tables_of(files), access={"users": users})


async def failure(asked: Awaitable[Any]) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        await asked
    return caught.value


def faceless(error: AgnesError, table_id: str) -> tuple[str, str, str, dict[str, Any]]:
    """The error without the name that was asked for and the request's id."""
    details = {key: value for key, value in error.details.items() if key != "request_id"}
    return error.kind, error.message.replace(table_id, "?"), error.hint, {**details, "table_id": "?"}


@pytest.mark.parametrize("who", [EVE, Principal("nobody"), Principal("")])
async def test_nothing_is_visible_without_a_grant(gateway: Gateway, who: Principal) -> None:
    answer = await gateway.catalog.browse(who)
    assert (answer.tables, answer.total) == ([], 0)
    assert (await gateway.usage.today(who)).tables_visible == 0
    for ask in CALLS.values():
        assert (await failure(ask(gateway, who, "orders"))).kind == "table_not_found"


async def test_a_star_grants_every_table_and_a_list_only_its_own(gateway: Gateway) -> None:
    everything = {entry.id for entry in (await gateway.catalog.browse(ANA)).tables}
    assert everything == {"orders", "events", "parts", "prices", "people", "cities"}
    assert [entry.id for entry in (await gateway.catalog.browse(BEN)).tables] == ["orders"]
    for ask in CALLS.values():
        await ask(gateway, BEN, "orders")


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS.keys())
async def test_forbidden_and_absent_tables_cannot_be_told_apart(gateway: Gateway, ask: Ask) -> None:
    """Existence is not disclosed, though the caches are warm."""
    await CALLS["describe"](gateway, ANA, "people")
    forbidden = await failure(ask(gateway, BEN, "people"))
    absent = await failure(ask(gateway, BEN, "puople"))
    assert faceless(forbidden, "people") == faceless(absent, "puople")


async def test_suggestions_name_only_what_is_visible(gateway: Gateway) -> None:
    near_forbidden = await failure(gateway.catalog.columns(BEN, "peopl"))
    assert "people" not in f"{near_forbidden.message} {near_forbidden.hint} {near_forbidden.details}".replace(
        "peopl'", ""
    )
    near_granted = await failure(gateway.catalog.columns(BEN, "order"))
    assert near_granted.hint == "Did you mean orders?"
    assert (await failure(gateway.catalog.columns(ANA, "peopl"))).details["nearest"][0] == "people"


@pytest.mark.parametrize("ask", CALLS.values(), ids=CALLS.keys())
async def test_a_revoked_grant_is_gone_at_the_next_call(gateway: Gateway, ask: Ask) -> None:
    """Grants are read before any cache."""
    for warm in CALLS.values():
        await warm(gateway, BEN, "orders")
    gateway.access.replace([UserSettings(name="ben", tables=["people"])])
    assert (await failure(ask(gateway, BEN, "orders"))).kind == "table_not_found"
    assert [entry.id for entry in (await gateway.catalog.browse(BEN)).tables] == ["people"]
    gateway.access.replace([UserSettings(name="ben", tables=["orders"])])
    await ask(gateway, BEN, "orders")


async def test_a_catalog_search_finds_nothing_in_hidden_tables(gateway: Gateway) -> None:
    await gateway.catalog.browse(ANA, search="person_id")
    assert (await gateway.catalog.browse(BEN, search="person_id")).total == 0
    assert (await gateway.catalog.browse(BEN, search="country")).total == 1


async def test_limits_of_a_user_replace_the_instance_s(gateway: Gateway) -> None:
    """0 of a user is zero."""
    quota = (await gateway.usage.today(BEN)).quota
    assert (quota.daily_bytes_limit, quota.max_concurrent_scans) == (0, 1)
    quota = (await gateway.usage.today(ANA)).quota
    assert (quota.daily_bytes_limit, quota.max_concurrent_scans) == (50 * 2**30, 5)


def test_a_member_of_a_group_reads_its_tables_beside_its_own() -> None:
    users = [
        UserSettings(name="ana", tables=["people"], groups=["shop"]),
        UserSettings(name="ben", groups=["shop", "all"]),
        UserSettings(name="eve"),
    ]
    groups = [
        GroupSettings(name="shop", tables=["orders"], max_daily_bytes=10),
        GroupSettings(name="all", tables="*"),
    ]
    access = Access(users, groups)
    assert [access.may_read(ANA, table) for table in ("people", "orders", "events")] == [True, True, False]
    assert access.may_read(BEN, "events")
    assert not access.may_read(EVE, "orders")
    assert access.grants(ANA).groups == (("shop", 10),)
    assert access.grants(BEN).groups == (("shop", 10), ("all", None))
    access.replace(users[:1], [GroupSettings(name="shop")])
    assert not access.may_read(ANA, "orders")


def test_a_token_is_known_by_its_digest_only() -> None:
    digest = hashlib.sha256(b"secret").hexdigest()
    access = Access([UserSettings(name="ana", token_sha256=digest), UserSettings(name="ben")])
    assert access.by_token("secret") == ANA
    for wrong in ("", "Secret", digest, "secret\n"):
        assert access.by_token(wrong) is None
    access.replace([])
    assert access.by_token("secret") is None
