"""What every bench shares: a figure with what it is measured against, and turns taken in alternation.

Each file here is a command of its own: `python bench/NAME.py [--small] [--json]`. `--small` runs the smallest setting,
to see that the bench works; `--json` prints one line of JSON for each figure, which is how `run.py` collects them.
Only ratios count: both sides are measured in one run, turn by turn, so that a busy machine slows them alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

# The tests' instances and servers are the benches' as well.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TURNS = 5


@dataclass(frozen=True)
class Figure:
    """One measured value. `ours` and `theirs` are in `unit`; `value` is what `target` is about (a ratio or a count).

    `target` None: nothing is asked of it. `value` None: not measured, and `floor` says why; else it says what holds a
    figure back that misses its target. `cpu` is the same ratio of processor time, which a busy machine stretches less.
    """

    name: str
    against: str
    value: float | None
    target: float | None
    bound: Literal["at most", "at least"] = "at most"
    ours: float | None = None
    theirs: float | None = None
    unit: str = "ms"
    floor: str = ""
    cpu: float | None = None

    @property
    def met(self) -> bool | None:
        """None: it was not measured."""
        if self.value is None:
            return None
        if self.target is None:
            return True
        return self.value <= self.target if self.bound == "at most" else self.value >= self.target


def ratio(
    name: str, against: str, ours_s: float, theirs_s: float, target: float | None, *, floor: str = "",
    cpu: float | None = None,
) -> Figure:  # fmt: skip
    """How many times the other's seconds ours are."""
    value = ours_s / theirs_s
    return Figure(name, against, value, target, "at most", 1000 * ours_s, 1000 * theirs_s, "ms", floor, cpu)


def speed(
    name: str, against: str, ours_s: float, theirs_s: float, target: float | None, units: int, unit: str, *,
    floor: str = "", cpu: float | None = None,
) -> Figure:  # fmt: skip
    """What share of the other's speed ours is; both did so many units in their seconds."""
    return Figure(
        name, against, theirs_s / ours_s, target, "at least", units / ours_s, units / theirs_s, f"{unit}/s", floor, cpu
    )


def cpu_seconds(process: psutil.Process) -> float:
    """What a process and those that it has started have computed so far."""
    times = process.cpu_times()
    taken = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile, and is counted with its parent
            own = child.cpu_times()
            taken += own.user + own.system
    return float(taken)


def computed_seconds(processes: Iterable[psutil.Process]) -> float:
    """The same of the threads that these processes have now, to the nanosecond: for calls that take milliseconds, of
    which `cpu_seconds` sees hundredths of a second. 0 where the system does not tell it."""
    every = (file for process in processes for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    nanoseconds = 0
    for file in every:
        with suppress(OSError):  # that thread has ended
            nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9


def alternate(contenders: Mapping[str, Callable[[], object]], turns: int = TURNS) -> dict[str, float]:
    """The median seconds of each, taken turn by turn; one turn before them is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(turns + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in taken.items()}


class Peak:
    """The highest resident size of this process while the block runs, in MB above what it was at its start."""

    def __enter__(self) -> Peak:
        self._process, self._over = psutil.Process(), threading.Event()
        self._idle = self._highest = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def above_idle_mb(self) -> float:
        return (self._highest - self._idle) / 1e6

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)


def table(figures: Iterable[Figure]) -> str:
    """One line for each, as a person reads it."""
    lines = [
        f"{'':6} {'value':>9} {'of CPU':>7} {'target':>12}  {'ours':>14} {'theirs':>14} {'':8} figure, against what"
    ]
    for figure in figures:
        target = "" if figure.target is None else f"{'<=' if figure.bound == 'at most' else '>='} {figure.target:,g}"
        sides = "".join(f"{'' if side is None else f'{side:,.1f}':>15}" for side in (figure.ours, figure.theirs))
        mark = {True: "ok", False: "MISSED", None: "-"}[figure.met]
        value = "" if figure.value is None else f"{figure.value:,.2f}"
        cpu = "" if figure.cpu is None else f"{figure.cpu:,.2f}"
        lines.append(
            f"{mark:6} {value:>9} {cpu:>7} {target:>12} {sides} {figure.unit:8} {figure.name}; {figure.against}"
        )
    return "\n".join(lines)


def main(measure: Callable[[bool], Iterable[Figure]], doc: str | None) -> None:
    """The command of a bench: `measure(small)` gives its figures."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the smallest setting: to see that it works")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each figure")
    asked = parser.parse_args()
    figures = measure(asked.small)
    if asked.json:
        for figure in figures:
            print(json.dumps(asdict(figure)), flush=True)
    else:
        print(table(figures))
