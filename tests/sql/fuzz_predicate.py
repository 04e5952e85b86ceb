"""Mutates predicates of the corpora and checks what must hold of whatever comes out.

    python tests/sql/fuzz_predicate.py --tries 100000 --seed 1

For every text: nothing but PredicateError is raised; the answer comes within a second; what is accepted is rendered as
sqlglot would, and accepted again, unchanged, after rendering; and the statement around it keeps its skeleton. The first
text that breaks one of these is printed and ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.effort import within
from support.predicate_strategies import PIECES
from support.predicates import SCHEMAS, accepted, rejected, unescape

from agnes_mcp.errors import PredicateError
from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate import confirm_skeleton, render_predicate, validate_predicate
from agnes_mcp.sql.predicate.nodes import RENDERED

_SLOWEST_S = 1.0  # of processor time: what waits for the machine does not count
_DIALECTS: tuple[Dialect, ...] = ("bigquery", "duckdb")


def check(text: str, dialect: Dialect) -> str:
    """The kind of refusal, or "accepted". Raises AssertionError where the validator breaks a promise."""
    try:
        tree = within(_SLOWEST_S, lambda: validate_predicate(text, SCHEMAS[dialect], dialect))
    except PredicateError as error:
        return error.kind
    once = render_predicate(tree, dialect)
    assert once == RENDERED[dialect].generate(tree, comments=False), "another text than sqlglot's"
    again = validate_predicate(once, SCHEMAS[dialect], dialect)
    assert again == tree, "another tree after rendering"
    assert render_predicate(again, dialect) == once, "another text after rendering"
    quote = "`" if dialect == "bigquery" else '"'
    prefix, suffix = f"SELECT {quote}user_id{quote} FROM {quote}web_sessions{quote}", "LIMIT 5"
    sql = f"{prefix}\nWHERE (\n{once}\n)\n{suffix}"
    confirm_skeleton(sql, dialect=dialect, prefix_sql=prefix, predicate_sql=once, suffix_sql=suffix)
    return "accepted"


class Mutator:
    """Texts made of the corpora: spliced, cut, doubled, with pieces put in and characters exchanged."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pieces = [unescape(piece) for piece in PIECES]
        self._lines = {d: accepted(d) * 3 + [text for _, text in rejected(d)] for d in _DIALECTS}

    def next(self) -> tuple[str, Dialect]:
        dialect = self._random.choice(_DIALECTS)
        text = self._random.choice(self._lines[dialect])
        for _ in range(self._random.choice((1, 1, 1, 2, 3, 6))):
            text = self._random.choice((self._insert, self._cut, self._double, self._splice, self._join, self._nest))(
                text, dialect
            )
        return text[:9_000], dialect

    def _at(self, text: str) -> int:
        return self._random.randint(0, len(text))

    def _insert(self, text: str, _: Dialect) -> str:
        at, space = self._at(text), self._random.choice(("", " "))
        return text[:at] + space + self._random.choice(self._pieces) + space + text[at:]

    def _cut(self, text: str, _: Dialect) -> str:
        at = self._at(text)
        return text[:at] + text[at + self._random.randint(1, 6) :]

    def _double(self, text: str, _: Dialect) -> str:
        start, end = sorted((self._at(text), self._at(text)))
        return text[:end] + text[start:end] * self._random.choice((1, 2, 20)) + text[end:]

    def _splice(self, text: str, dialect: Dialect) -> str:
        other = self._random.choice(self._lines[dialect])
        return text[: self._at(text)] + other[self._at(other) :]

    def _join(self, text: str, dialect: Dialect) -> str:
        joint = self._random.choice((" AND ", " OR ", " AND NOT ", ") OR (", ", ", " = "))
        return text + joint + self._random.choice(self._lines[dialect])

    def _nest(self, text: str, _: Dialect) -> str:
        opening = self._random.choice(("(", "NOT (", "IF(", "COALESCE(", "DATE(", "[", "- ", "CASE WHEN ", "STRUCT("))
        times = self._random.choice((1, 2, 4, 17, 40))
        return opening * times + text + (")" * times if opening.endswith("(") else "")


def run(tries: int, seed: int) -> Counter[str]:
    """How often each outcome came up. Raises AssertionError, with the text in it, at the first broken promise."""
    mutator, outcomes = Mutator(seed), Counter[str]()
    for _ in range(tries):
        text, dialect = mutator.next()
        try:
            outcomes[check(text, dialect)] += 1
        except BaseException as error:
            raise AssertionError(f"{dialect}: {text!r}: {type(error).__name__}: {error}") from error
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        outcomes = run(arguments.tries, arguments.seed)
    except AssertionError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{outcomes.total():,} predicates, seed {arguments.seed}: {dict(outcomes.most_common())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
