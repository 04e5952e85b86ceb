"""Mutated queries: whatever comes in, only an answer or an AgnesError comes out, and no process stays behind."""

from __future__ import annotations

import random
import re
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from support.counts import count, tell
from support.workbench_cases import Dataset, cases, opened, rows, run

from agnes_mcp.errors import KINDS, AgnesError

SEED = 20240501
MUTANTS = count(400, 40_000)
_TOKEN = re.compile(r"\s+|\w+|'[^']*'|\"[^\"]*\"|.", re.DOTALL)
_NASTY = (
    *"'\"`;()[]{},.*?$#@:\\%",
    *("--", "/*", "*/", "::", "->", "''", "\x00", "\u00a0", "\u202e", "\ud800", "é", "\r\n", "$$"),
    *(
        "NULL",
        "SELECT",
        "FROM",
        "WITH",
        "UNION",
        "OVER",
        "(SELECT 1)",
        "1e999",
        "-1",
        "9" * 40,
        "read_text('/etc/passwd')",
    ),
    *(
        "orders",
        "main.",
        "information_schema.tables",
        "'/etc/passwd'",
        "LIMIT",
        "x -> x",
        "UNPIVOT",
        "AT (VERSION => 1)",
    ),
)


def mutate(sources: list[str], choose: random.Random) -> str:
    tokens = _TOKEN.findall(choose.choice(sources))
    for _ in range(choose.choice((1, 1, 1, 2, 4))):
        place = choose.randrange(len(tokens) + 1)
        match choose.randrange(6):
            case 0:
                tokens.insert(place, choose.choice(_NASTY))
            case 1:
                del tokens[place : place + choose.randint(1, 3)]
            case 2:
                tokens[place:place] = choose.choices(tokens or [" "], k=2)
            case 3:
                tokens[place : place + 3] = reversed(tokens[place : place + 3])
            case 4:
                other = _TOKEN.findall(choose.choice(sources))
                tokens = tokens[:place] + other[choose.randrange(len(other)) :]
            case _:
                tokens[place : place + 1] = [choose.choice(_NASTY)]
    return "".join(tokens)


@pytest.mark.soak
def test_mutants_end_in_an_answer_or_a_coded_error(dataset: Dataset) -> None:
    choose = random.Random(SEED)
    sources = [case.sql for name in ("accepted.sql", "accepted.sql", "escapes.sql") for case in cases(name)]
    mutants = [mutate(sources, choose) for _ in range(MUTANTS)]
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    with opened(pool_size=2, memory_bytes=192 * 2**20, threads=1, timeout_s=2) as bench:

        def ask(sql: str) -> str:
            try:
                return "" if "root:x:" not in repr(rows(run(bench, sql, dataset.views))) else "leak"
            except AgnesError as error:
                return error.kind if "root:x:" not in str(error) else "leak"

        with ThreadPoolExecutor(3) as callers:
            outcomes = list(callers.map(ask, mutants))
        assert rows(run(bench, "SELECT count(*) FROM orders", dataset.views)) == [[60]]
    assert set(outcomes) <= {"", *KINDS} - {"internal_error", "cancelled"}
    assert outcomes.count("") > MUTANTS // 40
    assert outcomes.count("query_refused") + outcomes.count("query_failed") > MUTANTS // 4
    assert {child.pid for child in me.children(recursive=True)} <= before
    tell("mutated queries", tried=MUTANTS, through=outcomes.count(""))
