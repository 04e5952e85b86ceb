"""GoogleSQL on its way in: parsed, refused unless it is one SELECT, its tables found and its views opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError, TokenError
from sqlglot.optimizer.scope import traverse_scope

from agnes_mcp.stand_in.catalog import Catalog
from agnes_mcp.stand_in.routines import Routine, call_path, opened
from agnes_mcp.stand_in.sql.arrays import name_elements, open_implicit_arrays
from agnes_mcp.stand_in.sql.kinds import path_parts, statement_type, tables_named
from agnes_mcp.stand_in.sql.wording import place_of, syntax_error
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query, not_found

_MAX_VIEW_DEPTH = 16  # BigQuery's documented limit of nested views


@dataclass(frozen=True)
class Names:
    """How names without a project or a dataset are completed."""

    project: str
    dataset: str | None = None


@dataclass
class Resolved:
    """A statement whose every table is a stored one, written `project.dataset.table`, with its views opened."""

    query: exp.Query
    tables: dict[tuple[str, str, str], Table] = field(default_factory=dict)
    opened: list[Table] = field(default_factory=list)  # the views it went through
    named: list[Table] = field(default_factory=list)  # the tables and views that the statement itself names
    routines: list[Routine] = field(default_factory=list)
    location: str | None = None


class NotASelectError(ApiError):
    """A statement of another `kind`, which the stand-in can describe but does not run."""

    def __init__(self, kind: str, statements: list[exp.Expr], names: Names) -> None:
        super().__init__(400, "invalidQuery", "Only a single SELECT statement is supported", "q")
        self.kind = kind
        self._statements = statements
        self._names = names

    def described(self) -> dict[str, Any]:
        """As a dry run's `statistics.query`."""
        paths = [path_parts(path) for statement in self._statements for path in tables_named(statement)]
        default = [self._names.project, self._names.dataset or ""]
        full = [default[: max(3 - len(path), 0)] + path[-3:] for path in paths]
        keys = ("projectId", "datasetId", "tableId")
        tables = [dict(zip(keys, path, strict=True)) for path in full]
        return {"statementType": self.kind, "totalBytesProcessed": "0", "totalBytesBilled": "0", "cacheHit": False} | {
            "referencedTables": tables,
            "referencedRoutines": [],
        }


def parse(sql: str, names: Names) -> exp.Query:
    """The one SELECT that `sql` is. Raises `NotASelectError`, or `ApiError` with BigQuery's reason and position."""
    try:
        parsed = [statement for statement in sqlglot.parse(sql, read="bigquery") if statement is not None]
    except ParseError as error:
        raise syntax_error(error) from None
    except TokenError:
        raise invalid_query("Syntax error: Unclosed string literal", 1, 1) from None
    if not parsed:
        raise invalid_query("Syntax error: Unexpected end of statement", 1, 1)
    kind = statement_type(sql)
    if kind == "SELECT" and isinstance(parsed[0], exp.Query):
        return parsed[0]
    if not kind or kind == "SELECT":
        word = sql.split()[0]
        raise invalid_query(f'Syntax error: Unexpected identifier "{word}"', *place_of(word, sql))
    raise NotASelectError(kind, list(parsed), names)


def stored_tables(query: exp.Expr) -> Iterator[exp.Table]:
    """Every table reference that is neither a CTE nor an array of a table beside it."""
    seen: set[int] = set()
    for scope in traverse_scope(query):
        aliases = {name.lower() for name in scope.sources}
        for source in scope.sources.values():
            if not isinstance(source, exp.Table) or id(source) in seen:
                continue
            if not isinstance(source.this, exp.Identifier | exp.Dot):
                raise invalid_query(f"Table-valued function not found: {source.name or source.this.key}")
            seen.add(id(source))
            if source.args.get("db") is None or source.args.get("catalog") or source.db.lower() not in aliases:
                yield source


def resolve(query: exp.Query, catalog: Catalog, names: Names, location: str | None) -> Resolved:
    """Find every table, open every view. Raises `notFound` as BigQuery words it."""
    resolved = Resolved(query, location=location)
    _open(query, catalog, names, resolved, 0)
    name_elements(query, resolved.tables.values())
    return resolved


def _open(query: exp.Query, catalog: Catalog, names: Names, resolved: Resolved, depth: int) -> None:
    if depth > _MAX_VIEW_DEPTH:
        raise ApiError(400, "invalidQuery", "Too many nested views")
    _open_routines(query, catalog, names, resolved)
    try:
        open_implicit_arrays(query)
        references = list(stored_tables(query))
    except SqlglotError as error:
        raise invalid_query(_first_line(error)) from None
    for reference in references:
        table = _find(reference, catalog, names, resolved.location)
        resolved.location = resolved.location or table.location
        if depth == 0 and table not in resolved.named:
            resolved.named.append(table)
        alias = reference.alias or reference.name.split(".")[-1]
        if table.kind == "VIEW":
            resolved.opened.append(table)
            body = parse(table.view_sql, Names(table.project))
            name_outputs(body)
            _open(body, catalog, Names(table.project), resolved, depth + 1)
            reference.replace(_subquery(body, alias, reference))
        else:
            resolved.tables[(table.project, table.dataset, table.name)] = table
            _spell_out(reference, table, alias)


def _find(reference: exp.Table, catalog: Catalog, names: Names, location: str | None) -> Table:
    written = path_parts(".".join(p.name for p in reference.parts))
    if len(written) == 1 and names.dataset is None:
        message = f'Table "{written[0]}" must be qualified with a dataset (e.g. dataset.table).'
        raise ApiError(400, "invalidQuery", message, "q")
    if len(written) > 3:
        raise invalid_query(f"Invalid table name: {'.'.join(written)}")
    project, dataset, name = [names.project, names.dataset or "", ""][: 3 - len(written)] + written
    try:
        wild = name.endswith("*")
        table = catalog.wildcard(project, dataset, name[:-1]) if wild else catalog.queried(project, dataset, name)
    except ApiError as error:
        if not error.message.startswith("Not found"):
            raise
        kind = "Table" if "Table" in error.message else "Dataset"
        label = f"{project}:{dataset}" + (f".{name}" if kind == "Table" else "")
        raise not_found(kind, label, location or catalog.location) from None
    if location is not None and table.location.lower() != location.lower():
        raise not_found("Dataset", f"{project}:{dataset}", location)
    return table


def _open_routines(query: exp.Query, catalog: Catalog, names: Names, resolved: Resolved) -> None:
    for call in list(query.find_all(exp.Anonymous)):
        path = call_path(call)
        if not path:
            continue
        project, dataset, name = [names.project, names.dataset or "", ""][: max(3 - len(path), 0)] + path[-3:]
        routine = catalog.routines.get((project, dataset, name))
        if routine is None:
            raise invalid_query(f"Function not found: {'.'.join(path)}")
        if routine not in resolved.routines:
            resolved.routines.append(routine)
        whole = call.parent if isinstance(call.parent, exp.Dot) else call
        whole.replace(opened(routine, sqlglot.parse_one(routine.body, into=exp.Condition, read="bigquery"), call))


def _subquery(body: exp.Query, alias: str, reference: exp.Table) -> exp.Subquery:
    """`reference` reads a view: the view's query in its place, under the same name."""
    return exp.Subquery(
        this=body,
        alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
        joins=reference.args.get("joins"),
        pivots=reference.args.get("pivots"),
        sample=reference.args.get("sample"),
    )


def _spell_out(reference: exp.Table, table: Table, alias: str) -> None:
    reference.set("version", None)  # FOR SYSTEM_TIME AS OF: nothing here has a past
    reference.set("this", exp.to_identifier(table.name, quoted=True))
    reference.set("db", exp.to_identifier(table.dataset, quoted=True))
    reference.set("catalog", exp.to_identifier(table.project, quoted=True))
    reference.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))


def bind_parameters(query: exp.Query, value_of: Callable[[str | int], exp.Expr]) -> None:
    """Replace `@name` and `?` by the values that `value_of` gives for a name or a 0-based position."""
    for parameter in list(query.find_all(exp.Parameter)):
        parameter.replace(value_of(parameter.this.name))
    for index, placeholder in enumerate(list(query.find_all(exp.Placeholder, bfs=False))):
        placeholder.replace(value_of(index))


def name_outputs(query: exp.Expr) -> None:
    """Name every output column as BigQuery does: as it is written, and `f0_`, `f1_`, … where it has no name."""
    select = query
    while not isinstance(select, exp.Select):
        select = select.this
    unnamed = 0
    for projection in list(select.expressions):
        if isinstance(projection, exp.Alias) or projection.is_star:
            continue
        name = projection.name if isinstance(projection, exp.Column | exp.Dot) else ""
        if not name:
            name, unnamed = f"f{unnamed}_", unnamed + 1
        projection.replace(exp.alias_(projection.copy(), name, quoted=True))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
