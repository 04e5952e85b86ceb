"""What a statement reads: the leaf columns and the partitions of each stored table, and so its bytes.

BigQuery's on-demand price counts every referenced column of every partition that the filter does not exclude; LIMIT
does not lower it. Columns that a view or subquery offers and nobody asks for are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.pushdown_predicates import pushdown_predicates
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from agnes_mcp.stand_in.jobs.pruning import conjuncts
from agnes_mcp.stand_in.sql.statement import Resolved
from agnes_mcp.stand_in.tables import Table

_MIB = 1024 * 1024
MINIMUM_BILL_BYTES = 10 * _MIB  # BigQuery bills at least 10 MB per table referenced by the query


@dataclass
class Scan:
    """One stored table as one statement reads it."""

    table: Table
    leaves: set[str] = field(default_factory=set)
    # one list of conjuncts for each place where the statement names the table
    filters: list[list[exp.Expr]] = field(default_factory=list)


def billed(bytes_read: int) -> int:
    """What is billed for one table: rounded up to MiB, at least 10."""
    return max(MINIMUM_BILL_BYTES, -(-bytes_read // _MIB) * _MIB) if bytes_read else 0


def schema_of(resolved: Resolved) -> MappingSchema:
    """The referenced tables' columns, as sqlglot takes them."""
    tree: dict[str, Any] = {}
    for (project, dataset, name), table in resolved.tables.items():
        columns = {f.name: f.sql_type() for f in (*table.fields, *table.pseudo_fields)}
        tree.setdefault(project, {}).setdefault(dataset, {})[name] = columns
    return MappingSchema(tree, dialect="bigquery")


def qualified(resolved: Resolved) -> exp.Expr:
    """A copy whose every column names its table. Raises sqlglot's errors for names that do not exist."""
    return qualify(
        resolved.query.copy(),
        schema=schema_of(resolved),
        dialect="bigquery",
        quote_identifiers=False,
    )


def scans_of(resolved: Resolved, tree: exp.Expr) -> list[Scan]:
    """What the qualified statement `tree` reads of each table."""
    scans = {key: Scan(table) for key, table in resolved.tables.items()}
    projected = pushdown_projections(tree.copy())
    for scope, name, reference in _table_references(projected):
        scan = scans[(reference.catalog, reference.db, reference.name)]
        for column in scope.columns:
            if column.table == name:
                for path in _element_paths(column) or [_path(column)]:
                    scan.leaves |= set(_leaves_under(scan.table, path))
    for scope, name, reference in _table_references(_pushed(tree)):
        scan = scans[(reference.catalog, reference.db, reference.name)]
        scan.filters.append(list(conjuncts(scope, name)))
    return list(scans.values())


def _pushed(tree: exp.Expr) -> exp.Expr:
    try:
        return pushdown_predicates(tree.copy(), dialect="bigquery")
    except (SqlglotError, KeyError, AttributeError):  # an exotic shape: prune by what stands beside the table
        return tree


def _table_references(tree: exp.Expr) -> Iterator[tuple[Scope, str, exp.Table]]:
    for scope in traverse_scope(tree):
        for name, source in scope.sources.items():
            if isinstance(source, exp.Table) and source.args.get("catalog"):
                yield scope, name, source


def _path(column: exp.Column) -> str:
    """`t.s.x.y` as written around a column: the struct fields that are taken from it."""
    parts = [column.name]
    node: exp.Expr = column
    while (
        isinstance(node.parent, exp.Dot)
        and node.parent.this is node
        and isinstance(node.parent.expression, exp.Identifier)
    ):
        node = node.parent
        parts.append(node.expression.name)
    return ".".join(parts).lower()


def _element_paths(column: exp.Column) -> list[str]:
    """For an array that FROM unnests: the paths of the element's fields that the statement uses; none for "all"."""
    unnest = column.find_ancestor(exp.Unnest)
    select = unnest.find_ancestor(exp.Select) if unnest is not None else None
    if unnest is None or select is None or not isinstance(unnest.parent, exp.From | exp.Join):
        return []
    uses = [use for use in select.find_all(exp.Column) if use.table == unnest.alias]
    fields = [_path(use).partition(".")[2] for use in uses]
    return [f"{_path(column)}.{field}" for field in fields] if all(fields) else []


def _leaves_under(table: Table, path: str) -> Iterator[str]:
    for leaf, _ in table.leaves():
        folded = leaf.lower()
        if folded == path or folded.startswith(path + "."):
            yield leaf
