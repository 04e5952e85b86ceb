"""The sections of `instance.yaml` that say what is kept in `data_dir`, how much of it, and for how long."""

from __future__ import annotations

from pydantic import Field

from agnes_mcp.config.types import Bytes, Number, PositiveCount, PositiveSeconds, Section

_DAYS = PositiveSeconds  # a number above zero: zero days would remove what was just written


class AuditSettings(Section):
    """The audit's files. What is removed is logged, and a line of the audit says so."""

    rotate_at_bytes: PositiveCount = Field(
        default=16 * 2**20, description="Size from which `audit.jsonl` is renamed, and another begun."
    )
    keep_days: _DAYS | None = Field(
        default=None,
        description="Days after which renamed files are removed; then each day has a file of its own. null: kept for "
        "good.",
    )
    keep_bytes: Bytes | None = Field(
        default=None,
        description="Bytes beyond which the oldest renamed files are removed, today's never; null: any number.",
    )


class SnapshotSettings(Section):
    quota_gb: Number = Field(
        default=10,
        description="GiB meant for one caller's snapshots. Beyond it a write warns, and goes on while twice "
        "`snapshots.min_free_gb` stay free; 0: always.",
    )
    stale_warn_days: Number = Field(
        default=7, description="Age in days from which a snapshot is called stale; 0: always."
    )
    min_free_gb: Number = Field(
        default=1, description="GiB of the disk that stay free: no snapshot is written below it; 0 asks for none."
    )
    keep_days: _DAYS | None = Field(
        default=None,
        description="Days after its fetch or last refresh on which a snapshot is removed, and a chart after it was "
        "drawn, whoever's it is; logged, with a line of the audit. null: kept until its owner drops it, or it expires.",
    )
    keep_gb: Number | None = Field(
        default=None,
        description="GiB of everybody's snapshots and charts together, beyond which the oldest of whoever has "
        "most are removed, told in the same ways; null: any number.",
    )
