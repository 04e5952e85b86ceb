"""FROM: tables, common tables, subqueries, arrays and joins, each as DuckDB text and the names that it brings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from agnes_mcp.stand_in.fields import quoted
from agnes_mcp.stand_in.googlesql import types as t
from agnes_mcp.stand_in.googlesql.grammar import unread
from agnes_mcp.stand_in.googlesql.names import Column, RangeVariable, Relation, Scope, place_of_node, refusal
from agnes_mcp.stand_in.googlesql.operators import equal
from agnes_mcp.stand_in.googlesql.pivots import pivoted
from agnes_mcp.stand_in.googlesql.rows import rows_of
from agnes_mcp.stand_in.googlesql.rules import Clause, value_of
from agnes_mcp.stand_in.googlesql.travel import version_of
from agnes_mcp.stand_in.googlesql.values import Read, Value, as_type, common, made, unsupported
from agnes_mcp.stand_in.sql.kinds import path_parts
from agnes_mcp.stand_in.tables import Table
from agnes_mcp.stand_in.wire.replies import invalid_query

_JOIN_WORDS = {"": "JOIN", "LEFT": "LEFT JOIN", "RIGHT": "RIGHT JOIN", "FULL": "FULL JOIN"}


@dataclass
class Source:
    """`always` is read whatever is taken; `conditions` are ON's, which prune as WHERE's do."""

    sql: str
    variables: list[RangeVariable]
    always: frozenset[Read] = frozenset()
    conditions: list[exp.Expr] = field(default_factory=list)
    array: Value | None = None  # of UNNEST: read whole where none of its elements' fields is


@dataclass
class FromClause:
    """Builds the scope of one SELECT while it reads its FROM."""

    clause: Clause
    scope: Scope
    arrays: list[tuple[RangeVariable, Value]] = field(default_factory=list)

    def item(self, node: exp.Expr) -> Source:
        """One table expression with what is joined to it within its parentheses."""
        found = self._joined(node)
        for join in node.args.get("joins") or () if isinstance(node, exp.Table | exp.Subquery) else ():
            found = self.join(found, join)
        return found

    def _joined(self, node: exp.Expr) -> Source:
        if isinstance(node, exp.Unnest):
            found = self._unnest(node)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Query):
            found = self._subquery(node)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table | exp.Subquery):
            found = self._parenthesized(node)
        elif isinstance(node, exp.Table):
            found = self._named(node)
        else:
            raise unsupported(f"{type(node).__name__} in FROM")
        self._declare(found.variables)
        return found

    def _declare(self, variables: list[RangeVariable]) -> None:
        for variable in variables:
            if self.scope.variable(variable.name) is not None:
                raise invalid_query(f"Duplicate table alias {variable.name} in the same FROM clause")
            self.scope.variables.append(variable)

    def _parenthesized(self, node: exp.Subquery) -> Source:
        if unread(node, "this", "joins"):
            raise unsupported("an alias of a parenthesized join")
        inner = self.item(node.this)
        for variable in inner.variables:
            self.scope.variables.remove(variable)  # declared again by the caller
        return replace(inner, sql=f"({inner.sql})")

    def _subquery(self, node: exp.Subquery) -> Source:
        if unread(node, "this", "joins", "alias", "pivots", "sample") or _alias_columns(node):
            raise unsupported("this subquery in FROM")
        around = self.scope.outer  # a subquery in FROM does not see its siblings
        relation = self.clause.session.compile_query(self.clause.session, node.this, around, self.clause.ctes)
        return self._placed(relation, node.alias, node)

    def _placed(self, relation: Relation, alias: str, node: exp.Expr) -> Source:
        name = self.clause.session.fresh("r")
        variable = _variable(relation, name, alias)
        found = Source(f"({relation.sql}) AS {name}", [variable], relation.always)
        return self._transformed(found, node)

    def _transformed(self, found: Source, node: exp.Expr) -> Source:
        """With the PIVOTs and UNPIVOTs, or the TABLESAMPLE, that follow a table."""
        for pivot in node.args.get("pivots") or ():
            sql, variable, always = pivoted(pivot, found.sql, found.variables[0], self.clause)
            found = Source(sql, [variable], found.always | always)
        if node.args.get("sample") is not None:
            sample = node.args["sample"]
            if unread(sample, "method", "percent") or not isinstance(sample.args.get("percent"), exp.Literal):
                raise unsupported("this TABLESAMPLE")
            self.clause.session.volatile = True
            inner = f"SELECT * FROM {found.sql} TABLESAMPLE SYSTEM ({sample.args['percent'].name} PERCENT)"
            found = replace(found, sql=f"({inner}) AS {found.sql.rsplit(' AS ', 1)[1]}")
        return found

    def _named(self, node: exp.Table) -> Source:
        """A table, a common table, or an array of something in scope: GoogleSQL's three meanings of a path."""
        if unread(node, "this", "db", "catalog", "alias", "joins", "pivots", "sample", "version"):
            raise unsupported("this table expression")
        if not isinstance(node.this, exp.Identifier | exp.Dot):
            raise invalid_query(f"Table-valued function not found: {node.this.name or node.this.key}")
        if _alias_columns(node):
            raise invalid_query("Syntax error: column aliases of a table are not GoogleSQL")
        parts = node.parts
        whole = node.meta.get("quoted_table")
        if len(parts) == 1 and parts[0].name.lower() in self.clause.ctes:
            relation = self.clause.ctes[parts[0].name.lower()]
            return self._placed(relation, node.alias or parts[0].name, node)
        if len(parts) > 1 and not whole and self.scope.knows(parts[0].name):
            if all(around.variable(parts[0].name) is None for around in self.scope.around()):
                message = (
                    "Aliases referenced in the from clause must refer to preceding scans, and cannot refer to columns"
                )
                raise refusal(f"{message} on those scans. {parts[0].name} refers to a column", place_of_node(parts[0]))
            return self._array_path(node)
        return self._table(node)

    def _array_path(self, node: exp.Table) -> Source:
        keys = ("this", "table", "db", "catalog")
        parts = {key: part.copy() for key, part in zip(keys, reversed(node.parts), strict=False)}
        column = exp.Column(**parts)
        if len(node.parts) > len(keys) or any(node.args.get(key) for key in ("version", "sample", "pivots")):
            raise unsupported("this path in FROM")
        alias = node.args.get("alias")
        unnest = exp.Unnest(expressions=[column])
        if alias is not None:
            unnest.set("alias", exp.TableAlias(columns=[alias.this.copy()]))
        return self._unnest(unnest)

    def _table(self, node: exp.Table) -> Source:
        session = self.clause.session
        written = path_parts(".".join(part.name for part in node.parts))
        table = session.find(written, session.names, session)
        alias = node.alias or written[-1]
        if table.kind == "VIEW":
            if node.args.get("version") is not None:
                raise unsupported("FOR SYSTEM_TIME over a view")
            return self._placed(session.compile_view(session, table), alias, node)
        version = node.args.get("version")
        if version is not None:
            table = version_of(table, version, self.clause)
        return self._transformed(self._stored(table, alias), node)

    def _stored(self, table: Table, alias: str) -> Source:
        session = self.clause.session
        number, name = session.place(table), session.fresh("r")
        columns = []
        for index, stored in enumerate((*table.fields, *table.pseudo_fields)):
            path: Read = (number, stored.name.lower())
            value = Value(f"{name}.{quoted(stored.name)}", t.type_of(stored), frozenset({path}), path, (path,))
            columns.append(Column(stored.name, value, index >= len(table.fields)))
        variable = RangeVariable(alias, columns)
        return Source(f"{rows_of(table)} AS {name}", [variable], frozenset({(number, "")}))

    def _unnest(self, node: exp.Unnest) -> Source:
        if len(node.expressions) != 1 or unread(node, "expressions", "alias", "offset", "explode_array"):
            raise unsupported("this UNNEST")
        array = value_of(node.expressions[0], self.clause)
        if array.kind != "ARRAY":
            raise invalid_query(
                f"Values referenced in UNNEST must be arrays. UNNEST contains expression of type {array.type}"
            )
        name = self.clause.session.fresh("r")
        element = Value(f"{name}.e", array.type.of, array.reads, array.path)
        columns = _fields_as_columns(element)
        alias = node.args.get("alias")
        named = (
            alias.columns[0].name if alias is not None and alias.columns else (alias.name if alias is not None else "")
        )
        offset = ", generate_subscripts(a, 1) - 1 AS o" if node.args.get("offset") else ""
        sql = f"LATERAL (SELECT unnest(a) AS e{offset} FROM (SELECT {array.sql} AS a)) AS {name}"
        variables = [RangeVariable(named, columns or [Column(named, element)], element)]
        if offset:
            label = node.args["offset"].name
            position = Column(label, Value(f"{name}.o", t.INT64))
            variables.append(RangeVariable("", [position]))
        self.arrays.append((variables[0], array))
        always = frozenset() if array.path is not None else array.reads
        return Source(sql, variables, always, array=array)

    def join(self, left: Source, node: exp.Join) -> Source:
        """`left` with one more table joined to it."""
        kind, side = (node.args.get("kind") or "").upper(), (node.args.get("side") or "").upper()
        if unread(node, "this", "kind", "side", "on", "using") or kind not in ("", "INNER", "CROSS", "OUTER"):
            raise unsupported("this JOIN")
        before = list(self.scope.variables)
        right = self.item(node.this)
        if side in ("RIGHT", "FULL") and right.sql.startswith("LATERAL") and right.always | self._reads_of(right):
            raise invalid_query("Array scan is not allowed with RIGHT or FULL JOIN")
        on, always, conditions = self._condition(node, left, right, side, before)
        if side in ("LEFT", "FULL"):
            _mark_nullable(right.variables)
        if side in ("RIGHT", "FULL"):
            _mark_nullable(left.variables)
        word = "CROSS JOIN" if on == "" else _JOIN_WORDS[side]
        sql = f"{left.sql} {word} {right.sql}" + (f" ON {on}" if on else "")
        found = Source(sql, [*left.variables, *right.variables], left.always | right.always | always)
        found.conditions = [*left.conditions, *right.conditions, *conditions]
        return found

    def _reads_of(self, source: Source) -> frozenset[Read]:
        return frozenset().union(*(column.value.reads for v in source.variables for column in v.columns))

    def _condition(
        self, node: exp.Join, left: Source, right: Source, side: str, before: list[RangeVariable]
    ) -> tuple[str, frozenset[Read], list[exp.Expr]]:
        on, using = node.args.get("on"), node.args.get("using")
        if using:
            sql, reads = self._using(using, left, right, side)
            return sql, reads, []
        if on is None and side == "LEFT" and right.array is not None:
            return "TRUE", frozenset(), []
        if on is None:
            if side or (node.args.get("kind") or "").upper() == "INNER":
                raise invalid_query("Syntax error: Expected keyword ON or keyword USING")
            return "", frozenset(), []
        if (node.args.get("kind") or "").upper() == "CROSS":
            raise invalid_query("Syntax error: CROSS JOIN does not take ON")
        inner = replace(self.clause, name="JOIN ON clause")
        value = as_type(value_of(on, inner), t.BOOL, "JOIN ON clause")
        return value.sql, value.reads, [on] if side == "" else []

    def _using(
        self, using: list[exp.Identifier], left: Source, right: Source, side: str
    ) -> tuple[str, frozenset[Read]]:
        tests: list[Value] = []
        for name in using:
            a, b = (self._one(name, source) for source in (left, right))
            merged = self.scope.merged.get(name.name.lower())
            a = merged.value if merged is not None and merged.value.sql else a
            tests.append(equal(a, b))
            x, y = common([a, b], "USING")
            kept = {"RIGHT": y, "FULL": made(f"coalesce({x.sql}, {y.sql})", x.type, x, y)}.get(side, x)
            self.scope.merged[name.name.lower()] = Column(name.name, kept)
        return " AND ".join(test.sql for test in tests), frozenset().union(*(test.reads for test in tests))

    def _one(self, name: exp.Identifier, source: Source) -> Value:
        found = [column for variable in source.variables for column in variable.named(name.name)]
        if not found or (len(found) > 1 and name.name.lower() not in self.scope.merged):
            what = "ambiguous" if found else "not found on one"
            raise refusal(f"Column {name.name} in USING clause is {what} side of join", place_of_node(name))
        return found[0].value


def _alias_columns(node: exp.Expr) -> bool:
    alias = node.args.get("alias")
    return isinstance(alias, exp.TableAlias) and bool(alias.columns)


def _mark_nullable(variables: list[RangeVariable]) -> None:
    for variable in variables:
        variable.nullable = True


def _variable(relation: Relation, name: str, alias: str) -> RangeVariable:
    """The relation as a range variable whose columns are `name`'s."""
    columns = [
        Column(column.name, replace(column.value, sql=f"{name}.{column.value.sql}"), column.pseudo)
        for column in relation.columns
    ]
    if relation.whole:
        row = columns[0].value
        return RangeVariable(alias, _fields_as_columns(row) or [Column(alias, row)], row)
    return RangeVariable(alias, columns)


def _fields_as_columns(row: Value) -> list[Column]:
    """The fields of a row that is one STRUCT."""
    if row.kind != "STRUCT":
        return []
    columns = []
    for name, (shown, kind) in zip(row.type.duckdb_names(), row.type.fields, strict=True):
        path = (row.path[0], f"{row.path[1]}.{shown.lower()}") if row.path is not None else None
        reads = frozenset({path}) if path is not None else row.reads
        columns.append(Column(shown, Value(f"({row.sql}).{quoted(name)}", kind, reads, path)))
    return columns
