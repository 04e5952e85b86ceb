"""FORMAT_ and PARSE_ elements of dates and times, and FORMAT's printf: a literal format becomes a DuckDB text."""

from __future__ import annotations

import re
from dataclasses import replace

from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.values import Value, made, text, unsupported
from agnes_mcp.stand_in.wire.replies import invalid_query

_ELEMENT = re.compile(r"%(?:E(?:[YzTSf]|\d[SY]|\*S|4Y)|O?[A-Za-z%])|[^%]+|%")
#: Elements that stand for others.
_COMPOSED = {
    "%F": "%Y-%m-%d",
    "%T": "%H:%M:%S",
    "%R": "%H:%M",
    "%D": "%m/%d/%y",
    "%x": "%m/%d/%y",
    "%X": "%H:%M:%S",
    "%c": "%a %b %e %H:%M:%S %Y",
    "%r": "%I:%M:%S %p",
    "%h": "%b",
}
#: Elements that DuckDB's strftime prints as GoogleSQL does.
_SAME = frozenset(
    [
        "%Y",
        "%m",
        "%d",
        "%H",
        "%M",
        "%S",
        "%a",
        "%A",
        "%b",
        "%B",
        "%p",
        "%I",
        "%y",
        "%j",
        "%U",
        "%W",
        "%V",
        "%G",
        "%u",
        "%w",
        "%%",
    ]
)
#: The others, over {v}, a TIMESTAMP in the zone that is asked for.
_COMPUTED = {
    "%e": "lpad(CAST(extract('day' FROM {v}) AS VARCHAR), 2, ' ')",
    "%k": "lpad(CAST(extract('hour' FROM {v}) AS VARCHAR), 2, ' ')",
    "%l": "lpad(CAST((extract('hour' FROM {v}) + 11) % 12 + 1 AS VARCHAR), 2, ' ')",
    "%P": "lower(strftime({v}, '%p'))",
    "%C": "lpad(CAST(extract('year' FROM {v}) // 100 AS VARCHAR), 2, '0')",
    "%g": "right(strftime({v}, '%G'), 2)",
    "%n": "chr(10)",
    "%t": "chr(9)",
    "%Q": "CAST(extract('quarter' FROM {v}) AS VARCHAR)",
    "%J": "strftime({v}, '%j')",
    "%E4Y": "lpad(CAST(extract('year' FROM {v}) AS VARCHAR), 4, '0')",
    "%E*S": "strftime({v}, '%S') || coalesce('.' || nullif(rtrim(strftime({v}, '%f'), '0'), ''), '')",
}
#: Which kinds of element each type has.
_CLOCK = frozenset(["%H", "%I", "%k", "%l", "%M", "%S", "%p", "%P", "%T", "%R", "%r", "%X"])
_ZONED = frozenset(["%z", "%Z", "%Ez", "%s"])


def formatted(form: str, moment: str, kind: str, zone: str = "'UTC'", instant: str = "") -> str:
    """FORMAT_*: `moment` is a TIMESTAMP text in the zone; `instant` the TIMESTAMPTZ, of TIMESTAMP alone."""
    pieces = []
    for element in _elements(form):
        if element.startswith("%"):
            _refuse_foreign(element, kind)
            pieces.append(_printed(element, moment, zone, instant))
        else:
            pieces.append(text(element))
    return "(" + (" || ".join(pieces) or "''") + ")"


def _elements(form: str) -> list[str]:
    found: list[str] = []
    for element in _ELEMENT.findall(form):
        composed = _COMPOSED.get(element)
        found += _elements(composed) if composed else [element]
    return found


def _refuse_foreign(element: str, kind: str) -> None:
    clock = element in _CLOCK or element.endswith("S")
    if (element in _ZONED and kind != "TIMESTAMP") or (kind == "DATE" and clock):
        raise unsupported(f"{element} in the format of a {kind}")
    if kind == "TIME" and not clock and element not in ("%%", "%n", "%t"):
        raise unsupported(f"{element} in the format of a TIME")


def _printed(element: str, moment: str, zone: str, instant: str) -> str:
    if element in _SAME:
        return f"strftime({moment}, '{element}')"
    if element in _COMPUTED:
        return f"({_COMPUTED[element].replace('{v}', moment)})"
    digits = re.fullmatch(r"%E(\d)S", element)
    if digits is not None and int(digits[1]) <= 6:
        count = int(digits[1])
        tail = f" || '.' || left(strftime({moment}, '%f'), {count})" if count else ""
        return f"(strftime({moment}, '%S'){tail})"
    minutes = f"bq_zone_minutes({instant}, {zone})"
    if element in ("%z", "%Ez"):
        colon = ":" if element == "%Ez" else ""
        sign = f"CASE WHEN {minutes} < 0 THEN '-' ELSE '+' END"
        hours = f"lpad(CAST(abs({minutes}) // 60 AS VARCHAR), 2, '0')"
        return f"({sign} || {hours} || '{colon}' || lpad(CAST(abs({minutes}) % 60 AS VARCHAR), 2, '0'))"
    if element == "%Z":
        hours = f"CAST(abs({minutes}) // 60 AS VARCHAR)"
        padded = f"lpad({hours}, 2, '0') || lpad(CAST(abs({minutes}) % 60 AS VARCHAR), 2, '0')"
        sign = f"CASE WHEN {minutes} < 0 THEN '-' ELSE '+' END"
        shown = f"{sign} || CASE WHEN {minutes} % 60 = 0 THEN {hours} ELSE {padded} END"
        return f"('UTC' || CASE WHEN {minutes} = 0 THEN '' ELSE {shown} END)"
    if element == "%s":
        return f"CAST(CAST(floor(epoch_us({instant}) / 1000000) AS BIGINT) AS VARCHAR)"
    raise unsupported(f"{element} in a format")


_PARSED = frozenset(["%Y", "%m", "%d", "%H", "%M", "%S", "%b", "%B", "%a", "%A", "%p", "%I", "%y", "%j", "%%"])
#: What ends a text that ends with such an element: at most 14 hours; DuckDB takes more, and a colon in both.
_DISTANCES = {
    "%z": r"(?s).*[+-]((0\d|1[0-3])([0-5]\d)?|14(00)?)",
    "%Ez": r"(?s).*([+-]((0\d|1[0-3])(:?[0-5]\d)?|14(:?00)?)|Z)",
}


def parsed(form: str, value: Value, kind: t.Type, zone: Value | None) -> Value:
    """PARSE_*: the text `value` read by the literal `form`."""
    elements = _elements(form)
    if elements == ["%s"] and kind.kind == "TIMESTAMP":
        return _seconds(value)
    if kind.kind == "TIMESTAMP" and elements[-2:] == [" ", "%Z"]:
        return _with_zone(form, value)
    named = {element for element in elements if element.startswith("%")}
    fractional = named & {"%E*S", "%E1S", "%E2S", "%E3S", "%E4S", "%E5S", "%E6S"}
    strange = named - _PARSED - fractional - {"%e", "%z", "%Ez"}
    year = named & {"%Y", "%y"}
    if strange or (kind.kind != "TIME" and not year) or (named & {"%z", "%Ez"} and kind.kind != "TIMESTAMP"):
        raise unsupported(f"the format {form!r} in PARSE_{kind}")
    if ({"%b", "%B"} & named and {"%m"} & named) or ({"%p"} & named and not {"%I"} & named):
        raise unsupported(f"the format {form!r} in PARSE_{kind}")
    forms = _whole_or_not("".join(_read(element) for element in elements))
    tries = ", ".join(f"CAST(try_strptime({value.sql}, {text(one)}) AS {_moment(named)})" for one in forms)
    if "%Ez" in named:  # of all zones' letters it takes this one
        utc = "".join("Z" if element == "%Ez" else _read(element) for element in elements)
        tries += "".join(f", bq_utc(try_strptime({value.sql}, {text(one)}), 'UTC')" for one in _whole_or_not(utc))
    if elements[-1] in _DISTANCES:
        tries = f"CASE WHEN regexp_full_match({value.sql}, {text(_DISTANCES[elements[-1]])}) THEN coalesce({tries}) END"
    read = f"coalesce({tries}, error('Failed to parse input string \"' || {value.sql} || '\"'))"
    sql = f"CASE WHEN {value.sql} IS NULL THEN NULL ELSE {_as_kind(read, kind, zone, named)} END"
    return made(sql, kind, value, *([zone] if zone else []))


def _whole_or_not(form: str) -> list[str]:
    """With the fraction of the seconds, where one is read, and without."""
    return [form, form.replace("%S.%f", "%S")] if "%S.%f" in form else [form]


def _seconds(value: Value) -> Value:
    """%s alone: seconds since the epoch, whatever the zone."""
    failed = f"error('Failed to parse input string \"' || {value.sql} || '\"')"
    read = f"CASE WHEN regexp_full_match({value.sql}, '[-+]?[0-9]{{1,12}}') THEN {value.sql} ELSE {failed} END"
    return made(f"make_timestamptz(CAST({read} AS BIGINT) * 1000000)", t.TIMESTAMP, value)


def _with_zone(form: str, value: Value) -> Value:
    """%Z at the end, behind a space: the name of a zone, or its distance from UTC."""
    split = r"'(.*\S) +(\S+)'"
    civil = replace(value, sql=f"regexp_extract({value.sql}, {split}, 1)", literal="")
    zone = replace(value, sql=f"regexp_extract({value.sql}, {split}, 2)", literal="")
    return parsed(form.removesuffix("%Z").rstrip(" "), civil, t.TIMESTAMP, zone)


def _moment(named: set[str]) -> str:
    return "TIMESTAMPTZ" if named & {"%z", "%Ez"} else "TIMESTAMP"


def _read(element: str) -> str:
    if element.startswith("%E") and element.endswith("S"):
        return "%S.%f"
    return {"%e": "%d", "%Ez": "%z"}.get(element, element)


def _as_kind(read: str, kind: t.Type, zone: Value | None, named: set[str]) -> str:
    if kind.kind == "TIMESTAMP" and not named & {"%z", "%Ez"}:
        return f"bq_utc({read}, {zone.sql if zone else text('UTC')})"
    return f"CAST({read} AS {kind.duckdb()})"


_DIRECTIVE = re.compile(r"%(?P<flags>[-+ 0#']*)(?P<width>\d*)(?:\.(?P<precision>\d+))?(?P<kind>[a-zA-Z%])|[^%]+|%")


def printed(form: str, values: list[Value]) -> Value:
    """FORMAT with a literal format: %d %i %s %f %e %g %x %X %o %t %T %%, with flags and width where DuckDB has them."""
    pieces: list[str] = []
    waiting = list(values)
    for found in _DIRECTIVE.finditer(form):
        if found["kind"] is None:
            if found[0] == "%":
                raise invalid_query("Invalid format string in FORMAT")
            pieces.append(text(found[0]))
        elif found["kind"] == "%":
            pieces.append(text("%"))
        elif not waiting:
            raise invalid_query("Too few arguments to FORMAT for pattern")
        else:
            pieces.append(_directive(found, waiting.pop(0)))
    if waiting:
        raise invalid_query("Too many arguments to FORMAT for pattern")
    return made("(" + (" || ".join(pieces) or "''") + ")", t.STRING, *values)


def _directive(found: re.Match[str], value: Value) -> str:
    kind, flags, precision = found["kind"], found["flags"], found["precision"]
    if kind in "di" and value.kind == "INT64" and precision is None and not flags.strip("-+ 0'"):
        shown = (
            "format('{:,}', " + value.sql + ")" if "'" in flags else f"printf('%{flags}{found['width']}d', {value.sql})"
        )
        return shown if "'" not in flags else _widened(shown, found["width"], flags)
    if kind == "s" and value.kind == "STRING" and not flags.strip("-"):
        shown = value.sql if precision is None else f"left({value.sql}, {precision})"
        return _widened(shown, found["width"], flags)
    if kind in "eEfF" and value.kind in ("FLOAT64", "NUMERIC", "INT64") and not flags.strip("-+ 0"):
        pattern = f"%{flags}{found['width']}.{precision or 6}{kind}"
        return f"printf('{pattern}', CAST({value.sql} AS DOUBLE))"
    if kind in "xXo" and value.kind == "INT64" and not flags:
        return f"printf('%{found['width']}{kind}', {value.sql})"
    if kind in "tT" and not flags and not found["width"]:
        plain = _shown(value, quoted=kind == "T")
        if plain is not None:
            return f"coalesce({plain}, 'NULL')"
    raise unsupported(f"{found[0]} of {value.type} in FORMAT")


def _widened(shown: str, width: str, flags: str) -> str:
    if not width:
        return shown
    pad = "rpad" if "-" in flags else "lpad"
    return f"{pad}({shown}, CAST(greatest(length({shown}), {width}) AS INTEGER), ' ')"


def _shown(value: Value, quoted: bool) -> str | None:
    plain = {
        "INT64": f"CAST({value.sql} AS VARCHAR)",
        "BOOL": f"CAST({value.sql} AS VARCHAR)",
    }
    unquoted = {
        "STRING": value.sql,
        "FLOAT64": f"bq_float_text({value.sql})",
        "NUMERIC": f"bq_numeric_text({value.sql})",
        "DATE": f"CAST({value.sql} AS VARCHAR)",
        "TIMESTAMP": f"bq_timestamp_text({value.sql}, 'UTC')",
        "DATETIME": f"bq_datetime_text({value.sql})",
        "TIME": f"bq_time_text({value.sql})",
    }
    if value.kind == "FLOAT64":
        whole = f"{value.sql} = trunc({value.sql}) AND abs({value.sql}) < 1e15"
        return f"CASE WHEN {whole} THEN bq_float_text({value.sql}) || '.0' ELSE bq_float_text({value.sql}) END"
    return plain.get(value.kind) or (None if quoted else unquoted.get(value.kind))
