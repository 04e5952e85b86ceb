"""How often a fuzz, a race or a kill loop tries: a few times in `make test`, as often as it takes in `make soak`.

    @pytest.mark.soak
    def test_mutants() -> None:
        mutants = mutate(seed=1, how_many=count(200, 20_000))
        ...
        tell("mutated predicates", tried=len(mutants), through=outcomes["accepted"])

Seeds are fixed in both, so that what failed fails again; the full count begins with the small one's cases.
"""

from __future__ import annotations

import os
from typing import NamedTuple

#: Set by `make soak`.
VARIABLE = "AGNES_TEST_SOAK"


class Told(NamedTuple):
    """Of plain values, so that a process of pytest-xdist can hand it to the one that prints."""

    what: str
    tried: int
    through: int
    note: str


TOLD: list[Told] = []


def soaking() -> bool:
    return os.environ.get(VARIABLE, "") not in ("", "0")


def count(small: int, full: int) -> int:
    """So many tries: `small` in the suite, `full` in `make soak`."""
    return full if soaking() else small


def tell(what: str, *, tried: int, through: int, note: str = "") -> None:
    """Report what a loop did, printed at the end of `make soak`.

    `through`: how many of the tries got through to what they were after (were accepted, hit the moment, ended in an
    answer), so that a loop which no longer reaches anything is seen. A loop that tried nothing has not passed.
    """
    assert tried > 0, f"{what}: nothing was tried"
    TOLD.append(Told(what, tried, through, note))


def summary() -> list[str]:
    """One line per loop, those of the same name added up."""
    sums: dict[str, tuple[int, int, list[str]]] = {}
    for told in TOLD:
        tried, through, notes = sums.get(told.what, (0, 0, []))
        sums[told.what] = (tried + told.tried, through + told.through, [*notes, *filter(None, [told.note])])
    return [
        f"{what}: {tried:,} tried, {through:,} got through" + (f" ({'; '.join(notes)})" if notes else "")
        for what, (tried, through, notes) in sorted(sums.items())
    ]
