"""`access.users` as the instance's file has them now: a user who was removed is refused at the next call."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import anyio
import anyio.to_thread

from agnes_mcp.access.grants import Access
from agnes_mcp.config.settings import TableSettings
from agnes_mcp.errors import ConfigError

logger = logging.getLogger(__name__)

#: A file that changed so recently may change again within the same tick of the file system's clock.
_SETTLED_AFTER_S = 0.1

#: Modification time in nanoseconds, size, inode; None: there is no file.
_Stamp = tuple[int, int, int] | None


class AccessFile:
    """Watches one instance.yaml. A file that cannot be read keeps the users as they were; `problem` says why.

    `unsettled` names the ids that mean another table in the file than is served, of the file's tables (None: unknown).
    """

    def __init__(
        self,
        path: Path | None,
        access: Access,
        unsettled: Callable[[Iterable[TableSettings] | None], Collection[str]] = lambda tables: (),
    ) -> None:
        self._path = path
        self._access = access
        self._unsettled = unsettled
        self._seen: _Stamp = None
        self._settled = False
        self._reading = anyio.Lock()
        self.problem = ""

    async def refresh(self) -> None:
        """Read the users again if the file is another one than last time."""
        if self._path is None:
            return
        if self._is_as_seen(await anyio.to_thread.run_sync(_stamp, self._path)):
            return
        async with self._reading:
            stamp = await anyio.to_thread.run_sync(_stamp, self._path)
            if not self._is_as_seen(stamp):
                await self._read(self._path, stamp)

    def _is_as_seen(self, stamp: _Stamp) -> bool:
        return self._settled and stamp == self._seen

    async def _read(self, path: Path, stamp: _Stamp) -> None:
        from agnes_mcp.config.loading import load_grants

        settled = stamp is None or time.time() - stamp[0] / 1e9 > _SETTLED_AFTER_S
        try:
            found, tables = await anyio.to_thread.run_sync(load_grants, path)
            unsettled = await anyio.to_thread.run_sync(self._unsettled, tables)
        except ConfigError as error:
            self.problem = error.message
            logger.error("the users were not read again: %s", error.message)
        else:
            self._access.replace(found.users, found.groups, unsettled)
            self.problem = ""
            logger.info("access.users were read: %d users", len(found.users))
        # Not before: whoever calls meanwhile waits for the users of now, and who gives up leaves the file unread.
        self._seen, self._settled = stamp, settled


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)
