"""Functions whose argument is a part of a date: truncating, counting, moving, extracting; and series of dates."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.formats import formatted, parsed
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.rules import Clause, arguments, call, rule, value_of, wanted
from agnes_mcp.stand_in.googlesql.values import Value, as_type, coerced, made, no_signature, string, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

_WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")
_DAY_PARTS = ("DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR")
_CLOCK_PARTS = ("MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR")
_MICROS = {"MICROSECOND": 1, "MILLISECOND": 1000, "SECOND": 1_000_000, "MINUTE": 60_000_000, "HOUR": 3_600_000_000}


def part_of(node: exp.Expr) -> tuple[str, int]:
    """A date part and, of WEEK, its first weekday counted from Sunday."""
    if isinstance(node, exp.Anonymous) and node.name.upper() == "WEEK" and len(node.expressions) == 1:
        day = node.expressions[0].name.upper()
        if day in _WEEKDAYS:
            return "WEEK", _WEEKDAYS.index(day)
    if isinstance(node, exp.WeekStart):
        return "WEEK", _WEEKDAYS.index(node.name.upper())
    part = node.name.upper() if isinstance(node, exp.Column | exp.Var) else ""
    if not part:
        raise invalid_query("A valid date part name is required")
    return part, 1 if part == "ISOWEEK" else 0


def _day_cut(day: str, part: str, first: int) -> str:
    """The first DATE of the part that the DATE `day` lies in."""
    if part in ("WEEK", "ISOWEEK"):
        return f"({day} - CAST((extract('dow' FROM {day}) + 7 - {first}) % 7 AS INTEGER))"
    if part == "ISOYEAR":
        return f"CAST(date_trunc('week', make_date(extract('isoyear' FROM {day}), 1, 4)) AS DATE)"
    return day if part == "DAY" else f"CAST(date_trunc('{part.lower()}', {day}) AS DATE)"


def _moment_cut(moment: str, part: str, first: int) -> str:
    """The same of a TIMESTAMP without a zone."""
    if part in _CLOCK_PARTS:
        return f"date_trunc('{part.lower()}', {moment})"
    return f"CAST({_day_cut(f'CAST({moment} AS DATE)', part, first)} AS TIMESTAMP)"


@call("DATE_TRUNC", "DATETIME_TRUNC", "TIMESTAMP_TRUNC", "TIME_TRUNC")
def _truncated(node: exp.Anonymous, clause: Clause) -> Value:
    given = wanted(node, 2, 3)
    value = _of_kind(node.name.upper(), value_of(given[0], clause))
    part, first = part_of(given[1])
    allowed = {"DATE": _DAY_PARTS, "TIME": _CLOCK_PARTS}.get(value.kind, _DAY_PARTS + _CLOCK_PARTS)
    if part not in allowed:
        raise invalid_query(f"{node.name.upper()} does not support the {part} date part")
    if value.kind == "DATE":
        return made(_day_cut(value.sql, part, first), t.DATE, value)
    if value.kind == "TIME":
        return made(
            f"CAST({_moment_cut(f'(DATE {chr(39)}2000-01-01{chr(39)} + {value.sql})', part, 0)} AS TIME)", t.TIME, value
        )
    if value.kind == "DATETIME":
        return made(_moment_cut(value.sql, part, first), t.DATETIME, value)
    return _instant_cut(value, part, first, _zone(given, 2, clause))


def _instant_cut(value: Value, part: str, first: int, zone: Value) -> Value:
    local = f"bq_local({value.sql}, {zone.sql})"
    if part in _CLOCK_PARTS:
        return made(f"({value.sql} - ({local} - {_moment_cut(local, part, first)}))", t.TIMESTAMP, value, zone)
    return made(f"bq_utc({_moment_cut(local, part, first)}, {zone.sql})", t.TIMESTAMP, value, zone)


def _zone(given: list[exp.Expr], index: int, clause: Clause) -> Value:
    if len(given) <= index:
        return string("UTC")
    return as_type(value_of(given[index], clause), t.STRING, "Time zone")


def _of_kind(name: str, value: Value) -> Value:
    """The date or time that a function called DATE_X, TIME_X, … works on; DATE_TRUNC takes the others as well."""
    kind = name.split("_")[0]
    if kind == "DATE" and value.kind in ("DATETIME", "TIMESTAMP"):
        return value
    if kind == "DATETIME" and value.kind == "TIMESTAMP":
        return value
    if kind == "TIMESTAMP" and value.kind == "DATETIME":
        return value
    if t.coercion_cost(value.type, t.Type(kind), value.literal) is None:
        raise no_signature(f"function {name}", [value])
    return coerced(value, t.Type(kind))


@call("DATE_DIFF", "DATETIME_DIFF", "TIMESTAMP_DIFF", "TIME_DIFF")
def _counted(node: exp.Anonymous, clause: Clause) -> Value:
    given = wanted(node, 3)
    name = node.name.upper()
    later, earlier = (_of_kind(name, value_of(part, clause)) for part in given[:2])
    kinds = {later.kind, earlier.kind}
    kind = "TIMESTAMP" if "TIMESTAMP" in kinds else "DATETIME" if "DATETIME" in kinds else later.kind
    if kinds == {"DATE", "TIMESTAMP"} or kinds == {"DATETIME", "TIMESTAMP"}:
        raise no_signature(f"function {name}", [later, earlier])
    later, earlier = (coerced(value, t.Type(kind)) for value in (later, earlier))
    part, first = part_of(given[2])
    if kind == "TIMESTAMP":
        return _whole_units(name, part, later, earlier)
    return made(_boundaries(name, kind, part, first, later.sql, earlier.sql), t.INT64, later, earlier)


def _whole_units(name: str, part: str, later: Value, earlier: Value) -> Value:
    size = _MICROS.get(part) or {"DAY": 86_400_000_000}.get(part)
    if size is None:
        raise invalid_query(f"{name} does not support the {part} date part")
    sql = f"bq_quotient(epoch_us({later.sql}) - epoch_us({earlier.sql}), {size})"
    return made(sql, t.INT64, later, earlier)


def _boundaries(name: str, kind: str, part: str, first: int, later: str, earlier: str) -> str:
    if part in _CLOCK_PARTS and kind != "DATE":
        if kind == "TIME":
            later, earlier = f"(DATE '2000-01-01' + {later})", f"(DATE '2000-01-01' + {earlier})"
        cut = [f"epoch_us({_moment_cut(side, part, 0)})" for side in (later, earlier)]
        return f"CAST(({cut[0]} - {cut[1]}) // {_MICROS[part]} AS BIGINT)"
    if part not in _DAY_PARTS or kind == "TIME":
        raise invalid_query(f"{name} does not support the {part} date part")
    days = [side if kind == "DATE" else f"CAST({side} AS DATE)" for side in (later, earlier)]
    if part in ("WEEK", "ISOWEEK", "DAY"):
        size = 1 if part == "DAY" else 7
        cut = [_day_cut(day, part, first) for day in days]
        return f"CAST(({cut[0]} - {cut[1]}) // {size} AS BIGINT)"
    if part == "ISOYEAR":
        return f"CAST(extract('isoyear' FROM {days[0]}) - extract('isoyear' FROM {days[1]}) AS BIGINT)"
    return f"CAST(date_diff('{part.lower()}', {days[1]}, {days[0]}) AS BIGINT)"


@call(*(f"{kind}_{verb}" for kind in t.TEMPORAL for verb in ("ADD", "SUB")))
def _moved(node: exp.Anonymous, clause: Clause) -> Value:
    given = wanted(node, 2)
    name = node.name.upper()
    value, step = _of_kind(name, value_of(given[0], clause)), given[1]
    if not isinstance(step, exp.Interval):
        raise unsupported(f"{name} by anything but INTERVAL with one part")
    part, sign = _unit(step), "+" if name.endswith("ADD") else "-"
    if not _movable(value.kind, part):
        raise invalid_query(f"{name} does not support the {part} date part")
    moved = value_of(step, clause)
    sql = f"({value.sql} {sign} {moved.sql})"
    return made(f"CAST({sql} AS DATE)" if value.kind == "DATE" else sql, value.type, value, moved)


def _unit(step: exp.Interval) -> str:
    """The part of an INTERVAL; "" where it has none, or a range of parts."""
    unit = step.args.get("unit")
    return str(unit.name).upper() if isinstance(unit, exp.Var) else ""


def _movable(kind: str, part: str) -> bool:
    if kind == "TIME":
        return part in _CLOCK_PARTS
    months = ("MONTH", "QUARTER", "YEAR")
    if kind == "DATE":
        return part in ("DAY", "WEEK", *months)
    return part in (*_CLOCK_PARTS, "DAY") or (kind == "DATETIME" and part in ("WEEK", *months))


@rule(exp.Extract)
def _extracted(node: exp.Extract, clause: Clause) -> Value:
    if unread(node, "this", "expression"):
        raise unsupported("this EXTRACT")
    source, zone = node.expression, None
    if isinstance(source, exp.AtTimeZone):
        source, zone = source.this, as_type(value_of(source.args["zone"], clause), t.STRING, "Time zone")
    value = value_of(source, clause)
    part, first = part_of(node.this)
    if value.kind not in t.TEMPORAL or (zone is not None and value.kind != "TIMESTAMP"):
        raise no_signature(f"function EXTRACT({part} FROM …)", [value])
    parts = [value, *([zone] if zone else [])]
    sql = value.sql
    if value.kind == "TIMESTAMP":
        sql = f"bq_local({sql}, {zone.sql if zone else chr(39) + 'UTC' + chr(39)})"
    if part in ("DATE", "TIME", "DATETIME") and value.kind in ("TIMESTAMP", "DATETIME"):
        return made(f"CAST({sql} AS {t.Type(part).duckdb()})", t.Type(part), *parts)
    return made(f"CAST({_part_taken(part, first, sql, value.kind)} AS BIGINT)", t.INT64, *parts)


def _part_taken(part: str, first: int, sql: str, kind: str) -> str:
    if (kind == "DATE" and part in _CLOCK_PARTS) or (kind == "TIME" and part not in _CLOCK_PARTS):
        raise invalid_query(f"EXTRACT from {kind} does not support the {part} date part")
    if part == "WEEK":
        return f"(extract('doy' FROM {sql}) + 6 - ((extract('dow' FROM {sql}) + 7 - {first}) % 7)) // 7"
    templates = {
        "ISOWEEK": "extract('week' FROM {0})",
        "DAYOFWEEK": "extract('dow' FROM {0}) + 1",
        "DAYOFYEAR": "extract('doy' FROM {0})",
        "MILLISECOND": "extract('millisecond' FROM {0}) % 1000",
        "MICROSECOND": "extract('microsecond' FROM {0}) % 1000000",
        "SECOND": "floor(extract('second' FROM {0}))",
    }
    plain = ("MINUTE", "HOUR", "DAY", "MONTH", "QUARTER", "YEAR", "ISOYEAR")
    if part not in templates and part not in plain:
        raise invalid_query(f"A valid date part name is required but found {part}")
    return templates.get(part, f"extract('{part.lower()}' FROM {{0}})").replace("{0}", sql)


@call("CURRENT_DATE", "CURRENT_DATETIME", "CURRENT_TIME", "CURRENT_TIMESTAMP")
def _now(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    given = wanted(node, 0, 0 if name == "CURRENT_TIMESTAMP" else 1)
    clause.session.volatile = True
    if name == "CURRENT_TIMESTAMP":
        return Value("now()", t.TIMESTAMP)
    kind = t.Type(name.removeprefix("CURRENT_"))
    zone = _zone(given, 0, clause)
    return made(f"CAST(bq_local(now(), {zone.sql}) AS {kind.duckdb()})", kind, zone)


@call("LAST_DAY")
def _last_day(node: exp.Anonymous, clause: Clause) -> Value:
    given = wanted(node, 1, 2)
    value = value_of(given[0], clause)
    if value.kind == "DATETIME":
        value = made(f"CAST({value.sql} AS DATE)", t.DATE, value)
    value = as_type(value, t.DATE, "LAST_DAY's argument")
    part, first = part_of(given[1]) if len(given) > 1 else ("MONTH", 0)
    if part in ("WEEK", "ISOWEEK"):
        return made(f"({_day_cut(value.sql, part, first)} + 6)", t.DATE, value)
    if part not in ("MONTH", "QUARTER", "YEAR"):
        raise unsupported(f"LAST_DAY of {part}")
    months = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}[part]
    return made(f"CAST({_day_cut(value.sql, part, 0)} + to_months({months}) - to_days(1) AS DATE)", t.DATE, value)


@call("FORMAT_DATE", "FORMAT_DATETIME", "FORMAT_TIMESTAMP", "FORMAT_TIME")
def _format(node: exp.Anonymous, clause: Clause) -> Value:
    kind = node.name.upper().removeprefix("FORMAT_")
    given = arguments(node, clause, 2, 3 if kind == "TIMESTAMP" else 2)
    form, value = given[0], _of_kind(f"{kind}_FORMAT", given[1])
    if form.literal != "string":
        raise unsupported(f"{node.name.upper()} with a format that is no literal")
    kind = value.kind
    zone = as_type(given[2], t.STRING, "Time zone") if len(given) > 2 else string("UTC")
    moment = {
        "DATE": f"CAST({value.sql} AS TIMESTAMP)",
        "TIME": f"(DATE '1970-01-01' + {value.sql})",
        "TIMESTAMP": f"bq_local({value.sql}, {zone.sql})",
    }.get(kind, value.sql)
    return made(formatted(form.text, moment, kind, zone.sql, value.sql), t.STRING, value, zone)


@call("PARSE_DATE", "PARSE_DATETIME", "PARSE_TIMESTAMP", "PARSE_TIME")
def _parse(node: exp.Anonymous, clause: Clause) -> Value:
    kind = t.Type(node.name.upper().removeprefix("PARSE_"))
    given = arguments(node, clause, 2, 3 if kind == t.TIMESTAMP else 2)
    if given[0].literal != "string":
        raise unsupported(f"{node.name.upper()} with a format that is no literal")
    value = as_type(given[1], t.STRING, f"{node.name.upper()}'s argument")
    zone = as_type(given[2], t.STRING, "Time zone") if len(given) > 2 else None
    return parsed(given[0].text, value, kind, zone)


@call("GENERATE_DATE_ARRAY", "GENERATE_TIMESTAMP_ARRAY")
def _series(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    days = name == "GENERATE_DATE_ARRAY"
    given = wanted(node, 2 if days else 3, 3)
    kind = t.DATE if days else t.TIMESTAMP
    start, end = (as_type(value_of(part, clause), kind, f"{name}'s argument") for part in given[:2])
    step = given[2] if len(given) > 2 else exp.Interval(this=exp.Literal.string("1"), unit=exp.var("DAY"))
    if not isinstance(step, exp.Interval) or not _movable(kind.kind, _unit(step)):
        raise unsupported(f"{name} with this step")
    moved = value_of(step, clause)
    if not isinstance(step.this, exp.Literal) and not isinstance(step.this, exp.Neg):
        raise unsupported(f"{name} with a step that is no literal")
    sides = ", ".join(f"CAST({side.sql} AS {'TIMESTAMP' if days else 'TIMESTAMPTZ'})" for side in (start, end))
    sql = f"generate_series({sides}, {moved.sql})"
    return made(f"CAST({sql} AS {t.array_of(kind).duckdb()})", t.array_of(kind), start, end)


@call("DATE_BUCKET", "DATETIME_BUCKET", "TIMESTAMP_BUCKET")
def _bucket(node: exp.Anonymous, clause: Clause) -> Value:
    name = node.name.upper()
    given = wanted(node, 2, 3)
    kind = t.Type(name.removesuffix("_BUCKET"))
    value = as_type(value_of(given[0], clause), kind, f"{name}'s argument")
    step = given[1]
    if not isinstance(step, exp.Interval) or _unit(step) in ("MONTH", "QUARTER", "YEAR"):
        raise unsupported(f"{name} by months")
    width = value_of(step, clause)
    zero = string("1950-01-01")
    origin = as_type(value_of(given[2], clause) if len(given) > 2 else zero, kind, f"{name}'s origin")
    moments = [f"epoch_us(CAST({side.sql} AS TIMESTAMP))" for side in (value, origin)]
    size = f"epoch_us(TIMESTAMP '1970-01-01' + {width.sql})"
    past = f"(({moments[0]} - {moments[1]}) % {size} + {size}) % {size}"
    sql = f"CAST(make_timestamp({moments[0]} - ({past})) AS {kind.duckdb()})"
    return made(sql, kind, value, width, origin)
