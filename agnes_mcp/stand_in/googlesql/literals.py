"""Literals of dates and times: read as GoogleSQL reads them, written as DuckDB reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agnes_mcp.stand_in.googlesql.types import Type
from agnes_mcp.stand_in.wire.replies import invalid_query

V = TypeVar("V")

_DATE = r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{1,2}):(?P<second>\d{1,2})(?:\.(?P<fraction>\d{1,6}))?"
_ZONE = r"(?P<zone>Z|z|[+-]\d{1,2}(?::\d{2})?| ?[A-Za-z][\w+-]*(?:/[\w+-]+)*)"
_PATTERNS = {
    "DATE": re.compile(_DATE),
    "TIME": re.compile(_TIME),
    "DATETIME": re.compile(rf"{_DATE}(?:[ Tt]{_TIME})?"),
    "TIMESTAMP": re.compile(rf"{_DATE}(?:[ Tt]{_TIME})?{_ZONE}?"),
}


def temporal_literal(written: str, kind: str, value: Callable[[str, Type], V]) -> V:
    """The literal `written` of a DATE, TIME, DATETIME or TIMESTAMP. Raises in BigQuery's words for any other text."""
    found = _PATTERNS[kind].fullmatch(written)
    if found is None:
        raise _invalid(kind, written)
    try:
        sql = _sql(kind, found.groupdict())
    except (ValueError, OverflowError, ZoneInfoNotFoundError):
        raise _invalid(kind, written) from None
    return value(sql, Type(kind))


def _invalid(kind: str, written: str) -> Exception:
    return invalid_query(f'Could not cast literal "{written}" to type {kind}')


def _sql(kind: str, parts: dict[str, str | None]) -> str:
    if kind == "TIME":
        clock = f"{_number(parts, 'hour'):02}:{_number(parts, 'minute'):02}:{_number(parts, 'second'):02}"
        if _number(parts, "hour") > 23 or _number(parts, "minute") > 59 or _number(parts, "second") > 59:
            raise ValueError(clock)
        return f"TIME '{clock}.{(parts['fraction'] or '').ljust(6, '0')}'"
    day = date(_number(parts, "year"), _number(parts, "month"), _number(parts, "day"))
    if kind == "DATE":
        return f"DATE '{day.isoformat()}'"
    hours = [_number(parts, part) for part in ("hour", "minute", "second")]
    micros = int((parts["fraction"] or "").ljust(6, "0"))
    moment = datetime(day.year, day.month, day.day, hours[0], hours[1], hours[2], micros)
    if kind == "DATETIME":
        return f"TIMESTAMP '{moment.isoformat(' ')}'"
    utc = moment.replace(tzinfo=zone_of(parts["zone"] or "UTC")).astimezone(UTC)
    return f"TIMESTAMPTZ '{utc.replace(tzinfo=None).isoformat(' ')}+00'"


def _number(parts: dict[str, str | None], name: str) -> int:
    return int(parts[name] or 0)


def zone_of(written: str) -> timezone | ZoneInfo:
    """A time zone as GoogleSQL names one: `UTC`, `Europe/Prague`, `+02`, `-8:30`, `UTC+2`. Raises ValueError."""
    name = written.strip()
    offset = re.fullmatch(r"(?:UTC)?(?P<sign>[+-])(?P<hours>\d{1,2})(?::(?P<minutes>\d{2}))?", name)
    if offset is not None:
        minutes = int(offset["hours"]) * 60 + int(offset["minutes"] or 0)
        return timezone(timedelta(minutes=-minutes if offset["sign"] == "-" else minutes))
    if name.upper() in ("Z", "UTC"):
        return UTC
    return ZoneInfo(name)


def moment_of(written: str) -> datetime:
    """The instant that a TIMESTAMP literal names."""
    found = _PATTERNS["TIMESTAMP"].fullmatch(written)
    if found is None:
        raise _invalid("TIMESTAMP", written)
    parts = found.groupdict()
    year, month, day, hour, minute, second = (
        _number(parts, name) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    micros = int((parts["fraction"] or "").ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, micros, tzinfo=zone_of(parts["zone"] or "UTC"))
    except (ValueError, ZoneInfoNotFoundError):
        raise _invalid("TIMESTAMP", written) from None
