"""Every mistake of a configuration in words: which key, what form its value should have, with an example."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from agnes_mcp.config.settings import Settings
from agnes_mcp.errors import nearest
from agnes_mcp.models import TABLE_ID_PATTERN

#: Mistakes that are told; how many more there are is.
_TOLD = 20
#: What a pattern asks for, in words and with an example.
FORMS = {
    rf"\A{TABLE_ID_PATTERN}\z": "lower-case letters, digits and `_`, at most 64, as in `web_sessions`",
    r"\A([a-z0-9.\-]+:)?[a-z][a-z0-9\-]{4,28}[a-z0-9]\z": "a project's id, as in `my-project`: 6 to 30 lower-case "
    "letters, digits and `-`, a letter first",
    r"\A[A-Za-z0-9_]+\z": "a dataset's id, as in `my_dataset`: letters, digits and `_`",
    r"\A[A-Za-z0-9-]+\z": "a location of BigQuery, as in `EU` or `europe-west3`",
    r"\A[0-9a-f]{64}\z": "a SHA-256 in 64 hexadecimal digits, as `agnes-mcp token new` prints it",
    r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]+\z": "a table's name as BigQuery allows it: letters, digits, `_`, `-` and "
    "spaces",
    r"\A[^\p{Cc}]*\z": "a name without controls",
    r"\A([a-z0-9.:\-]+\.)?[A-Za-z0-9_]+\.\*\z": "a dataset, as in `my_dataset.*`",
    r"\A[A-Za-z][A-Za-z0-9_ ]*(\([0-9]+(, *[0-9]+)?\))?(\[\])?\z": "a type of DuckDB's, as in `VARCHAR` or "
    "`DECIMAL(18, 2)`",
    r"\A[a-z0-9\-]+@[a-z0-9.\-]+(,[a-z0-9\-]+@[a-z0-9.\-]+){0,5}\z": "a service account, as in "
    "`reader@my-project.iam.gserviceaccount.com`, or up to six with commas between them, the one acted for last",
    r"\Ahttps://[A-Za-z0-9./_\-]+\z": "a scope, as in `https://www.googleapis.com/auth/drive.readonly`",
    r"\A[a-z0-9\-]+(\.[a-z0-9\-]+)+\z": "a domain, as in `googleapis.com`",
}
#: What the library calls one of several forms of a value, behind the key or amid its path.
_ALTERNATIVE = re.compile(r"constrained-str|[a-z-]+\[.*\]", re.DOTALL)
_WORDS = {
    "missing": "is needed and not given",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "string_type": "should be a text; in quotes, if it looks like a number, a date or a yes",
    "path_type": "should be a path; in quotes, if it looks like a number, a date or a yes",
    "string_too_short": "should not be empty",
    "list_type": "should be a list, as in `[a, b]`",
    "dict_type": "should be a mapping of keys",
    "model_type": "should be a mapping of keys",
    "finite_number": "should be a finite number",
    "date_from_datetime_parsing": "should be a date, as in 2027-01-31",
    "date_type": "should be a date, as in 2027-01-31",
    "date_parsing": "should be a date, as in 2027-01-31",
}


def complaint_of(error: ValidationError, of: type[BaseModel] = Settings) -> tuple[str, str]:
    """All mistakes as one line, unknown keys first, and the first one's key."""
    complaints = error.errors(include_url=False, include_input=False)
    ordered = sorted(complaints, key=lambda complaint: complaint["type"] != "extra_forbidden")
    told: dict[str, str] = {}
    for complaint in ordered:
        key, problem = _spell(_place(complaint["loc"])) or "instance.yaml", _problem(complaint, of)
        told[key] = _either(told[key], problem) if key in told else problem
    told = {key: told[key] for key in told if not any(other.startswith(f"{key}[") for other in told)}
    lines = [f"{key}: {problem}" for key, problem in list(told.items())[:_TOLD]]
    more = f" ({len(told) - _TOLD} more)" if len(told) > _TOLD else ""
    return f"{'; '.join(lines)}.{more}", _spell(_place(ordered[0]["loc"]))


def _place(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Without the names of alternatives that the library adds behind a key."""
    kept = [part for part in location if isinstance(part, int) or not _ALTERNATIVE.fullmatch(part)]
    while len(kept) > 1 and isinstance(kept[-1], str) and not kept[-1].isidentifier():
        kept.pop()
    return tuple(kept)


def _either(first: str, second: str) -> str:
    """What two alternatives of one value ask for; where they are no forms, the first says enough."""
    form = second.removeprefix("should be ")
    return f"{first}, or {form}" if form not in first and first.startswith("should be ") and form != second else first


def _problem(complaint: Any, of: type[BaseModel]) -> str:
    kind, context = complaint["type"], complaint.get("ctx", {})
    if kind == "extra_forbidden":
        return "is not a key" + _suggest(complaint["loc"], of)
    if kind == "string_pattern_mismatch":
        return f"should be {FORMS.get(context['pattern'], 'of another form; see the reference')}"
    if kind == "literal_error":
        return f"should be {context['expected']}"
    if kind in _WORDS:
        return _WORDS[kind]
    said = str(complaint["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return said.replace("Input should", "should").replace("\n", " ").rstrip(".")


def _spell(location: tuple[int | str, ...]) -> str:
    spelled = ""
    for part in location:
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}"
    return spelled.lstrip(".")


def _suggest(location: tuple[int | str, ...], of: type[BaseModel]) -> str:
    known = _keys_beside(location, of)
    close = nearest(str(location[-1]), known, 1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are {', '.join(known)})" if known else ""


def _keys_beside(location: tuple[int | str, ...], of: type[BaseModel]) -> list[str]:
    """The names a model knows at the place where an unknown one was written."""
    schema = of.model_json_schema()
    here: Any = schema
    for part in location[:-1]:
        here = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
        reference = here.get("$ref") or next((o["$ref"] for o in here.get("anyOf", []) if "$ref" in o), None)
        here = schema["$defs"][reference.rsplit("/", 1)[1]] if reference else here
    return sorted(here.get("properties", {}))
