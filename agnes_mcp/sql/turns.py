"""Habitual wrong turns of the structured arguments, each as the call that works: its text and all.

Read only to be shown, after a refusal and never instead of one: what is proposed goes through every gate when called.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Aggregate, AggregateFunction, Dialect, ScanRequest, TableSchema
from agnes_mcp.sql.columns import resolve
from agnes_mcp.sql.working import WorkingCall, by_sql

#: Longer, or deeper, is nobody's habit; and the parser's time grows with depth.
_MAX_CHARS, _MAX_DEPTH = 600, 6
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FUNCTIONS = frozenset(get_args(AggregateFunction))
_SPELLED_OTHERWISE = {
    "average": "avg", "mean": "avg", "total": "sum", "maximum": "max", "minimum": "min", "countif": "count_if",
    "distinct": "count_distinct", "countdistinct": "count_distinct", "distinct_count": "count_distinct",
    "count_unique": "count_distinct", "nunique": "count_distinct", "unique": "count_distinct",
}  # fmt: skip
_PERCENTILE = re.compile(r"(?:p|percentile|quantile|pct)_?(\d{1,2})")
_MEDIANS = ("median", "percentile", "percentile_cont", "percentile_disc", "quantile", "quantile_cont")
_CALLED = {
    "count_if": {"bigquery": "COUNTIF", "duckdb": "count_if"},
    "approx_count_distinct": {"bigquery": "APPROX_COUNT_DISTINCT", "duckdb": "approx_count_distinct"},
}


@dataclass(frozen=True)
class _Term:
    """One thing that was asked for. `column`: the path of one of the table; `aggregate`: an entry of aggregates."""

    text: str
    alias: str = ""
    column: str = ""
    aggregate: Aggregate | None = None
    folds: bool = False


@dataclass
class _Asked:
    """A request, read as what was meant by it."""

    keys: list[_Term] = field(default_factory=list)
    folded: list[_Term] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    having: list[str] = field(default_factory=list)
    tail: str = ""  # ORDER BY and LIMIT that stood in the condition
    distinct: bool = False
    turned: bool = False  # whether anything was asked for in a way that the arguments have not
    sources: str = ""


def working_call(
    request: ScanRequest,
    schema: TableSchema,
    dialect: Dialect,
    tool: str,
    others: Mapping[str, TableSchema],
    having: str = "",
    distinct: bool = False,
) -> WorkingCall | None:
    """The call that was meant, or None where the arguments show no such habit. `others`: further tables by id."""
    texts = [*(request.select or []), *(request.group_by or []), *(request.order_by or []), request.where, having]
    texts += [f"{entry.function} {entry.column or ''}" for entry in request.aggregates or []]
    if any(len(text) > _MAX_CHARS or _depth(text) > _MAX_DEPTH for text in texts):
        return None
    try:
        return _Reading(request, schema, dialect, others).call(tool, having, distinct)
    except (SqlglotError, RecursionError):
        return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([<") - (character in ")]>")
        deepest = max(deepest, depth)
    return deepest


class _Reading:
    def __init__(
        self, request: ScanRequest, schema: TableSchema, dialect: Dialect, others: Mapping[str, TableSchema]
    ) -> None:
        self._request, self._schema, self._dialect, self._others = request, schema, dialect, others
        self._asked = _Asked()

    def call(self, tool: str, having: str, distinct: bool) -> WorkingCall | None:
        asked = self._asked
        asked.distinct = asked.turned = distinct
        for text in [*(self._request.group_by or []), *(self._request.select or [])]:
            self._take(text)
        for entry in self._request.aggregates or []:
            self._take_aggregate(entry)
        self._take_condition(self._request.where)
        if having:
            asked.having.append(having)
        asked.turned |= bool(asked.having)
        sources = self._sources()
        if not asked.turned or sources is None:
            return None
        asked.sources = sources
        return self._structured(tool) or self._written(tool)

    def _parse(self, text: str) -> exp.Select:
        parsed = sqlglot.parse_one(text, read=self._dialect)
        if not isinstance(parsed, exp.Select):
            raise SqlglotError(text)
        return parsed

    def _take(self, text: str) -> None:
        """An entry of select or group_by: a column, or what somebody takes for one."""
        if text.strip() == "*":
            return
        try:
            self._add(_Term(text, column=".".join(resolve(text, self._schema)[0])))
            return
        except AgnesError:
            pass
        parsed = self._parse(f"SELECT {text}")
        self._asked.distinct |= parsed.args.get("distinct") is not None
        typo = len(parsed.expressions) == 1 and _PLAIN.fullmatch(text.strip()) is not None
        if typo or parsed.args.get("from_") is not None:
            raise SqlglotError(text)
        self._asked.turned = True
        for expression in parsed.expressions:
            self._add(self._term(expression))

    def _add(self, term: _Term) -> None:
        into = self._asked.folded if term.folds else self._asked.keys
        if all(term.text.casefold() != known.text.casefold() for known in into):
            into.append(term)

    def _term(self, expression: exp.Expr) -> _Term:
        inner, alias = expression.unalias(), expression.alias
        text = inner.sql(self._dialect)
        if inner.find(exp.AggFunc) is not None and inner.find(exp.Window) is None:
            return _Term(text, alias, aggregate=_structured_of(inner, alias), folds=True)
        own = re.sub(rf"^{re.escape(self._schema.table_id)}\.", "", text, flags=re.IGNORECASE)
        try:
            column = ".".join(resolve(own.replace("`", "").replace('"', ""), self._schema)[0])
        except AgnesError:
            column = ""
        return _Term(text, alias, column="" if alias else column)

    def _take_aggregate(self, entry: Aggregate) -> None:
        function = _SPELLED_OTHERWISE.get(entry.function, entry.function)
        if not _PLAIN.fullmatch(function):  # a call: count(*), sum(amount)
            for expression in self._parse(f"SELECT {entry.function}").expressions:
                self._add(self._term(expression))
            self._asked.turned = True
            return
        known = entry.column is None or self._knows(entry.column)
        structured = entry.model_copy(update={"function": function}) if function in _FUNCTIONS and known else None
        self._asked.turned |= structured is None or function != entry.function
        text = self._folding(function, entry.column)
        plain = re.sub(r"\W+", "_", entry.column or "").strip("_")[:60]
        alias = entry.alias or (f"{function}_{plain}" if plain else function)
        self._asked.folded.append(_Term(text, alias, aggregate=structured, folds=True))

    def _knows(self, column: str) -> bool:
        try:
            resolve(column, self._schema)
        except AgnesError:
            return False
        return True

    def _folding(self, function: str, column: str | None) -> str:
        of = column or "*"
        share = 50 if function in _MEDIANS else int(found[1]) if (found := _PERCENTILE.fullmatch(function)) else None
        if share is not None:
            remote = f"APPROX_QUANTILES({of}, 100)[OFFSET({share})]"
            return remote if self._dialect == "bigquery" else f"quantile_cont({of}, {share / 100:g})"
        if function == "mode":
            return f"APPROX_TOP_COUNT({of}, 1)[OFFSET(0)].value" if self._dialect == "bigquery" else f"mode({of})"
        if function == "count_distinct":
            return f"COUNT(DISTINCT {of})"
        return f"{_CALLED.get(function, {}).get(self._dialect, function.upper())}({of})"

    def _take_condition(self, where: str) -> None:
        if not where.strip():
            return
        asked, without = self._asked, re.sub(r"^\s*WHERE\b", "", where, flags=re.IGNORECASE)
        asked.turned |= without != where
        parsed = self._parse(f"SELECT 1 FROM t WHERE {without}")  # noqa: S608 - only parsed
        whole = parsed.args["where"].this
        pieces = list(whole.flatten()) if isinstance(whole, exp.And) else [whole]
        for piece in pieces:
            folds = piece.find(exp.AggFunc) is not None and piece.find(exp.Select) is None
            (asked.having if folds else asked.conditions).append(piece.sql(self._dialect))
            asked.turned |= folds or piece.find(exp.Select) is not None
        for key in parsed.args["group"].expressions if parsed.args.get("group") else []:
            self._add(self._term(key))
            asked.turned = True
        asked.having += [parsed.args["having"].this.sql(self._dialect)] if parsed.args.get("having") else []
        tail = [part.sql(self._dialect) for name in ("order", "limit") if (part := parsed.args.get(name))]
        asked.tail, asked.turned = " ".join(tail).strip(), asked.turned or bool(tail)

    def _sources(self) -> str | None:
        """FROM, with a join of what else is named, and UNNEST of the lists that are looked into; None: no way."""
        own, sources = self._schema.table_id, self._schema.table_id
        text = " ".join(self._texts())
        for table_id, schema in self._others.items():
            if re.search(rf"\b{re.escape(table_id)}\.", text, re.IGNORECASE):
                shared = [column.name for column in self._schema.columns if schema.column(column.name)]
                keys = [name for name in shared if name.casefold().endswith(("_id", "_key"))] or shared
                if not keys:
                    return None
                sources, self._asked.turned = f"{sources} JOIN {table_id} USING ({keys[0]})", True
        for column in self._schema.columns:
            inside = rf"\b(?:{re.escape(own)}\.)?{re.escape(column.name)}\."
            if column.mode == "REPEATED" and column.fields and re.search(inside, text, re.IGNORECASE):
                item = f"{column.name}_item"
                sources += f", UNNEST({column.name}) AS " + (item if self._dialect == "bigquery" else f"u({item})")
                self._rewrite(inside, f"{item}.")
                self._asked.turned = True
        return sources

    def _texts(self) -> list[str]:
        asked = self._asked
        return [*(term.text for term in [*asked.keys, *asked.folded]), *asked.conditions, *asked.having]

    def _rewrite(self, pattern: str, by: str) -> None:
        asked = self._asked

        def again(text: str) -> str:
            return re.sub(pattern, by, text, flags=re.IGNORECASE)

        asked.keys = [_Term(again(term.text), term.alias) for term in asked.keys]
        asked.folded = [_Term(again(term.text), term.alias, folds=True) for term in asked.folded]
        asked.conditions, asked.having = [*map(again, asked.conditions)], [*map(again, asked.having)]

    def _structured(self, tool: str) -> WorkingCall | None:
        """The same by the arguments, where they can say it."""
        asked, request = self._asked, self._request
        nested = any(re.search(r"\bSELECT\b", text, re.IGNORECASE) for text in asked.conditions)
        elsewhere = asked.having or asked.tail or nested or asked.sources != self._schema.table_id
        if elsewhere or not all(term.column for term in asked.keys):
            return None
        if not all(term.aggregate for term in asked.folded):
            return None
        arguments: dict[str, Any] = {"table_id": self._schema.table_id}
        columns = [term.column for term in asked.keys]
        if columns:
            arguments["group_by" if asked.folded or asked.distinct or request.group_by else "select"] = columns
        if asked.folded:
            arguments["aggregates"] = [
                term.aggregate.model_dump(exclude_none=True) for term in asked.folded if term.aggregate
            ]
        if asked.conditions:
            arguments["where"] = " AND ".join(asked.conditions)
        if any("(" in entry for entry in request.order_by or []):
            return None
        return WorkingCall(tool, arguments | ({"order_by": request.order_by} if request.order_by else {}))

    def _written(self, tool: str) -> WorkingCall:
        asked, request = self._asked, self._request
        if asked.having and not asked.folded:
            asked.folded.append(_Term("COUNT(*)", "n", folds=True))
        shown = [f"{term.text} AS {term.alias}" if term.alias else term.text for term in [*asked.keys, *asked.folded]]
        grouped = asked.keys and (asked.folded or asked.distinct or request.group_by)
        parts = [f"SELECT {', '.join(shown) or '*'} FROM {asked.sources}"]  # noqa: S608 - only shown
        parts += [f"WHERE {' AND '.join(asked.conditions)}"] if asked.conditions else []
        parts += [f"GROUP BY {', '.join(str(n) for n in range(1, len(asked.keys) + 1))}"] if grouped else []
        parts += [f"HAVING {' AND '.join(asked.having)}"] if asked.having else []
        parts += [f"ORDER BY {', '.join(request.order_by)}"] if request.order_by and not asked.tail else []
        parts += [asked.tail] if asked.tail else []
        return by_sql(" ".join(parts), self._dialect, tool, f"{self._schema.table_id}_rows")


def _structured_of(inner: exp.Expr, alias: str) -> Aggregate | None:
    """`COUNT(*)`, `SUM(amount)`, `COUNT(DISTINCT x)` as an entry of aggregates."""
    of, named = inner.this, alias or None
    if isinstance(inner, exp.Count) and isinstance(of, exp.Distinct) and len(of.expressions) == 1:
        function, of = "count_distinct", of.expressions[0]
    else:
        function = inner.key if inner.key in ("count", "sum", "avg", "min", "max") else ""
    if function == "count" and isinstance(of, exp.Star | exp.Literal):
        return Aggregate(function="count", alias=named)
    if function and isinstance(of, exp.Column) and not of.table:
        return Aggregate(function=function, column=of.name, alias=named)
    return None
