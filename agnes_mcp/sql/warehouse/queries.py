"""Gate 3 for queries: clause by clause, in the order in which GoogleSQL gives the names their meaning."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.binding import Binding, Ctes
from agnes_mcp.sql.warehouse.conditions import Conditions
from agnes_mcp.sql.warehouse.expressions import Expressions
from agnes_mcp.sql.warehouse.functions import AGGREGATES
from agnes_mcp.sql.warehouse.relations import Columns, Relations, starred
from agnes_mcp.sql.warehouse.scope import Named, Range, Relation, Scope

_SET_OPERATIONS = (exp.Union, exp.Except, exp.Intersect)


class Queries:
    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._expressions = Expressions(binding)
        self._relations = Relations(binding, self._expressions)
        self._conditions = Conditions(binding)
        binding.query = self.query

    def query(self, node: exp.Expr, outer: Scope, ctes: Ctes) -> Relation:
        """Read a query whose surroundings are `outer`; returns what it gives."""
        ctes = self._with(node, outer, ctes)
        kind = type(node)
        if kind is exp.Select:
            return self._select(node, outer, ctes)
        if kind is exp.Subquery:
            return self._bracketed(node, outer, ctes)
        if kind in _SET_OPERATIONS:
            return self._set_operation(node, outer, ctes)
        raise self._binding.refuse("not_a_select", "This is no SELECT.", "Write SELECT … FROM ….", node)

    def _with(self, node: exp.Expr, outer: Scope, ctes: Ctes) -> Ctes:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        visible, own = dict(ctes), set[str]()
        for cte in clause.expressions:
            alias = cte.args["alias"]
            if alias.args.get("columns"):
                hint = "Name the columns with AS in its SELECT."
                raise self._binding.refuse("parse_error", "A name of WITH takes no list of columns.", hint, cte)
            identifier = alias.this
            name = str(identifier.this).casefold()
            if not name.isidentifier() or not name.isascii() or name in own:
                message = f"{str(identifier.this)[:80]!r} cannot be a name of this WITH."
                hint = "Use letters, digits and _, each name once."
                raise self._binding.refuse("parse_error", message, hint, identifier)
            visible[name] = self.query(cte.this, Scope(outer), visible)
            own.add(name)
            identifier.args["this"], identifier.args["quoted"] = name, True
        return visible

    def _bracketed(self, node: exp.Expr, outer: Scope, ctes: Ctes) -> Relation:
        for part in ("alias", "pivots", "sample", "joins"):
            if node.args.get(part):
                hint = "Write SELECT * FROM (…) AS name."
                raise self._binding.refuse("parse_error", "A query in brackets takes no more here.", hint, node)
        return self.query(node.this, outer, ctes)

    def _set_operation(self, node: exp.Expr, outer: Scope, ctes: Ctes) -> Relation:
        if type(node) is not exp.Union and not node.args.get("distinct"):
            message, hint = "EXCEPT and INTERSECT take DISTINCT.", "Write EXCEPT DISTINCT or INTERSECT DISTINCT."
            raise self._binding.refuse("parse_error", message, hint, node.args["expression"])
        left = self.query(node.this, outer, ctes)
        right = self.query(node.args["expression"], outer, ctes)
        if node.args.get("distinct"):
            touch(left)
            touch(right)
        scope = Scope()
        scope.aliases, scope.aliases_first = left.named, True
        if left.open:
            scope.ranges.append(Range("", Relation((), open=True)))
        self._order(node, scope, ctes)
        return _united(left, right)

    def _select(self, node: exp.Expr, outer: Scope, ctes: Ctes) -> Relation:
        scope = Scope(outer)
        joins = node.args.get("joins") or []
        star: Columns = []
        if node.args.get("from_") is not None:
            star = self._relations.add(node.args["from_"].this, scope, ctes)
        for join in joins:
            star = self._relations.join(join, star, scope, ctes)
        if node.args.get("qualify") is not None and not any(node.args.get(c) for c in ("where", "group", "having")):
            node.set("where", exp.Where(this=exp.Boolean(this=True)))  # GoogleSQL asks for one of the three
        if node.args.get("where") is not None:
            self._where(node, scope, ctes)
        self._conditions.note(node, scope)
        everything = Relation(tuple(star), open=any(r.open for r in scope.ranges))
        relation = self._projections(node, everything, scope, ctes)
        if node.args.get("distinct") is not None:
            self._distinct(node, relation)
        self._after(node, scope, relation, ctes)
        single = not node.args.get("group") and self._aggregates(node)
        return relation._replace(single=single or _limit_of(node) == 1)

    def _where(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        try:
            self._expressions.bind(node.args["where"].this, scope, ctes)
        except AgnesError as error:
            aliases = {p.args["alias"].name.casefold() for p in node.expressions if type(p) is exp.Alias}
            if error.kind == "unknown_column" and str(error.details.get("column", "")).casefold() in aliases:
                error.hint = "WHERE does not see the SELECT list: use HAVING for aggregates, QUALIFY for windows."
            raise

    def _distinct(self, node: exp.Expr, relation: Relation) -> None:
        if node.args["distinct"].expressions:
            hint = "Use ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) with QUALIFY … = 1."
            raise self._binding.refuse("disallowed_node", "DISTINCT ON is not available.", hint, node)
        touch(relation)

    def _projections(self, node: exp.Expr, everything: Relation, scope: Scope, ctes: Ctes) -> Relation:
        columns: list[Named | None] = []
        is_open = False
        for projection in list(node.expressions):
            if type(projection) is exp.Star:
                given = everything
            elif type(projection) is exp.Column and type(projection.this) is exp.Star:
                given = self._row_star(projection, scope)
            elif type(projection) is exp.Dot and type(projection.args["expression"]) is exp.Star:
                self._expressions.bind(projection.this, scope, ctes)
                given = Relation((), open=True)
            else:
                columns.append(self._projection(projection, scope, ctes))
                continue
            left_out = self._star_modifiers(projection, given, scope, ctes)
            columns += [c for c in given.columns if c is None or c.name.casefold() not in left_out]
            is_open |= given.open
        return Relation(tuple(columns), open=is_open)

    def _projection(self, projection: exp.Expr, scope: Scope, ctes: Ctes) -> Named | None:
        value = projection.this if type(projection) is exp.Alias else projection
        written = self._written_name(projection)
        self._expressions.bind(projection, scope, ctes)
        found = self._binding.found.get(id(value))
        if written is None:
            return None
        if type(projection) is exp.Alias and found is not None and found.path[-1] == written:
            projection.replace(value)  # x AS x
        return Named(written, found.column if found else None, found.origin if found else None)

    def _written_name(self, projection: exp.Expr) -> str | None:
        kind = type(projection)
        if kind is exp.Alias:
            return self._binding.spelling.name(str(projection.args["alias"].this))
        if kind is exp.Column:
            return self._expressions.path_of(projection)[-1]
        if kind is exp.Dot and type(projection.args["expression"]) is exp.Identifier:
            return str(projection.args["expression"].this)
        return None

    def _row_star(self, projection: exp.Expr, scope: Scope) -> Relation:
        """`t.*` or `t.record.*`."""
        parts = [projection.args[key] for key in ("catalog", "db", "table") if projection.args.get(key)]
        path = [self._binding.spelling.name(str(part.this)) for part in parts]
        around: Scope | None = scope
        while around is not None and len(path) == 1:
            for candidate in around.ranges:
                if candidate.name == path[0].casefold():
                    projection.args["table"].args.update(this=candidate.name, quoted=True)
                    return Relation(tuple(starred(candidate)), candidate.open)
            around = around.outer
        for part in parts:
            part.args["quoted"] = True
        record = exp.Column(**{key: exp.Identifier(this=name) for key, name in zip(
            ("this", "table", "db"), reversed(path), strict=False)})  # fmt: skip
        self._binding.kept.append(record)
        self._expressions.bind(record, scope, {})
        found = self._binding.found[id(record)]
        fields = found.column.fields if found.column else []
        return Relation(tuple(Named(f.name, f, found.origin) for f in fields), open=not fields)

    def _star_modifiers(self, projection: exp.Expr, given: Relation, scope: Scope, ctes: Ctes) -> set[str]:
        """The folded names that EXCEPT leaves out, after checking them and REPLACE."""
        star = projection if type(projection) is exp.Star else projection.find(exp.Star)
        left_out: set[str] = set()
        known = given.named
        for column in (star.args.get("except_") or []) if star else []:
            identifier = column.this if type(column) is exp.Column else column
            name = self._binding.spelling.name(str(identifier.this))
            if name.casefold() not in known and not given.open:
                message, hint = f"There is no column {name[:80]!r} to leave out.", "Call `schema` for the columns."
                raise self._binding.refuse("unknown_column", message, hint, column, column=name[:80])
            spelled = known.get(name.casefold())
            identifier.args["this"], identifier.args["quoted"] = (spelled.name if spelled else name), True
            left_out.add(name.casefold())
        for replaced in (star.args.get("replace") or []) if star else []:
            self._expressions.bind(replaced, scope, ctes)
        return left_out

    def _after(self, node: exp.Expr, scope: Scope, relation: Relation, ctes: Ctes) -> None:
        """GROUP BY, HAVING, QUALIFY, WINDOW, ORDER BY: where the SELECT list's names are known."""
        inner = Scope(scope.outer)
        inner.ranges, inner.aliases, inner.aliases_first = scope.ranges, relation.named, True
        for clause in ("group", "having", "qualify"):
            if node.args.get(clause) is not None:
                self._expressions.bind(node.args[clause], inner, ctes)
        named = set[str]()
        for window in node.args.get("windows") or []:
            self._expressions.bind(window, scope, ctes)
            if window.this.name in named:
                hint = "Give each window a name of its own."
                raise self._binding.refuse("parse_error", "Two windows have one name.", hint, window)
            named.add(window.this.name)
        self._order(node, inner, ctes)

    def _order(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        if node.args.get("order") is not None:
            self._expressions.bind(node.args["order"], scope, ctes)
        for clause in ("limit", "offset"):
            bound = node.args.get(clause)
            if bound is not None and not _is_count(bound):
                message = f"{clause.upper()} takes a whole number."
                raise self._binding.refuse("unsupported_literal", message, f"Write {clause.upper()} 10.", node)

    def _aggregates(self, node: exp.Expr) -> bool:
        """Whether a SELECT without GROUP BY gives one row: some projection aggregates."""
        for projection in node.expressions:
            for inner in projection.find_all(exp.Anonymous):
                if inner.name in AGGREGATES and type(inner.parent) is not exp.Window:
                    return True
        return False


def touch(relation: Relation) -> None:
    """The answer depends on every column of the relation."""
    for column in relation.columns:
        if column is not None and column.origin is not None:
            column.origin[0].columns.add(column.origin[1])


def _united(left: Relation, right: Relation) -> Relation:
    """The left side's names. Both sides' columns are used where either is, so their origins are noted now."""
    touch(right)
    return Relation(left.columns, left.open)


def _is_count(bound: exp.Expr) -> bool:
    literal = bound.args["expression"]
    return type(literal) is exp.Literal and not literal.args["is_string"] and str(literal.this).isdigit()


def _limit_of(node: exp.Expr) -> int | None:
    limit = node.args.get("limit")
    literal = limit.args["expression"] if limit is not None else None
    return int(literal.this) if type(literal) is exp.Literal and str(literal.this).isdigit() else None


def output_limit(tree: exp.Expr) -> int | None:
    """The outermost LIMIT of a statement, through brackets; None where nothing bounds its rows."""
    while type(tree) is exp.Subquery:
        tree = tree.this
    return _limit_of(tree)
