"""What is kept no longer: snapshots that have expired, and where it is set old snapshots, charts, files of the audit.

Looked at before the first call and every hour. Nothing goes silently: what was removed is in the log, and in the audit
as a line of the tool `retention`: one for the files, and for each caller one for snapshots and one for charts.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from datetime import timedelta

from agnes_mcp.calls.audit import MAX_REMOVED, Audit, AuditLine
from agnes_mcp.calls.call import new_request_id
from agnes_mcp.config.settings import GIB, AuditSettings, SnapshotSettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.snapshots import SnapshotStore
from agnes_mcp.snapshots.retirement import Retired

TOOL = "retention"
#: Seconds.
EVERY_S = 3600.0
logger = logging.getLogger(__name__)


class Retention:
    """Thread-safe. Its thread starts with `start`, and looks every `EVERY_S` until `close`."""

    def __init__(self, audit: Audit, store: SnapshotStore, files: AuditSettings, kept: SnapshotSettings) -> None:
        self._audit = audit
        self._store = store
        self._files, self._kept = files, kept
        self._every_s = EVERY_S
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def of_snapshots(self) -> str | None:
        """What becomes of snapshots and charts that nobody drops, in words; None: nothing, beside those that expire."""
        rules = []
        if self._kept.keep_days is not None:
            rules.append(
                f"{self._kept.keep_days:g} days after their fetch or last refresh, charts after they were drawn"
            )
        if self._kept.keep_gb is not None:
            most = f"{self._kept.keep_gb:g} GiB"
            rules.append(f"the oldest of whoever has most, where all together take more than {most}")
        return f"Snapshots and charts are removed {', and '.join(rules)}." if rules else None

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
        """Remove what is due, blocking, and from now on in a thread every hour."""
        self.apply()
        if self._thread is None:
            self._thread = threading.Thread(target=self._repeat, name="agnes-retention", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._over.set()

    def apply(self) -> None:
        """Remove what is due now. Blocking; what the disk refuses is logged, and tried again at the next look."""
        self._retire_snapshots()
        if self.of_audit is not None:
            gone = self._audit.retire(_days(self._files.keep_days), self._files.keep_bytes)
            self._tell("", "files of the audit", [name for name, _ in gone], sum(size for _, size in gone))

    def _repeat(self) -> None:
        while not self._over.wait(self._every_s):
            self.apply()

    def _retire_snapshots(self) -> None:
        most = None if self._kept.keep_gb is None else int(self._kept.keep_gb * GIB)
        try:
            gone = self._store.retire(_days(self._kept.keep_days), most)
        except AgnesError as error:
            logger.error("old snapshots could not be removed: %s", error.message)
            return
        told: dict[tuple[str, bool], list[Retired]] = defaultdict(list)
        for entry in gone:
            told[entry.principal, entry.is_chart].append(entry)
        for (owner, is_chart), entries in told.items():
            freed = sum(entry.bytes_local for entry in entries)
            what = f"{'charts' if is_chart else 'snapshots'} of {owner or 'nobody known'}"
            self._tell(owner, what, [entry.name for entry in entries], freed)

    def _tell(self, principal: str, what: str, names: list[str], freed_bytes: int) -> None:
        """In the log, and in as many lines of the audit as it takes to name each."""
        if not names:
            return
        logger.warning("retention removed %d %s, %d bytes: %s", len(names), what, freed_bytes, ", ".join(names))
        for start in range(0, len(names), MAX_REMOVED):
            line = AuditLine(request_id=new_request_id(), tool=TOOL, principal=principal)
            line.removed = names[start : start + MAX_REMOVED]
            line.actual_result_bytes = freed_bytes if start == 0 else 0
            self._audit.write(line)


def _days(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
