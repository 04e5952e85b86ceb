"""The rows that GoogleSQL's own evaluator gives, for comparing with the stand-in's. One thread, one at a time."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class GoogleSQL:
    """Statements without a catalog; the module must have been started (`support.googlesql`)."""

    def __init__(self) -> None:
        from zetasql.api import CatalogBuilder, PreparedQuery
        from zetasql.types import AnalyzerOptions, LanguageOptions, ProductMode, ZetaSQLBuiltinFunctionOptions
        from zetasql.types.proto_model.proto_model import ProtoModel

        language = LanguageOptions.maximum_features()
        language.product_mode = ProductMode.PRODUCT_EXTERNAL
        builtin = ZetaSQLBuiltinFunctionOptions(language_options=language)
        self._catalog = CatalogBuilder("instance").with_builtin_functions(builtin).build()
        self._options = AnalyzerOptions(language_options=language, default_timezone="UTC")
        self._builder = PreparedQuery.builder
        _keep_instants(ProtoModel)

    def rows(self, sql: str) -> list[list[Any]]:
        """The rows of a statement as plain values. Raises the evaluator's own error for what it refuses."""
        built = self._builder().set_sql(sql).set_analyzer_options(self._options).set_catalog(self._catalog)
        with built.prepare() as query:
            table = query.execute().content.table_data
        return [[plain(_decoded(cell)) for cell in row.cell] for row in (table.row if table is not None else ())]


def _keep_instants(model: Any) -> None:
    """The wrapper has no class for google.protobuf.Timestamp and drops what it holds: give the message itself."""
    convert = model.from_proto.__func__

    def from_proto(cls: Any, proto: Any) -> Any:
        return proto if proto.DESCRIPTOR.full_name == "google.protobuf.Timestamp" else convert(cls, proto)

    model.from_proto = classmethod(from_proto)


def _decoded(cell: Any) -> Any:
    held: list[tuple[str, Any]] = [(k, v) for k, v in vars(cell).items() if v is not None and not k.startswith("_")]
    if not held:
        return None
    kind, value = held[0]
    kind = kind.removesuffix("_value")
    if kind == "array":
        return [_decoded(element) for element in value.element or ()]
    if kind == "struct":
        return tuple(_decoded(field) for field in value.field)
    decode = _DECODERS.get(kind)
    return decode(value) if decode is not None else value


def _instant(value: Any) -> dt.datetime:
    return EPOCH + dt.timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def _datetime(value: Any) -> dt.datetime:
    bits = value.bit_field_datetime_seconds
    parts = [bits >> 26, bits >> 22 & 15, bits >> 17 & 31, bits >> 12 & 31, bits >> 6 & 63, bits & 63]
    return dt.datetime(*parts[:6], (value.nanos or 0) // 1000)  # type: ignore[call-arg]  # six parts, then the fraction


def _time(value: int) -> dt.time:
    bits = value >> 30
    return dt.time(bits >> 12, bits >> 6 & 63, bits & 63, (value & (1 << 30) - 1) // 1000)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "date": lambda days: dt.date(1970, 1, 1) + dt.timedelta(days=days),
    "timestamp": _instant,
    "datetime": _datetime,
    "time": _time,
    "numeric": lambda raw: Decimal(int.from_bytes(raw, "little", signed=True)).scaleb(-9),
    "json": lambda text: json.dumps(json.loads(text), sort_keys=True),
}


def plain(value: Any) -> Any:
    """A value in the shape in which the two are compared: structs are lists, no array is an empty one, NaN a word."""
    if value == []:
        return None
    if isinstance(value, dict):
        return [plain(inner) for inner in value.values()]
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.13g}") if math.isfinite(value) else str(value)
    return value.normalize() if isinstance(value, Decimal) else value


def unordered(rows: Sequence[Any]) -> list[Any]:
    return sorted(rows, key=repr)
