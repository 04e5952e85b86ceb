"""Admitted statements before GoogleSQL's own analyzer, with a catalog of exactly the granted tables."""

from __future__ import annotations

import pytest
from support.warehouse import GRANTED, NAMES, accepted

from agnes_mcp.sql.warehouse import Admitted, admit

analyzer = pytest.importorskip("support.analyzer", reason="the analyzer is a development dependency")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: What the analyzer's build does not have, though GoogleSQL has.
NOT_THERE = ("MAX_BY", "CONTAINS_SUBSTR")


@pytest.fixture(scope="session")
def oracle():  # type: ignore[no-untyped-def]
    return analyzer.Oracle(GRANTED)


def told(oracle, text: str, admitted: Admitted) -> str:  # type: ignore[no-untyped-def]
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


def test_what_is_admitted_is_analysed_over_the_same_tables(oracle) -> None:  # type: ignore[no-untyped-def]
    corpus = [text for text in accepted() if not any(word in text for word in NOT_THERE)]
    differences = {text: told(oracle, text, admit(text, NAMES)) for text in corpus}
    assert {text: why for text, why in differences.items() if why} == {}
