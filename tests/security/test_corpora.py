"""Every table of attacks in one place, with what was tried and what got through: nothing may.

The tables are kept beside the tests of what they attack, which look closer; here each of them is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.counts import tell
from support.predicates import SCHEMAS
from support.predicates import rejected as rejected_predicates
from support.warehouse import NAMES
from support.warehouse import rejected as rejected_statements
from support.workbench_cases import Dataset, cases, opened, rows, run, write_dataset

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import validate_predicate
from agnes_mcp.sql.warehouse import admit
from agnes_mcp.workbench.workbench import Workbench

pytestmark = pytest.mark.soak

#: Of the machine, of another caller, of the environment.
SECRETS = ("root:x:", "canary-foreign", "canary-payroll", "canary-environment")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return write_dataset(tmp_path)


@pytest.fixture
def bench() -> Iterator[Workbench]:
    with opened(pool_size=2, memory_bytes=256 * 2**20, threads=1, timeout_s=10) as bench:
        yield bench


@pytest.mark.parametrize("dialect", list(SCHEMAS))
def test_predicates(dialect: Dialect) -> None:
    texts = [text for _, text in rejected_predicates(dialect)]
    through = [text for text in texts if _passes_predicate(text, dialect)]
    assert through == []
    tell(f"attacks in predicates, {dialect}", tried=len(texts), through=len(through))


def _passes_predicate(text: str, dialect: Dialect) -> bool:
    try:
        validate_predicate(text, SCHEMAS[dialect], dialect)
    except AgnesError:
        return False
    return True


def test_statements() -> None:
    texts = [text for _, text in rejected_statements()]
    through = [text for text in texts if _is_admitted(text)]
    assert through == []
    tell("attacks in GoogleSQL statements", tried=len(texts), through=len(through))


def _is_admitted(text: str) -> bool:
    try:
        admit(text, NAMES)
    except AgnesError:
        return False
    return True


def test_queries(bench: Workbench, dataset: Dataset) -> None:
    attempts, through = cases("escapes.sql"), []
    for case in attempts:
        sql = case.sql.replace("{foreign}", str(dataset.foreign)).replace("{folder}", str(dataset.folder))
        try:
            said, answered = repr(rows(run(bench, sql, dataset.views))), True
        except AgnesError as error:
            said, answered = f"{error.message} {error.hint} {error.details}", False
        if answered or any(secret in said for secret in SECRETS):
            through.append(case.sql)
    assert through == []
    tell("attacks in queries", tried=len(attempts), through=len(through))
