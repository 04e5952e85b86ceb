"""Parquet snapshots of what was fetched: written whole or not at all, locked, verified before a row is served.

store = SnapshotStore(data_dir / "snapshots", quota_bytes=10 * 1024**3)
with store.claim("ana@example.com", "sessions_de", call) as claimed:      # before anything is paid
    with source.read(…) as rows:
        claimed.write(rows, rows.schema, facts, lambda: rows.receipt)
with store.reading("ana@example.com", "sessions_de") as (snapshot, path):
    …                                                                       # the path stays until here
"""

from __future__ import annotations

from .claim import Claim
from .comparison import Drift, TypeChange, compare_columns
from .names import NAME_PATTERN, SCAN_KEPT_HOURS, SCAN_PREFIX, check_name, default_name, scan_name
from .store import SnapshotStore

__all__ = [
    "NAME_PATTERN",
    "SCAN_KEPT_HOURS",
    "SCAN_PREFIX",
    "Claim",
    "Drift",
    "SnapshotStore",
    "TypeChange",
    "check_name",
    "compare_columns",
    "default_name",
    "scan_name",
]
