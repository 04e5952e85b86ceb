"""Who may read which table. Nothing is granted unless it is written down."""

from __future__ import annotations

import getpass
import hashlib
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Literal

from agnes_mcp.config.settings import GroupSettings, UserSettings
from agnes_mcp.models import Principal, Table


@dataclass(frozen=True)
class Grants:
    """What a principal may read and spend. None for a limit: the instance's own."""

    tables: frozenset[str] | Literal["*"] = field(default_factory=frozenset)
    datasets: tuple[str, ...] = ()  # `project.dataset.`: every table that is there, those to come too
    max_daily_bytes: int | None = None
    max_concurrent: int | None = None
    groups: tuple[tuple[str, int | None], ...] = ()  # names, with the bytes a day that their members share
    admin: bool = False
    withheld: frozenset[str] = frozenset()  # ids of `tables` that were not granted before, and mean another table yet

    def covers(self, table_id: str, place: str = "") -> bool:
        """Whether the table is granted, by its id or by where it is (`project.dataset.table`; empty: a file)."""
        named = (self.tables == "*" or table_id in self.tables) and table_id not in self.withheld
        return named or place.startswith(self.datasets or ("\0",))

    def withholding(self, unsettled: Collection[str], before: Grants) -> Grants:
        """The same without those of these ids that `before` did not name."""
        named = unsettled if self.tables == "*" else self.tables.intersection(unsettled)
        withheld = frozenset(name for name in named if not before.covers(name))
        return replace(self, withheld=withheld) if withheld else self


NOTHING = Grants()
EVERYTHING = Grants(tables="*")


@cache
def os_user() -> Principal:
    """The principal of stdio: whoever started the process, who can read its files anyway."""
    try:
        return Principal(getpass.getuser(), local=True)
    except (KeyError, OSError, ImportError):  # a container's uid without a name
        return Principal("local", local=True)


def generate_token() -> str:
    """A new bearer token: 256 random bits, with a prefix by which scanners for leaked secrets can know it."""
    return f"agnes_{secrets.token_urlsafe(32)}"


def digest_token(token: str) -> str:
    """What is kept of a token. A random token of this length needs no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _grants_of(user: UserSettings, groups: list[GroupSettings], project: str) -> Grants:
    granted = [user.tables, *(group.tables for group in groups)]
    named = [name for names in granted if names != "*" for name in names]
    datasets = (name.removesuffix("*") for name in named if name.endswith(".*"))
    return Grants(
        tables="*" if "*" in granted else frozenset(name for name in named if not name.endswith(".*")),
        datasets=tuple(sorted({name if name.count(".") > 1 else f"{project}.{name}" for name in datasets})),
        max_daily_bytes=user.max_daily_bytes,
        max_concurrent=user.max_concurrent,
        groups=tuple((group.name, group.max_daily_bytes) for group in groups),
        admin=user.admin or any(group.admin for group in groups),
    )


class Access:
    """The grants of this instance; replaced whole when the instance's file changes."""

    def __init__(self, users: Iterable[UserSettings], groups: Iterable[GroupSettings] = (), project: str = "") -> None:
        """`project` is where the datasets are that a grant names without one."""
        self._project = project
        self._grants: dict[str, Grants] = {}  # all three: of configured users, replaced whole
        self._by_token: dict[str, str] = {}  # by SHA-256
        self._last_days: dict[str, date] = {}  # of those whose access ends
        self.replace(users, groups)

    def replace(
        self,
        users: Iterable[UserSettings],
        groups: Iterable[GroupSettings] = (),
        unsettled: Collection[str] = (),
    ) -> None:
        """`unsettled`: ids that mean another table to whoever granted them now than is served yet. Until it is, only
        those may read it who might before, and may now."""
        users, by_name = list(users), {group.name: group for group in groups}
        grants = {user.name: _grants_of(user, [by_name[name] for name in user.groups], self._project) for user in users}
        if unsettled:
            kept = self._grants
            grants = {name: new.withholding(unsettled, kept.get(name, NOTHING)) for name, new in grants.items()}
        self._last_days = {user.name: user.expires for user in users if user.expires}
        self._grants, self._by_token = grants, {u.token_sha256: u.name for u in users if u.token_sha256}

    @property
    def has_users(self) -> bool:
        return bool(self._grants)

    def knows(self, name: str) -> bool:
        """Whether that user is configured and may call today."""
        last_day = self._last_days.get(name)
        return name in self._grants and (last_day is None or datetime.now(UTC).date() <= last_day)

    @property
    def names(self) -> list[str]:
        return sorted(self._grants)

    def grants(self, principal: Principal) -> Grants:
        return EVERYTHING if principal.local else self._grants.get(principal.name, NOTHING)

    def readable(self, principal: Principal, tables: Iterable[Table]) -> list[Table]:
        """Those of the tables that the principal may read, in the same order."""
        grants = self.grants(principal)
        return [table for table in tables if grants.covers(table.id, table.place)]

    def may_read(self, principal: Principal, table_id: str, place: str = "") -> bool:
        return self.grants(principal).covers(table_id, place)

    def is_admin(self, name: str) -> bool:
        """Whether that user sees what others do."""
        return self._grants.get(name, NOTHING).admin

    def holder(self, token_sha256: str) -> str | None:
        """The user who may call today with the token of that digest."""
        name = self._by_token.get(token_sha256)
        return name if name is not None and self.knows(name) else None

    def by_token(self, token: str) -> Principal | None:
        """The user whose token this is. Tokens are compared by digest, each of them, in constant time."""
        import hmac

        presented = digest_token(token)
        found: Principal | None = None
        for digest, name in self._by_token.items():
            if hmac.compare_digest(digest, presented):
                found = Principal(name)
        return found if found is not None and self.knows(found.name) else None
