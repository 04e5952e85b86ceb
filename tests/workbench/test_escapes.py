"""Attempts to leave the sandbox: each refused at the gate, and again by what stands behind it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.workbench_cases import Case, Dataset, cases, opened, rows, run

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Principal
from agnes_mcp.workbench.workbench import Workbench

ESCAPES = cases("escapes.sql")
LAYERS = {"engine", "harmless", "bounds", "gate"}
#: What a text that only its bounds end is given, where others have as long as a busy machine takes.
BOUNDED_S = 1.0
REFUSED = {"query_refused", "query_failed", "table_not_found"}
#: What must never come out: of the machine, of another caller, of the files' places.
SECRETS = ("root:x:", "canary-foreign", "canary-payroll", "canary-environment")


@pytest.fixture(scope="module")
def ungated() -> Iterator[Workbench]:
    """The same worker without its gate."""
    command = ("-I", "-B", str(Path(__file__).with_name("ungated.py")))
    with opened(pool_size=1, memory_bytes=2**30, threads=1, timeout_s=10, command=command) as bench:
        yield bench


def attempt(case: Case, dataset: Dataset) -> str:
    places = {"{foreign}": str(dataset.foreign), "{folder}": str(dataset.folder)}
    places["{orders}"] = f"{dataset.folder}/orders_1.parquet"
    sql = case.sql
    for mark, place in places.items():
        sql = sql.replace(mark, place)
    return sql


def footprint(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def outcome(bench: Workbench, sql: str, dataset: Dataset, timeout_s: float | None = None) -> tuple[str, str]:
    """The kind of error ("" for an answer) and all text that came out."""
    try:
        return "", repr(rows(run(bench, sql, dataset.views, call=Call("query", Principal("ana"), timeout_s=timeout_s))))
    except AgnesError as error:
        return error.kind, f"{error.message} {error.hint} {error.details}"


def test_the_table_of_attempts_is_large_and_says_which_layer_holds() -> None:
    assert len(ESCAPES) >= 120
    assert {case.stated for case in ESCAPES} == LAYERS


def test_the_gate_refuses_every_attempt(bench: Workbench, dataset: Dataset) -> None:
    admitted = {}
    for case in ESCAPES:
        kind, text = outcome(bench, attempt(case, dataset), dataset)
        places = () if "{" in case.sql else (str(dataset.folder),)  # the agent's own words may be quoted to it
        leaked = [secret for secret in (*SECRETS, *places) if secret in text]
        if kind not in REFUSED or leaked:
            admitted[case.line] = (kind, text[:200])
    assert not admitted, "\n".join(map(str, admitted.items()))


def test_without_the_gate_the_layer_that_is_named_holds(
    ungated: Workbench, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGNES_CANARY", "canary-environment")
    before = footprint(dataset.folder)
    wrong = {}
    for case in ESCAPES:
        within_s = BOUNDED_S if case.stated == "bounds" else None
        kind, text = outcome(ungated, attempt(case, dataset), dataset, within_s)
        held = {
            "engine": kind in (*REFUSED, "table_unavailable"),
            "harmless": True,
            "bounds": kind in ("timeout", "query_out_of_memory"),
            "gate": kind == "",
        }[case.stated]
        leaked = [secret for secret in SECRETS if secret in text]
        if not held or (leaked and case.stated != "gate"):
            wrong[case.line] = (case.sql, kind, text[:200], leaked)
    assert not wrong, "\n".join(map(str, wrong.values()))
    assert footprint(dataset.folder) == before
    assert [name for name in os.listdir("/tmp") if name.startswith("agnes_escape")] == []  # noqa: S108 - looks only
