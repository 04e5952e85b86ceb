"""What is kept no longer: old files of the audit, old snapshots. Off unless it is set; nothing goes silently.

Looked at before the first call and every hour. What was removed is in the log, and in the audit as a line of the tool
`retention`: one for the files, and one for each caller whose snapshots went.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from datetime import timedelta

from agnes_mcp.calls.audit import Audit, AuditLine
from agnes_mcp.calls.call import new_request_id
from agnes_mcp.config.settings import GIB, Settings
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.models import Snapshot

TOOL = "retention"
_EVERY_S = 3600.0
#: Names that one line of the audit holds.
_NAMED = 100
logger = logging.getLogger(__name__)


class Retention:
    """Thread-safe. Its thread starts with `start`, where there is something to be kept to."""

    def __init__(self, audit: Audit, store: SnapshotStore, settings: Settings) -> None:
        self._audit = audit
        self._store = store
        self._files, self._kept = settings.audit, settings.snapshots
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def of_snapshots(self) -> str | None:
        """What becomes of snapshots that nobody drops, in words; None: nothing."""
        rules = []
        if self._kept.keep_days is not None:
            rules.append(f"{self._kept.keep_days:g} days after their fetch or last refresh")
        if self._kept.keep_gb is not None:
            rules.append(f"the oldest first where all together take more than {self._kept.keep_gb:g} GiB")
        return f"Snapshots are removed {', and '.join(rules)}." if rules else None

    @property
    def of_audit(self) -> str | None:
        """The same of the audit's files."""
        rules = []
        if self._files.keep_days is not None:
            rules.append(f"after {self._files.keep_days:g} days")
        if self._files.keep_bytes is not None:
            rules.append(f"the oldest first beyond {self._files.keep_bytes:,} bytes")
        return f"Files of the audit are removed {', and '.join(rules)}." if rules else None

    def start(self) -> None:
        """Remove what is due, blocking, and from now on every hour. Does nothing where all is off."""
        if self.of_snapshots is None and self.of_audit is None:
            return
        self.apply()
        if self._thread is None:
            self._thread = threading.Thread(target=self._repeat, name="agnes-retention", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._over.set()

    def apply(self) -> None:
        """Remove what is due now. Blocking; what the disk refuses is logged, and tried again at the next look."""
        if self.of_snapshots is not None:
            self._retire_snapshots()
        if self.of_audit is not None:
            gone = self._audit.retire(_days(self._files.keep_days), self._files.keep_bytes)
            self._tell("", "files of the audit", [name for name, _ in gone], sum(size for _, size in gone))

    def _repeat(self) -> None:
        while not self._over.wait(_EVERY_S):
            self.apply()

    def _retire_snapshots(self) -> None:
        most = None if self._kept.keep_gb is None else int(self._kept.keep_gb * GIB)
        try:
            gone = self._store.retire(_days(self._kept.keep_days), most)
        except AgnesError as error:
            logger.error("old snapshots could not be removed: %s", error.message)
            return
        by_owner: dict[str, list[Snapshot]] = defaultdict(list)
        for snapshot in gone:
            by_owner[snapshot.principal].append(snapshot)
        for owner, snapshots in by_owner.items():
            freed = sum(snapshot.bytes_local for snapshot in snapshots)
            self._tell(owner, f"snapshots of {owner}", [snapshot.name for snapshot in snapshots], freed)

    def _tell(self, principal: str, what: str, names: list[str], freed_bytes: int) -> None:
        if not names:
            return
        logger.warning(
            "retention removed %d %s, %d bytes: %s", len(names), what, freed_bytes, ", ".join(names[:_NAMED])
        )
        line = AuditLine(request_id=new_request_id(), tool=TOOL, principal=principal)
        line.removed, line.actual_result_bytes = names[:_NAMED], freed_bytes
        self._audit.write(line)


def _days(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
