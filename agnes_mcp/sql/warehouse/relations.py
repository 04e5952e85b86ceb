"""Gate 3 for FROM: each name in it is a table that this principal may read, a CTE in scope, or an array of a row.

What comes out has four shapes, none of which can be read in two ways: a place as one backquoted name with an alias, a
CTE's single name, UNNEST, and a subquery.
"""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.models import Column, TableSchema
from agnes_mcp.sql.warehouse.binding import Binding, Ctes
from agnes_mcp.sql.warehouse.expressions import Expressions
from agnes_mcp.sql.warehouse.past import moment_of
from agnes_mcp.sql.warehouse.pivots import pivoted
from agnes_mcp.sql.warehouse.places import Place, Use
from agnes_mcp.sql.warehouse.scope import Named, Range, Relation, Scope

Columns = list[Named | None]
_TABLE_PARTS = ("catalog", "db", "this")
_HIDDEN = "information_schema"


class Relations:
    def __init__(self, binding: Binding, expressions: Expressions) -> None:
        self._binding, self._expressions = binding, expressions

    def add(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> Columns:
        """Read one item of FROM and add what it names to `scope`; returns what `*` gives of it."""
        kind, before = type(node), len(scope.ranges)
        joins = node.args.get("joins") or []
        if kind is exp.Table:
            self._table(node, scope, ctes)
        elif kind is exp.Unnest:
            self._unnest(node, scope, ctes)
        elif kind is exp.Subquery:
            bracketed = self._subquery(node, scope, ctes)
        else:
            raise self._binding.refuse("disallowed_node", "This is no table.", "Name tables, or UNNEST(array).", node)
        columns: Columns = [c for added in scope.ranges[before:] for c in starred(added)]
        if kind is exp.Subquery and bracketed is not None:
            columns = bracketed
        for join in joins:
            columns = self.join(join, columns, scope, ctes)
        return columns

    def join(self, join: exp.Expr, left: Columns, scope: Scope, ctes: Ctes) -> Columns:
        """Read a JOIN to what gives `left`; returns what `*` gives of both: the columns of USING first, and once."""
        before = len(scope.ranges)
        array = self._is_array(join.this, scope, ctes)
        self._normalise(join, array)
        right = self.add(join.this, scope, ctes)
        if (condition := join.args.get("on")) is not None:
            self._expressions.bind(condition, scope, ctes)
        merged = [self._using(column, scope, before) for column in join.args.get("using") or []]
        named = {c.name.casefold(): c for c in reversed(left) if c is not None}
        shared: Columns = [named[name] for name in merged if name in named]
        return shared + [c for c in [*left, *right] if c is None or c.name.casefold() not in merged]

    def _normalise(self, join: exp.Expr, array: bool) -> None:
        """One way of writing each join; one without a condition is refused, unless it is of an array."""
        conditioned = join.args.get("on") is not None or bool(join.args.get("using"))
        side, kind = join.args.get("side"), join.args.get("kind")
        if kind in ("INNER", "OUTER"):
            join.set("kind", None)
        if conditioned or kind == "CROSS":
            return
        if not array:
            hint = "Write JOIN t USING (column), JOIN t ON a.id = t.id, or CROSS JOIN."
            raise self._binding.refuse("parse_error", "A JOIN needs ON or USING.", hint, join.this)
        if not side:
            join.set("kind", "CROSS")

    def _using(self, column: exp.Expr, scope: Scope, before: int) -> str:
        """A column of both sides, folded. Its name is the answer's, so it stays as it is written."""
        name = self._binding.spelling.name(column.name)
        for candidate in scope.ranges:
            found = candidate.find(name)
            if found is not None and found.origin is not None:
                found.origin[0].columns.add(found.origin[1])
        sides = (scope.ranges[:before], scope.ranges[before:])
        if any(not any(r.open or r.find(name) for r in side) for side in sides):
            known = [c.name for r in scope.ranges for c in r.columns.values()]
            message = f"{name[:80]!r} is not a column of both sides of the JOIN."
            hint = "Write ON with the two columns' names."
            raise self._binding.refuse("unknown_column", message, hint, column, column=name[:80], nearest=known[:0])
        identifier = column.this if type(column) is exp.Column else column
        identifier.args["quoted"] = True
        return name.casefold()

    def _is_array(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> bool:
        if type(node) is exp.Unnest:
            return True
        return type(node) is exp.Table and len(path := self._path(node)) > 1 and scope.names(path[0])

    # tables

    def _path(self, node: exp.Expr) -> list[str]:
        """The pieces of a table's name, each as it stands between two dots outside of backticks."""
        spelled: list[str] = []
        for key in _TABLE_PARTS:
            part = node.args.get(key)
            while type(part) is exp.Dot:  # four pieces and more
                spelled.append(part.this.name)
                part = part.args["expression"]
            if type(part) is exp.Identifier:
                spelled.append(self._binding.spelling.name(str(part.this)))
            elif part is not None:
                message, hint = "Table functions are not available.", "Name tables of the catalog, or UNNEST(array)."
                raise self._binding.refuse("table_function", message, hint, node)
        return spelled

    def _table(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        path = self._path(node)
        if len(path) == 1 and path[0].casefold() in ctes:
            self._cte(node, path[0], scope, ctes)
        elif len(path) > 1 and scope.names(path[0]):
            self._array(node, path, scope, ctes)
        else:
            self._place(node, path, scope, ctes)

    def _cte(self, node: exp.Expr, name: str, scope: Scope, ctes: Ctes) -> None:
        folded = name.casefold()
        if node.args.get("version") is not None or node.args.get("sample") is not None:
            message = "Only a table has a past and samples."
            raise self._binding.refuse("disallowed_node", message, "Write that clause inside WITH.", node)
        alias = self._alias(node) or folded
        node.set("this", exp.Identifier(this=folded, quoted=True))
        node.set("alias", None if alias == folded else _table_alias(alias))
        self._add(node, Range(alias, ctes[folded]), scope, ctes)

    def _array(self, node: exp.Expr, path: list[str], scope: Scope, ctes: Ctes) -> None:
        """`FROM t, t.items`: the same with UNNEST, which nothing can take for a table."""
        if any(node.args.get(key) for key in ("version", "sample", "pivots")):
            message, hint = "An array has no past, samples or pivots.", "Write a subquery over UNNEST(array)."
            raise self._binding.refuse("disallowed_node", message, hint, node)
        alias = self._alias(node) or path[-1].casefold()
        parts = [exp.Identifier(this=part, quoted=True) for part in path]
        keys = ("this", "table", "db", "catalog")
        column = exp.Column(**dict(zip(keys, reversed(parts), strict=False)))
        unnest = exp.Unnest(expressions=[column], alias=exp.TableAlias(columns=[exp.Identifier(this=alias)]))
        joins = node.args.get("joins")
        node.replace(unnest)
        if joins:
            unnest.set("joins", joins)
        self._unnest(unnest, scope, ctes)

    def _place(self, node: exp.Expr, path: list[str], scope: Scope, ctes: Ctes) -> None:
        place = self._find(node, path)
        last = path[-1].rsplit(".", 1)[-1]
        alias = self._alias(node) or last.casefold().rstrip("*")
        use = Use(place, alias, as_of=self._past(node, scope, ctes))
        self._binding.uses.append(use)
        if node.args.get("sample") is not None:
            self._sample(node.args["sample"])
        for key in ("db", "catalog"):
            node.set(key, None)
        node.set("this", exp.Identifier(this=place.path, quoted=True))
        node.set("alias", _table_alias(alias))
        if place.schema is not None and place.schema.always and type(node) is exp.Table:
            self._binding.narrowed.append((node, alias, place))
        self._add(node, _range_of(place, alias, use), scope, ctes)

    def _find(self, node: exp.Expr, path: list[str]) -> Place:
        whole = ".".join(path)
        pieces = _pieces(whole)
        hidden = len(pieces) > 3 or _HIDDEN in [piece.casefold() for piece in pieces]
        place = None if hidden else self._binding.names.find(pieces)
        if place is None:
            close = self._binding.names.nearest(pieces[-1])
            hint = f"Did you mean {' or '.join(close)}?" if close else "Call `catalog` for the tables there are."
            message = f"There is no table {whole[:80]!r} that you can read."
            raise self._binding.refuse("table_not_found", message, hint, node, nearest=close)
        if not place.remote:
            self._binding.local.append(place)
        return place

    def _past(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> str:
        version = node.args.get("version")
        if version is None:
            return ""
        if node.args.get("pivots"):
            message, hint = "FOR SYSTEM_TIME does not go with PIVOT.", "Put the past into a subquery or WITH."
            raise self._binding.refuse("disallowed_node", message, hint, node)
        moment = moment_of(version, self._binding)
        self._expressions.bind(version.args["expression"], Scope(), {})
        return moment

    def _sample(self, sample: exp.Expr) -> None:
        method, percent = sample.args.get("method"), sample.args.get("percent")
        number = type(percent) is exp.Literal and not percent.args["is_string"] and 0 < float(percent.this) <= 100
        if type(method) is not exp.Var or method.name.upper() != "SYSTEM" or not number:
            hint = "Write TABLESAMPLE SYSTEM (10 PERCENT)."
            raise self._binding.refuse("disallowed_node", "This sample is not available.", hint, sample)
        self._binding.changing = True

    # what has no name in the catalog

    def _unnest(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        alias = node.args.get("alias")
        names = [*alias.args.get("columns", []), *([alias.this] if alias.this else [])] if alias else []
        if len(names) > 1 or len(node.expressions) != 1:
            hint = "Write UNNEST(array) AS element; for two arrays join by WITH OFFSET."
            raise self._binding.refuse("parse_error", "UNNEST takes one array and one alias.", hint, node)
        array = node.expressions[0]
        self._expressions.bind(array, scope, ctes)
        found = self._binding.found.get(id(array))
        element = _element(found.column) if found and found.column else None
        name = self._expressions.fold(names[0]) if names else ""
        origin = found.origin if found else None
        fields = tuple(Named(f.name, f, origin) for f in element.fields) if element else ()
        known = element is not None or (
            type(array) is exp.Array and all(type(e) in (exp.Literal, exp.Cast) for e in array.expressions)
        )
        relation = Relation(fields, open=not known)
        self._append(Range(name, relation, value=Named(name, element, origin)), scope, node)
        offset = node.args.get("offset")
        if offset:
            counted = Named(self._expressions.fold(offset))
            self._append(Range(counted.name, Relation(()), value=counted), scope, node)

    def _subquery(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> Columns | None:
        """A derived table; or joins in brackets, for which it returns what `*` gives of them."""
        inner = node.this
        if node.args.get("sample") is not None or node.args.get("with_") is not None:
            raise self._binding.refuse("disallowed_node", "Only tables are sampled.", "Sample the table itself.", node)
        if type(inner) is exp.Table or (type(inner) is exp.Subquery and _holds_tables(inner)):  # (a JOIN b)
            if node.args.get("alias") is not None or node.args.get("pivots"):
                hint = "Write (SELECT * FROM a JOIN b …) AS name."
                raise self._binding.refuse("parse_error", "Joined tables take no name together.", hint, node)
            return self.add(inner, scope, ctes)
        around = Scope(scope.outer)  # a subquery in FROM does not see its neighbours
        relation = self._binding.query(inner, around, ctes)
        alias = self._alias(node)
        node.set("alias", _table_alias(alias) if alias else None)
        self._add(node, Range(alias, relation), scope, ctes)
        return None

    def _add(self, node: exp.Expr, added: Range, scope: Scope, ctes: Ctes) -> None:
        """Add a range as it stands, or as its PIVOT or UNPIVOT turns it."""
        for pivot in node.args.get("pivots") or []:
            added = pivoted(pivot, added, scope, ctes, self._expressions)
        self._append(added, scope, node)

    def _append(self, added: Range, scope: Scope, node: exp.Expr) -> None:
        if added.name and any(r.name == added.name for r in scope.ranges):
            message = f"Two tables of this FROM are called {added.name[:80]!r}."
            raise self._binding.refuse("parse_error", message, "Give one of them an alias: FROM t AS other.", node)
        scope.ranges.append(added)

    def _alias(self, node: exp.Expr) -> str:
        """The folded alias of a table or subquery, "" where it has none. Columns cannot be renamed by it."""
        alias = node.args.get("alias")
        if alias is None:
            return ""
        if alias.args.get("columns") or alias.this is None:
            hint = "Rename columns in the SELECT list of a subquery."
            raise self._binding.refuse("parse_error", "A table's alias takes no list of columns.", hint, node)
        return self._expressions.fold(alias.this)


def starred(candidate: Range) -> Columns:
    """What `*` gives of one range variable."""
    if candidate.value is not None and not candidate.columns and not candidate.open:
        return [candidate.value if candidate.name else None]
    return list(candidate.columns.values())


def _pieces(name: str) -> tuple[str, ...]:
    """`project.dataset.table` by its dots; a project of a domain, `example.com:project`, keeps its own."""
    domain, colon, rest = name.rpartition(":")
    first, *others = rest.split(".")
    return (f"{domain}{colon}{first}", *others)


def _table_alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.Identifier(this=name, quoted=True))


def _holds_tables(node: exp.Expr) -> bool:
    while type(node) is exp.Subquery:
        if node.args.get("joins"):
            return True
        node = node.this
    return type(node) is exp.Table


def _range_of(place: Place, alias: str, use: Use) -> Range:
    schema: TableSchema | None = place.schema if place.remote else None
    if schema is None:
        return Range(alias, Relation((), open=True), use=use)
    columns = tuple(Named(column.name, column, (use, column.name)) for column in schema.columns)
    added = Range(alias, Relation(columns), use=use)
    added.hidden = {c.name.casefold(): Named(c.name, c, (use, c.name)) for c in schema.pseudo_columns}
    return added


def _element(array: Column) -> Column | None:
    """One element of an array column; None where the column is none."""
    return array.model_copy(update={"mode": "NULLABLE"}) if array.mode == "REPEATED" else None
