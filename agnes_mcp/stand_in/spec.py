"""Load a stand-in from a description in YAML or JSON; the format is documented in `__main__`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agnes_mcp.stand_in.stand_in import StandIn
from agnes_mcp.stand_in.tables import Partition, now_ms

_VIEWS = ("view", "materialized_view")
_AGE_MS = 30 * 24 * 3600 * 1000  # what is described has been there for a month, so that it has a past to read


def read_spec(path: Path) -> dict[str, Any]:
    """The described datasets; JSON is YAML. Raises ValueError for anything but a mapping with `datasets`."""
    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(described, dict) or not isinstance(described.get("datasets"), dict):
        raise ValueError(f"{path.name} must be a mapping with a key 'datasets'")
    return described


def load(stand_in: StandIn, described: Mapping[str, Any], folder: Path) -> None:
    """Make every described dataset and table; relative Parquet paths start at `folder`."""
    datasets: Mapping[str, Any] = described["datasets"]
    for name, dataset in datasets.items():
        stand_in.create_dataset(name, location=dataset.get("location"), description=dataset.get("description", ""))
    entries = [(name, table, entry) for name, dataset in datasets.items() for table, entry in dataset["tables"].items()]
    for views in (False, True):  # a view may name any table, and any view before it
        for name, table, entry in entries:
            if any(key in entry for key in _VIEWS) is views:
                _create(stand_in, name, table, dict(entry), folder)


def _create(stand_in: StandIn, dataset: str, name: str, entry: dict[str, Any], folder: Path) -> None:
    if "parquet" in entry:
        entry["parquet"] = _paths(entry["parquet"], folder)
    if "partition" in entry:
        given = entry["partition"]
        entry["partition"] = Partition(given) if isinstance(given, str) else Partition(**given)
    if "view" in entry:
        stand_in.create_view(dataset, name, entry.pop("view"), **entry)
    elif "materialized_view" in entry:
        stand_in.create_materialized_view(dataset, name, entry.pop("materialized_view"), **entry)
    elif "external" in entry:
        stand_in.create_external(dataset, name, _paths(entry.pop("external"), folder), **entry)
    else:
        entry.setdefault("created_ms", now_ms() - _AGE_MS)
        stand_in.create_table(dataset, name, **entry)


def _paths(given: str | list[str], folder: Path) -> list[Path]:
    return [folder / path for path in ([given] if isinstance(given, str) else given)]
