"""A statement, understood: its result schema, the tables it names, its bytes, and the DuckDB SQL that answers it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import duckdb

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.fields import Field, quoted
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import parse
from agnes_mcp.stand_in.googlesql.names import Column, Relation, field_of
from agnes_mcp.stand_in.googlesql.query import compile_query, compile_view
from agnes_mcp.stand_in.googlesql.session import Names, Session
from agnes_mcp.stand_in.googlesql.values import Value, text
from agnes_mcp.stand_in.jobs.bill import billed, bytes_by_table
from agnes_mcp.stand_in.routines import Routine
from agnes_mcp.stand_in.sql.lookup import Lookup
from agnes_mcp.stand_in.sql.wording import refusal_of
from agnes_mcp.stand_in.store import Store
from agnes_mcp.stand_in.tables import Statistics, Table
from agnes_mcp.stand_in.wire.replies import ApiError

#: How `referencedTables` lists a statement over views: which of the three BigQuery does is not documented.
References = Literal["bases", "named", "both"]


@dataclass
class Analysis:
    """`fields` are the result's columns; `referenced` the stored tables it reads, `opened` the views it reads them
    through, `named` those of both that the text itself names; `bytes_by_table` what each stored table would cost."""

    sql: str
    duckdb_sql: str
    fields: tuple[Field, ...]
    referenced: list[Table]
    opened: list[Table]
    bytes_by_table: dict[Table, int] = field(default_factory=dict)
    deterministic: bool = True
    location: str | None = None
    named: list[Table] = field(default_factory=list)
    routines: list[Routine] = field(default_factory=list)

    def references(self, listing: References) -> list[dict[str, str]]:
        """As `referencedTables`, which may list a statement's base tables, the names it writes, or views and both."""
        tables = {"bases": self.referenced, "named": self.named, "both": [*self.opened, *self.referenced]}[listing]
        return [table.reference for table in dict.fromkeys(tables)]

    @property
    def hides_bytes(self) -> Statistics:
        """What is shown of its bytes: the least that one of its tables lets through."""
        hidden = {table.hides_bytes for table in self.referenced}
        return "absent" if "absent" in hidden else "zero" if "zero" in hidden else "shown"

    @property
    def bytes_processed(self) -> int:
        return sum(self.bytes_by_table.values())

    @property
    def bytes_estimated(self) -> int:
        """What a dry run says: of external tables it knows nothing beforehand."""
        return sum(read for table, read in self.bytes_by_table.items() if table.kind != "EXTERNAL")

    @property
    def accuracy(self) -> str:
        """BigQuery's word for how good the estimate is."""
        told = [table.accuracy for table in [*self.referenced, *self.opened] if table.accuracy]
        if told:
            return told[0]
        if any(table.kind == "EXTERNAL" for table in self.bytes_by_table):
            return "LOWER_BOUND"
        return "UPPER_BOUND" if any(table.clustering for table in self.bytes_by_table) else "PRECISE"

    @property
    def bytes_billed(self) -> int:
        return sum(billed(read) for read in self.bytes_by_table.values())


def analyse(
    sql: str,
    catalog: Catalog,
    store: Store,
    names: Names,
    location: str | None = None,
    parameters: Callable[[str | int], Value] | None = None,
    priced: bool = True,
) -> Analysis:
    """Understand `sql` without reading a row. Raises `ApiError` in BigQuery's words for whatever is wrong with it.

    What is not `priced` is a view's definition: it may lack a filter that its reader will give.
    """
    query = parse(sql)
    lookup = Lookup(catalog)
    session = Session(lookup.table, lookup.routine, compile_query, compile_view, names, sql, location, parameters)
    try:
        relation = compile_query(session, query, None, {})
    except RecursionError:
        raise ApiError(400, "invalidQuery", "Query is too complex: too deeply nested", "q") from None
    columns = _columns(relation)
    duckdb_sql = _whole(session, relation, columns)
    reads = relation.always.union(*(column.value.reads for column in columns))
    sizes: dict[Table, int] = {}
    _refuse_unbound(store, duckdb_sql, sql)
    if priced:
        sizes = bytes_by_table(store, session.places, reads)
    return Analysis(
        sql,
        duckdb_sql,
        tuple(t.field_of(column.name, column.value.type) for column in columns),
        list(sizes),
        session.opened,
        sizes,
        not session.volatile,
        session.location,
        session.named,
        session.routines,
    )


def _columns(relation: Relation) -> list[Column]:
    """The result's columns, named as BigQuery names them: what has no name is f0_, f1_, …"""
    columns = relation.columns
    if relation.whole and columns[0].value.kind == "STRUCT":
        row = columns[0].value
        columns = [Column(name, field_of(row, name)) if name else Column("", row) for name, _ in row.type.fields]
    unnamed = 0
    named: list[Column] = []
    for column in columns:
        name = column.name
        if not name:
            name, unnamed = f"f{unnamed}_", unnamed + 1
        named.append(Column(name, column.value))
    _refuse_repeated([column.name.lower() for column in named])
    return named


def _refuse_repeated(names: list[str]) -> None:
    repeated = sorted(name for name, times in Counter(names).items() if times > 1)
    if repeated:
        found = ", ".join(repeated)
        message = f"Duplicate column names in the result are not supported. Found duplicate(s): {found}"
        raise ApiError(400, "invalidQuery", message, "q")


def _whole(session: Session, relation: Relation, columns: list[Column]) -> str:
    """The statement in DuckDB's words; no array that is written out holds a NULL."""
    shown = ", ".join(f"{_written(column)} AS {quoted(column.name)}" for column in columns)
    sql = f"SELECT {shown} FROM ({relation.sql}) AS result"  # noqa: S608 - rendered from its tree
    commons = ", ".join(f"{name} AS ({query})" for name, query in session.commons)
    return f"WITH {commons} {sql}" if commons else sql


def _written(column: Column) -> str:
    return (
        f"bq_without_null({column.value.sql}, {text(column.name)})"
        if column.value.kind == "ARRAY"
        else column.value.sql
    )


def _refuse_unbound(store: Store, duckdb_sql: str, sql: str) -> None:
    """Raise for whatever DuckDB finds wrong before a row is read."""
    try:
        store.rows(f"SELECT * FROM ({duckdb_sql}) LIMIT 0")  # noqa: S608 - rendered
    except duckdb.Error as error:
        raise refusal_of(error, sql) from None
