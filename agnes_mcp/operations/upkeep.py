"""What an instance does beside its calls: before the first one, ahead of them, and when its configuration changes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import ScanSettings, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.kinds import Sources

if TYPE_CHECKING:
    from agnes_mcp.operations.retention import Retention
    from agnes_mcp.snapshots import SnapshotStore
    from agnes_mcp.spending.accounts import Accounts
    from agnes_mcp.spending.recovery import Recovery

#: A host waits for the first answers; Google's libraries take a second to load.
_ATTACH_AFTER_S = 2.0
#: Where attaching was not even begun.
_ATTACH_AGAIN_S = 60.0
#: A token, and the extension's download where it is not here yet.
_MAKE_READY_WITHIN_S = 180.0
logger = logging.getLogger(__name__)


class Restoring:
    """Before the first call: what the audit says was billed today counts, and leftovers of a crash are removed."""

    def __init__(
        self,
        calls: Calls,
        registry: Registry,
        store: SnapshotStore,
        accounts: Accounts,
        recovery: Recovery,
        retention: Retention,
        data_dir: Path,
    ) -> None:
        self._calls, self._registry, self._store = calls, registry, store
        self._accounts, self._recovery, self._retention = accounts, recovery, retention
        self._data_dir = data_dir

    def restore(self) -> None:
        """What fails is logged, and told by the calls that it then fails. Blocking."""
        # The folder is made private before anything is written in it; ids are bound before a grant is looked at; and
        # the books know of the day before anything can be bought, or a restart would give it back.
        from agnes_mcp.spending.books import utc_now

        make_private(self._data_dir)
        self._retention.start()
        try:
            self._store.sweep()
        except AgnesError as error:
            logger.warning("leftovers of snapshots not removed: %s", error.kind)
        try:
            for moved in self._registry.bind():
                logger.warning("the id %s meant %s and means %s now", *moved)
        except AgnesError as error:
            logger.error("%s", error.message)
        try:
            self._accounts.restore(lambda: self._calls.audit.billed_today(utc_now()))
            self._recovery.begin()
        except AgnesError as error:  # what spends is refused by the books themselves
            logger.error("the quota's books cannot be asked: %s", error.kind)

    def close(self) -> None:
        self._recovery.close()
        self._retention.close()


class Attaching:
    """Attaches what is to be attached, in a thread, once the first answers have left; `wanted`: ahead of any call."""

    def __init__(self, calls: Calls, registry: Registry, sources: Sources, *, wanted: bool) -> None:
        self._calls, self._registry, self._sources = calls, registry, sources
        self._wanted = wanted
        self._closing, self._now = threading.Event(), threading.Event()

    def start(self) -> None:
        """For whoever serves."""
        if self._wanted and "bigquery" in self._sources.kinds:
            threading.Thread(target=self._make_ready, name="agnes-attach", daemon=True).start()

    def try_now(self) -> None:
        """Rather than when the next try is due."""
        self._now.set()

    def close(self) -> None:
        self._closing.set()
        self._now.set()

    def _make_ready(self) -> None:
        """Until it stands, or never will: what fails says when it is worth another try."""
        wait_s: float | None = _ATTACH_AFTER_S
        while wait_s is not None:
            self._now.wait(wait_s)
            self._now.clear()
            if self._closing.is_set():
                return
            call = self._calls.background("attach", _MAKE_READY_WITHIN_S)
            try:
                wait_s = self._sources.make_ready("bigquery", call, list(self._registry.by_id.values()))
            except AgnesError as error:
                logger.warning("BigQuery's extension is not attached: %s", error.kind)
                wait_s = _ATTACH_AGAIN_S


class Upkeep:
    """What a server has done once its client has seen the tools (`ahead`), and when its configuration changes.

    `scan` is the one section of limits that every part of the instance looks at.
    """

    def __init__(
        self,
        calls: Calls,
        access: Access,
        registry: Registry,
        tables: Tables,
        sources: Sources,
        attaching: Attaching,
        scan: ScanSettings,
        ahead: Callable[[], None] | None = None,
    ) -> None:
        self._calls, self._access, self._registry, self._tables = calls, access, registry, tables
        self._sources, self._attaching = sources, attaching
        self._scan = scan
        self._ahead = ahead

    async def make_ready(self) -> None:
        """What can be done ahead of the first call, once."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await anyio.to_thread.run_sync(ahead)

    async def reload(self, settings: Settings) -> None:
        """Take over the tables, users, grants and limits of these settings; everything else needs a new start. What
        could not be had so far is tried again."""
        call, access = self._calls.background("reload"), settings.access
        # While tables are exchanged, an id that changes is read by those alone who may read both of what it means.
        unsettled = await self._calls.run(call, lambda: self._registry.unsettled(settings.tables))
        self._access.replace(access.users, access.groups, unsettled)
        changed = await self._calls.run(call, lambda: self._registry.replace_configured(settings))
        for table_id in changed:
            self._tables.forget(table_id)
        self._access.replace(access.users, access.groups)
        for name in type(self._scan).model_fields:
            setattr(self._scan, name, getattr(settings.api.scan, name))
        self._sources.try_again()
        self._attaching.try_now()


def make_private(folder: Path) -> None:
    """Rows and bills are this user's own: nobody else of this machine looks into the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sys.platform != "win32" and folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:  # whatever writes there says so for itself
        logger.warning("data_dir could not be made private: %s", error.strerror)
