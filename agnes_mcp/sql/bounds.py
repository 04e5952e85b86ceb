"""How sizes and costs add up: what an expression makes of the texts of a row, and what the functions of a predicate do.

Both are `a + b x L`, where L is the length of the texts in the row: `a` grows with the predicate, `b` with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlglot import exp

#: The most characters of a number, a date or an interval written as text.
_FIXED_CHARS = 64
#: The most characters that one directive of a date format becomes.
_FORMAT_CHARS = 32


class Amount(NamedTuple):
    """`constant + per_text x L` characters."""

    constant: int = 0
    per_text: int = 0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.constant + other.constant, self.per_text + other.per_text)

    def times(self, factor: int) -> Amount:
        return Amount(self.constant * factor, self.per_text * factor)


class Bound(NamedTuple):
    """A node: its value's size, and what all of its nodes touch and hold at once."""

    size: Amount
    work: Amount
    held: Amount


class UnboundedError(Exception):
    """There is no bound that the tables below know of."""


SMALL = Amount(_FIXED_CHARS)
NOTHING = Amount()


def _sum(amounts: Iterable[Amount]) -> Amount:
    constant = per_text = 0
    for amount in amounts:
        constant += amount.constant
        per_text += amount.per_text
    return Amount(constant, per_text)


def together(parts: Iterable[Bound]) -> Bound:
    """A fixed value made of parts, each touched once."""
    bounds = list(parts)
    work = _sum(bound.work.plus(bound.size) for bound in bounds)
    return Bound(SMALL, work, _sum(bound.held for bound in bounds))


def made(parts: list[Bound], factor: int = 1, passes: int = 1, more: int = 0) -> Bound:
    """A text as long as its parts together, `factor` times, and `more`; each part is touched `passes` times."""
    size = _sum(part.size for part in parts).times(factor).plus(Amount(more))
    work = _sum(part.work.plus(part.size.times(passes)) for part in parts).plus(size)
    return Bound(size, work, _sum(part.held for part in parts).plus(size))


def one_of(results: list[Bound], tests: Iterable[Bound] = ()) -> Bound:
    """Any of the results."""
    tested = list(tests)
    size = Amount(
        max((r.size.constant for r in results), default=0), max((r.size.per_text for r in results), default=0)
    )
    work = _sum(part.work.plus(part.size) for part in [*results, *tested])
    return Bound(size, work, _sum(part.held for part in [*results, *tested]).plus(size))


def all_of(parts: Iterable[Bound]) -> Bound:
    """Conditions, one after another: what one of them held is given back before the next."""
    bounds = list(parts)
    held = Amount(max(b.held.constant for b in bounds), max(b.held.per_text for b in bounds))
    return Bound(SMALL, _sum(bound.work.plus(bound.size) for bound in bounds), held)


def _of_first(parts: list[Bound], factor: int = 1, passes: int = 1) -> Bound:
    """A text at most `factor` times as long as the first part; the others are places, lengths and patterns."""
    first, rest = made(parts[:1], factor, passes), together(parts[1:])
    return Bound(first.size, first.work.plus(rest.work), first.held.plus(rest.held))


Call = Callable[[list[Bound], list[exp.Expr]], Bound]


def _fixed(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return together(parts)


def _any(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return one_of(parts)


def _concatenated(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return made(parts)


def _joined_by(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return made(parts[1:], more=parts[0].size.constant * len(parts))


def _part(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return _of_first(parts)


def _cased(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return _of_first(parts, factor=2)  # one character may take a byte more in the other case


def _split(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    """DuckDB makes a list of all parts first: 16 bytes for each, and there may be one for each character."""
    whole = _of_first(parts, factor=17)
    return Bound(parts[0].size, whole.work, whole.held)


def _by_graphemes(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return _of_first(parts, factor=3, passes=16)


def _searched(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    """A fixed text is looked for at every place of another."""
    return together([_looking(parts, needle=1)])


def _cut_at(parts: list[Bound], _: list[exp.Expr]) -> Bound:
    return _looking(parts, needle=1)


def _looking(parts: list[Bound], needle: int) -> Bound:
    wanted = parts[needle].size if len(parts) > needle else Amount(1)
    if wanted.per_text and parts[0].size.per_text:
        raise UnboundedError("a text of the row is sought in another")
    length = wanted.constant + wanted.per_text
    return _of_first(parts, passes=max(1, length))


def _replaced(parts: list[Bound], arguments: list[exp.Expr]) -> Bound:
    sought, put = (len(str(argument.this)) for argument in arguments[1:3])
    return _of_first(parts[:1], factor=max(1, -(-put // max(1, sought))), passes=max(1, sought))


def _formatted(parts: list[Bound], arguments: list[exp.Expr]) -> Bound:
    return made(parts[:1], factor=0, more=_FORMAT_CHARS * (1 + len(str(arguments[1].this))))


_FIXEDCALLS = """
    CURRENT_DATE TODAY NOW GET_CURRENT_TIMESTAMP CURRENT_LOCALTIMESTAMP DATE MAKE_DATE MAKE_TIMESTAMP DATE_ADD DATE_DIFF
    DATEDIFF DATE_TRUNC DATETRUNC DATE_PART DATEPART DAYNAME MONTHNAME LAST_DAY YEAR QUARTER MONTH WEEK DAY DAYOFWEEK
    DAYOFMONTH DAYOFYEAR ISODOW ISOYEAR WEEKOFYEAR WEEKDAY HOUR MINUTE SECOND EPOCH EPOCH_MS TO_TIMESTAMP STRPTIME
    TRY_STRPTIME AGE LENGTH LEN STRLEN CHAR_LENGTH STARTS_WITH PREFIX ENDS_WITH SUFFIX ABS CEIL CEILING FLOOR ROUND
    TRUNC MOD POWER POW SQRT LOG LOG10 LOG2 LN EXP SIGN ISNAN ISINF ISFINITE
"""
CALLS: dict[str, Call] = {
    **dict.fromkeys(_FIXEDCALLS.split(), _fixed),
    **dict.fromkeys(("GREATEST", "LEAST", "IF", "IFNULL", "COALESCE", "NULLIF"), _any),
    **dict.fromkeys(("SUBSTR", "SUBSTRING", "LEFT", "RIGHT"), _part),
    **dict.fromkeys(("LOWER", "LCASE", "UPPER", "UCASE"), _cased),
    **dict.fromkeys(("REVERSE", "STRIP_ACCENTS"), _by_graphemes),
    **dict.fromkeys(("TRIM", "LTRIM", "RTRIM"), _cut_at),
    "SPLIT_PART": _split,
    **dict.fromkeys(("STRPOS", "INSTR", "CONTAINS"), _searched),
    "CONCAT": _concatenated,
    "CONCAT_WS": _joined_by,
    "REPLACE": _replaced,
    "STRFTIME": _formatted,
}
