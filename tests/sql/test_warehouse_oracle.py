"""Admitted statements before GoogleSQL's own analyzer, with a catalog of exactly the granted tables."""

from __future__ import annotations

from typing import Any

import pytest
from support.warehouse import GRANTED, NAMES, accepted

from agnes_mcp.sql.warehouse import Admitted, admit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: What the analyzer's build does not have, though GoogleSQL has.
NOT_THERE = ("MAX_BY", "CONTAINS_SUBSTR")


@pytest.fixture(scope="module")
def oracle(googlesql: Any) -> Any:
    from support.analyzer import Oracle

    return Oracle(GRANTED)


def told(oracle: Any, admitted: Admitted) -> str:
    """Where analyzer and reader differ about a statement; "" where they do not."""
    from zetasql.core import ServerError

    try:
        resolved = oracle.resolve(admitted.sql)
    except ServerError as error:
        return f"not analysed: {error}"
    if resolved.tables != {p.path for p in admitted.tables}:
        return f"reads {sorted(resolved.tables)}, not {[p.path for p in admitted.tables]}"
    if admitted.columns is not None and len(admitted.columns) != len(resolved.columns):
        return f"answers {resolved.columns}, not {admitted.columns}"
    named = zip(resolved.columns, admitted.columns or (), strict=False)
    wrong = [(r, a) for r, a in named if r != a and not r.startswith("$") and not a.startswith("f")]
    return f"answers {wrong}" if wrong else ""


def test_what_is_admitted_is_analysed_over_the_same_tables(oracle: Any) -> None:
    corpus = [text for text in accepted() if not any(word in text for word in NOT_THERE)]
    differences = {text: told(oracle, admit(text, NAMES)) for text in corpus}
    assert {text: why for text, why in differences.items() if why} == {}
