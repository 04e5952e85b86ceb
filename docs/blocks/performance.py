"""The figures of the last run of the benches, from bench/results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .markdown import table

RESULTS = Path(__file__).parents[2] / "bench" / "results.json"
_RUN: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
BENCHES = (
    "startup", "calls", "concurrency", "local", "bigquery_read", "wide_scan", "discovery", "snapshot_write",
    "predicates", "statements", "characters",
)  # fmt: skip

EVERY = (*BENCHES, "questions", "sidecars")


def figures(bench: str) -> str:
    if bench not in _RUN:
        return "Not measured in the last run."
    measured = _RUN[bench]["measured"]
    versions = ", ".join(f"{name} {measured[name]}" for name in ("python", "duckdb", "mcp", "sqlglot", "pyarrow"))
    conditions = (
        f"Measured on {measured['date']} with {measured['processors']} processors (load before it: "
        f"{measured['load_before']}); {versions}."
    )
    rows = [
        (
            figure["name"],
            figure["against"],
            _side(figure["ours"], figure["unit"]),
            _side(figure["theirs"], figure["unit"]),
            "" if figure["value"] is None else f"**{_number(figure['value'])}**",
            "" if figure.get("cpu") is None else _number(figure["cpu"]),
            _target(figure),
        )
        for figure in _RUN[bench]["figures"]
    ]
    return conditions + "\n\n" + table(("figure", "against", "ours", "theirs", "value", "of CPU", "target"), rows)


def _target(figure: dict[str, Any]) -> str:
    target, value = figure["target"], figure["value"]
    if value is None:
        return "not measured" if target is None else f"{target:,g}, not measured"
    if target is None:
        return "none"
    at_most = figure["bound"] == "at most"
    met = value <= target if at_most else value >= target
    return f"{'≤' if at_most else '≥'} {target:,g}{'' if met else ', missed'}"


def _side(value: float | None, unit: str) -> str:
    return "" if value is None else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
