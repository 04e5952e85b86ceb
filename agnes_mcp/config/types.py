"""What the value of a setting may be: numbers in bounds, names that are safe in a path and in SQL, URLs."""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from agnes_mcp.models import TABLE_ID_PATTERN
from agnes_mcp.untrusted import find_hidden

GIB = 2**30


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


def _list_of_names(value: object) -> object:
    return [value] if isinstance(value, str) else [] if value is None else value


Count = Annotated[int, Field(ge=0), BeforeValidator(_reject_bool)]
Bytes = Annotated[int, Field(ge=0), BeforeValidator(_reject_bool)]
# NaN is told as such: the bound comes last, and so is written once more for the schema.
Number = Annotated[
    float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False, json_schema_extra={"minimum": 0})
]
Seconds = Number
PositiveCount = Annotated[int, Field(ge=1), BeforeValidator(_reject_bool)]
PositiveSeconds = Annotated[
    float, BeforeValidator(_reject_bool), Field(gt=0, allow_inf_nan=False, json_schema_extra={"exclusiveMinimum": 0})
]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_reject_bool)]
AnswerChars = Annotated[int, Field(ge=1_000), BeforeValidator(_reject_bool)]
EngineBytes = Annotated[int, Field(ge=64 * 2**20), BeforeValidator(_reject_bool)]
WorkerBytes = Annotated[int, Field(ge=128 * 2**20), BeforeValidator(_reject_bool)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
TableId = Annotated[str, StringConstraints(pattern=rf"\A{TABLE_ID_PATTERN}\z")]
# What BigQuery allows in a project, dataset and table id; checked whole before any of them is put into a path or SQL.
ProjectId = Annotated[str, StringConstraints(pattern=r"\A([a-z0-9.\-]+:)?[a-z][a-z0-9\-]{4,28}[a-z0-9]\z")]
LocationId = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9-]+\z", max_length=64)]
DatasetId = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_]+\z", max_length=1024)]
Sha256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]


def _plain_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("should be an http or https URL without user, query and fragment")
    return value.rstrip("/")


def _secure_url(value: str) -> str:
    parts = urlsplit(_plain_url(value))
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("should be an https URL; plain http is for loopback only")
    return value


def _seen_whole(name: str) -> str:
    """Two callers whose names differ in what nobody sees would look like one to whoever grants."""
    place = find_hidden(name)
    if place >= 0:
        raise ValueError(f"should hold no hidden character; U+{ord(name[place]):04X} is at place {place + 1}")
    return name


def expanded(path: str | os.PathLike[str]) -> str:
    """A path with `~` and `$VARIABLES` as the shell would have them."""
    return os.path.expanduser(os.path.expandvars(path))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _store_of_quota(value: str) -> str:
    """The message names no part of the value: it may hold a password."""
    if value in ("process", "file"):
        return value
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("postgresql", "postgres") and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets that do not match, a port that is no number
        named = False
    if not named:
        raise ValueError("should be `process`, `file`, or a URL as in postgresql://user@host:5432/database")
    return value


QuotaStoreName = Annotated[str, AfterValidator(_store_of_quota)]
Percent = Annotated[
    float, BeforeValidator(_reject_bool), Field(ge=0, le=100, allow_inf_nan=False, json_schema_extra={"minimum": 0})
]
CallerName = Annotated[ShortText, AfterValidator(_seen_whole)]
HttpUrl = Annotated[str, AfterValidator(_plain_url)]
HttpsUrl = Annotated[str, AfterValidator(_secure_url)]
_BIGQUERY_TABLE_ID = TypeAdapter[str](
    Annotated[str, StringConstraints(pattern=r"\A[\p{L}\p{M}\p{N}\p{Pc}\p{Pd}\p{Zs}]+\*?\z", max_length=1024)]
)
#: A table of BigQuery's, a sheet, a table in a file: each has forms of its own, and none has these in it.
SourceTable = Annotated[str, StringConstraints(pattern=r"\A[^\p{Cc}]*\z", max_length=1024)]
Names = Annotated[list[str], BeforeValidator(_list_of_names)]
CsvType = Annotated[
    str, StringConstraints(pattern=r"\A[A-Za-z][A-Za-z0-9_ ]*(\([0-9]+(, *[0-9]+)?\))?(\[\])?\z", max_length=60)
]
#: With commas before it: those through which the right to act for it is passed on.
ServiceAccount = Annotated[
    str, StringConstraints(pattern=r"\A[a-z0-9\-]+@[a-z0-9.\-]+(,[a-z0-9\-]+@[a-z0-9.\-]+){0,5}\z", max_length=1200)
]
Scope = Annotated[str, StringConstraints(pattern=r"\Ahttps://[A-Za-z0-9./_\-]+\z", max_length=200)]
HostName = Annotated[str, StringConstraints(pattern=r"\A[a-z0-9\-]+(\.[a-z0-9\-]+)+\z", max_length=200)]
#: A dataset of the configured project, or of the one before it; every table in it.
DatasetGrant = Annotated[str, StringConstraints(pattern=r"\A([a-z0-9.:\-]+\.)?[A-Za-z0-9_]+\.\*\z", max_length=1200)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


def is_bigquery_table_id(name: str) -> bool:
    """Whether it is a name that BigQuery allows a table, or the prefix of sharded ones with a `*` behind it."""
    try:
        _BIGQUERY_TABLE_ID.validate_python(name)
    except ValidationError:
        return False
    return True
