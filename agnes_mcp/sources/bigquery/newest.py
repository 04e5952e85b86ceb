"""What has to be filtered on before BigQuery reads a table, and a condition that leaves its newest partition.

Both are found by dry runs, which are free: of a view over a table that requires a filter nothing else tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

from agnes_mcp.calls.call import Call
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column, Partition, TableSchema

#: How BigQuery refuses a statement without such a condition; the column is that of the table below the view.
_WANTED = re.compile(r"without a filter over column(?:\(s\)|s)? ['`\"]?([^'`\"\s]+)")
#: The types that a partition can be cut by, and how the cut is called where nobody tells.
_CUTS = {"DATE": "DAY", "TIMESTAMP": "DAY", "DATETIME": "DAY", "INT64": "RANGE", "STRING": "HIVE"}
#: Columns of a view that are tried, where it calls the column otherwise.
_MAX_TRIED = 12
#: How far from today the newest day is sought, in days: past and future.
_MAX_PAST, _MAX_AHEAD = 2**16, 2**12
_LATEST = date.max.toordinal()
_PARTS = 256

#: The bytes that a SELECT of everything under that condition would read; None: not known.
BytesWhere = Callable[[str], int | None]


def wanted_column(complaint: str) -> str | None:
    """The column that a dry run without any condition asks for; None where it complains of something else."""
    found = _WANTED.search(complaint)
    return found[1] if found else None


def find_required(schema: TableSchema, bytes_where: BytesWhere, call: Call) -> Partition | None:
    """How a view has to be filtered, by what dry runs complain of; None: it has not, or nobody tells."""

    def complaint(condition: str) -> str:
        try:
            bytes_where(condition)
        except AgnesError as error:
            call.check()
            return f"{error.kind} {error.message}"
        return ""

    named = wanted_column(complaint(""))
    return required_partition(named, schema, lambda condition: not complaint(condition)) if named else None


def required_partition(named: str, schema: TableSchema, passes: Callable[[str], bool]) -> Partition | None:
    """How the view is cut, by columns of its own: the one that is called so, or else the fewest whose conditions
    together `passes`. None: by none that can be seen."""
    possible = [c for c in schema.columns if c.mode != "REPEATED" and c.type in _CUTS]
    tried = sorted(possible, key=lambda column: column.name.casefold() != named.casefold())[:_MAX_TRIED]
    needed = tried[:1] if tried and passes(_all_from_the_start(tried[:1])) else _needed(tried, passes)
    if not needed:
        return None
    first, *others = needed
    also = [column.name for column in others]
    return Partition(column=first.name, type=_CUTS[first.type], filter_required=True, also=also)


def _needed(columns: list[Column], passes: Callable[[str], bool]) -> list[Column]:
    """Those without which it does not pass; the tables of a view may each want another. None where all do not do."""
    if not columns or not passes(_all_from_the_start(columns)):
        return []
    needed = list(columns)
    for column in reversed(columns):
        fewer = [each for each in needed if each is not column]
        if fewer and passes(_all_from_the_start(fewer)):
            needed = fewer
    return needed


def newest_condition(schema: TableSchema, bytes_where: BytesWhere, today: date) -> str:
    """A predicate of GoogleSQL that keeps the newest partition with rows; of everything, where none can be told apart.
    "" where the table asks for no filter. Of several columns that have to be filtered the first one's newest is."""
    column = _cut_by(schema)
    if column is None:
        return ""
    others = [found for name in (schema.partition.also if schema.partition else ()) if (found := schema.column(name))]
    rest = f" AND {_all_from_the_start(others)}" if others else ""
    # of what a view joins to it, whatever the condition
    beside = bytes_where(_from_the_end(column) + rest) or 0

    def own(condition: str) -> int:
        return max(0, (bytes_where(condition + rest) or 0) - beside)

    if column.type == "INT64":
        return _newest_numbers(column, own) + rest
    newest = _newest_day(column, own, today)
    return (_from_the_start(column) if newest is None else _since(column, newest)) + rest


def _cut_by(schema: TableSchema) -> Column | None:
    partition = schema.partition
    if partition is None or not partition.filter_required:
        return None
    if partition.column is None:
        return next((column for column in schema.pseudo_columns if column.type == "TIMESTAMP"), None)
    return schema.column(partition.column)


def _all_from_the_start(columns: list[Column]) -> str:
    return " AND ".join(_from_the_start(column) for column in columns)


def _from_the_start(column: Column) -> str:
    return f"`{column.name}` >= -9223372036854775807" if column.type == "INT64" else _since(column, date.min)


def _from_the_end(column: Column) -> str:
    return f"`{column.name}` >= {2**63 - 1}" if column.type == "INT64" else _since(column, date.max)


def _since(column: Column, day: date) -> str:
    literal = {
        "DATE": f"DATE '{day.isoformat()}'",
        "TIMESTAMP": f"TIMESTAMP '{day.isoformat()} 00:00:00 UTC'",
        "DATETIME": f"DATETIME '{day.isoformat()} 00:00:00'",
    }.get(column.type, f"'{day.isoformat()}'" if day != date.min else "''")
    return f"`{column.name}` >= {literal}"


def _newest_day(column: Column, bytes_where: Callable[[str], int], today: date) -> date | None:
    """The first day of the newest partition that has rows. Looked for from today: there it mostly is."""

    def size(day: int) -> int:
        return bytes_where(_since(column, date.fromordinal(day)))

    newest = _last(lambda day: bool(size(day)), today.toordinal())
    if newest is None:
        return None
    first, least = date.fromordinal(newest), size(newest)
    for earlier in (first.replace(day=1), first.replace(month=1, day=1)):  # a partition may be a month, or a year
        if size(earlier.toordinal()) != least:
            break
        first = earlier
    return first


def _last(has: Callable[[int], bool], start: int) -> int | None:
    """The last day from which on there is something, sought from `start` in growing steps; None: there is none."""
    step = 1
    if has(start):
        while start + step <= _LATEST and step <= _MAX_AHEAD and has(start + step):
            start, step = start + step, step * 2
        low, high = start, min(start + step, _LATEST + 1)
    else:
        while not has(max(1, start - step)):
            if start - step <= 1 or step > _MAX_PAST:
                return None
            start, step = start - step, step * 2
        low, high = max(1, start - step), start
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if has(middle) else (low, middle)
    return low


def _newest_numbers(column: Column, bytes_where: Callable[[str], int]) -> str:
    """Numbers have no today: their highest power of two with rows, then its share to one part of `_PARTS`."""

    def condition(number: int) -> str:
        return f"`{column.name}` >= {number}"

    power = _last_below(63, lambda exponent: bool(bytes_where(condition(1 << exponent))))
    if power is None:
        return _from_the_start(column)
    part = max(1, (1 << power) // _PARTS)
    share = _last_below(_PARTS, lambda n: bool(bytes_where(condition((1 << power) + n * part)))) or 0
    return condition((1 << power) + share * part)


def _last_below(end: int, has: Callable[[int], bool]) -> int | None:
    """The last of 0..end-1 that `has`, where all before it do too."""
    low, high = -1, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if has(middle) else (low, middle)
    return None if low < 0 else low


def today_utc() -> date:
    return datetime.now(UTC).date()
