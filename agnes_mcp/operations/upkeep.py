"""What an instance does beside its calls: before the first one, ahead of them, and when its configuration changes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio.to_thread

from agnes_mcp.access.grants import Access
from agnes_mcp.calls.frame import Calls
from agnes_mcp.catalog.registry import Registry
from agnes_mcp.catalog.tables import Tables
from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.operations.retention import Retention
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.sources.kinds import Sources
from agnes_mcp.spending.accounts import Accounts
from agnes_mcp.spending.books import utc_now
from agnes_mcp.spending.recovery import Recovery

#: A host waits for the first answers; Google's libraries take a second to load.
_ATTACH_AFTER_S = 2.0
#: Where attaching was not even begun.
_ATTACH_AGAIN_S = 60.0
#: A token, and the extension's download where it is not here yet.
_MAKE_READY_WITHIN_S = 180.0
logger = logging.getLogger(__name__)


class Upkeep:
    """Nobody calls for it: what fails here is logged, and told by the calls that it then fails."""

    def __init__(
        self,
        calls: Calls,
        access: Access,
        registry: Registry,
        tables: Tables,
        sources: Sources,
        store: SnapshotStore,
        accounts: Accounts,
        recovery: Recovery,
        retention: Retention,
        settings: Settings,
        ahead: Callable[[], None] | None = None,
    ) -> None:
        self._calls, self._access, self._settings = calls, access, settings
        self._registry, self._tables, self._sources, self._store = registry, tables, sources, store
        self._accounts, self._recovery, self._retention = accounts, recovery, retention
        self._ahead = ahead
        self._closing, self._attach_now = threading.Event(), threading.Event()

    def restore(self) -> None:
        """Before the first call: what the audit says was billed today counts, and leftovers of a crash are removed."""
        # The folder is made private before anything is written in it; ids are bound before a grant is looked at; and
        # the books know of the day before anything can be bought, or a restart would give it back.
        make_private(self._settings.data_dir)
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

    async def make_ready(self) -> None:
        """What can be done ahead of the first call. A server does it once its client has seen the tools."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            await anyio.to_thread.run_sync(ahead)

    async def reload(self, settings: Settings) -> None:
        """Take over the tables, users, grants and limits of these settings; everything else needs a new start. What
        could not be had so far is tried again."""
        call = self._calls.background("reload")
        changed = await self._calls.run(call, lambda: self._registry.replace_configured(settings))
        for table_id in changed:
            self._tables.forget(table_id)
        self._access.replace(settings.access.users, settings.access.groups)
        limits = self._settings.api.scan  # the one that every part of the instance looks at
        for name in type(limits).model_fields:
            setattr(limits, name, getattr(settings.api.scan, name))
        self._sources.try_again()
        self._attach_now.set()

    def attach_ahead(self) -> None:
        """For whoever serves: attach what is to be attached, in a thread, once the first answers have left."""
        bigquery = self._settings.data_source.bigquery
        if bigquery is not None and bigquery.attach in ("auto", "eager") and "bigquery" in self._sources.kinds:
            threading.Thread(target=self._make_ready, name="agnes-attach", daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._attach_now.set()
        self._recovery.close()
        self._retention.close()

    def _make_ready(self) -> None:
        """Until it stands, or never will: what fails says when it is worth another try."""
        wait_s: float | None = _ATTACH_AFTER_S
        while wait_s is not None:
            self._attach_now.wait(wait_s)
            self._attach_now.clear()
            if self._closing.is_set():
                return
            call = self._calls.background("attach", _MAKE_READY_WITHIN_S)
            try:
                wait_s = self._sources.make_ready("bigquery", call, list(self._registry.by_id.values()))
            except AgnesError as error:
                logger.warning("BigQuery's extension is not attached: %s", error.kind)
                wait_s = _ATTACH_AGAIN_S


def make_private(folder: Path) -> None:
    """Rows and bills are this user's own: nobody else of this machine looks into the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sys.platform != "win32" and folder.stat().st_uid == os.getuid():
            folder.chmod(0o700)
    except OSError as error:  # whatever writes there says so for itself
        logger.warning("data_dir could not be made private: %s", error.strerror)
