"""Gates 2 and 3 for expressions: functions by the name that is written, columns as their schema spells them."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.predicate.nodes import interval as plain_interval
from agnes_mcp.sql.warehouse import words
from agnes_mcp.sql.warehouse.binding import Binding, Ctes
from agnes_mcp.sql.warehouse.calls import Calls
from agnes_mcp.sql.warehouse.scope import Scope, UnknownNameError

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_QUERIES = (exp.Select, exp.Union, exp.Except, exp.Intersect, exp.Subquery)
_PARTS_OF_COLUMN = ("catalog", "db", "table", "this")


class Expressions:
    def __init__(self, binding: Binding) -> None:
        self._binding, self._calls = binding, Calls(binding)
        self._rules: dict[type[exp.Expr], Callable[[exp.Expr, Scope, Ctes], list[exp.Expr]]] = {
            exp.Column: self._column,
            exp.Anonymous: self._call,
            exp.Dot: self._dot,
            exp.Interval: self._interval,
            exp.Extract: self._extract,
            exp.Window: self._window,
            exp.WindowSpec: self._window_spec,
            exp.Identifier: self._identifier,
            exp.Paren: self._paren,
            exp.Array: self._array,
            exp.Struct: self._struct,
            exp.Unnest: self._unnest,
            exp.AtTimeZone: self._stray_zone,
            exp.Kwarg: self._named_argument,
            exp.Ordered: self._ordered,
            **dict.fromkeys(_QUERIES, self._query),
        }

    def bind(self, root: exp.Expr, scope: Scope, ctes: Ctes) -> None:
        """Resolve and spell everything below `root`, which is part of a tree."""
        stack = [root]
        rules = self._rules
        while stack:
            node = stack.pop()
            rule = rules.get(type(node))
            if rule is not None:
                stack.extend(rule(node, scope, ctes))
                continue
            for value in node.args.values():
                if isinstance(value, exp.Expr):
                    stack.append(value)
                elif type(value) is list:
                    stack.extend(item for item in value if isinstance(item, exp.Expr))

    def refused(self, kind: str, message: str, hint: str, node: exp.Expr) -> AgnesError:
        return self._binding.refuse(kind, message, hint, node)

    def fold(self, identifier: exp.Expr) -> str:
        """An alias, checked, and written in lower case; returns that."""
        self._identifier(identifier, Scope(), {})
        _fold(identifier)
        return str(identifier.this)

    def path_of(self, column: exp.Expr) -> list[str]:
        """The names of a Column node, as the caller wrote them."""
        name = self._binding.spelling.name
        return [name(str(column.args[part].this)) for part in _PARTS_OF_COLUMN if column.args.get(part)]

    def _query(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        relation = self._binding.query(node, scope, ctes)
        for column in relation.columns:  # the value itself is used, whole
            if column is not None and column.origin is not None:
                column.origin[0].columns.add(column.origin[1])
        return []

    # names

    def _column(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        if type(node.this) is exp.Star:
            return []
        path = self.path_of(node)
        try:
            found = scope.resolve(path)
        except UnknownNameError as error:
            parts = [node.args[part] for part in _PARTS_OF_COLUMN if node.args.get(part)]
            raise self._binding.unknown(error, parts[error.at], path[error.at]) from None
        keys = [part for part in _PARTS_OF_COLUMN if node.args.get(part)]
        for key, spelled in zip(keys, found.path, strict=True):
            identifier = node.args[key]
            identifier.args["this"], identifier.args["quoted"] = spelled, True
        self._binding.found[id(node)] = found
        if found.path[-1] != path[-1]:
            _keep_name(node, path[-1])
        if found.origin is not None:
            found.origin[0].columns.add(found.origin[1])
        elif found.range is not None and len(path) == 1 and found.range.value is None and not found.column:
            _note_row(found.range.name, path, scope)
        return []

    def _identifier(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        name = self._binding.spelling.name(str(node.this))
        if name != node.this:
            hint = "Name it with letters, digits, _, spaces and dashes."
            raise self._binding.refuse("disallowed_node", f"{name[:80]!r} is no name of a column.", hint, node)
        node.args["quoted"] = True
        return []

    def _dot(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        field = node.args["expression"]
        if type(field) is exp.Anonymous:  # HLL_COUNT.INIT(x), SAFE.SUBSTR(x, 1)
            return self._calls.arguments((str(node.this.name).upper(), str(field.this).upper()), field)
        if type(field) is not exp.Identifier:
            raise self._binding.refuse("disallowed_node", "Only a field's name follows a dot.", "Write x.field.", node)
        return [node.this, field]

    # calls

    def _call(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        name = node.this
        if not isinstance(name, str):
            raise self._binding.refuse("unknown_function", "A quoted function is not available.", "Unquote it.", node)
        if name.upper() == "STRUCT":
            return self._struct(node, scope, ctes)
        return self._calls.arguments((name.upper(),), node)

    # constructors and forms

    def _struct(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        if type(node) is exp.Struct:
            node.replace(called := exp.Anonymous(this="STRUCT", expressions=node.expressions))
            return list(called.expressions)
        node.args["this"] = "STRUCT"
        return list(node.expressions)

    def _array(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        node.args.pop("value_constructor", None)
        node.args.pop("struct_name_inheritance", None)
        return list(node.expressions)

    def _paren(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        while type(node.this) is exp.Paren:
            node.set("this", node.this.this)
        return [node.this]

    def _unnest(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        """`x IN UNNEST(array)`."""
        return list(node.expressions)

    def _interval(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        unit = node.args.get("unit")
        word = unit.name.upper() if type(unit) is exp.Var else ""
        if word not in words.PARTS or node.this is None:
            hint = "Write INTERVAL 3 DAY, with a part such as DAY, HOUR or MONTH."
            raise self._binding.refuse("unsupported_literal", "This INTERVAL is not read here.", hint, node)
        count = node.this
        if type(count) is exp.Literal and _WHOLE.fullmatch(str(count.this)):
            node.replace(plain_interval(str(int(str(count.this))), word))
            return []
        node.set("unit", exp.Var(this=word))
        if type(count) is exp.Literal:
            hint = "Write INTERVAL 3 DAY, with a whole number."
            raise self._binding.refuse("unsupported_literal", "An INTERVAL counts whole parts.", hint, node)
        return [count]

    def _extract(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        self._calls.part(node.this, "Write EXTRACT(MONTH FROM x).")
        value = node.args["expression"]
        if type(value) is exp.AtTimeZone:  # the same, written as both parsers read it
            local = exp.Anonymous(this="DATETIME", expressions=[value.this, value.args["zone"]])
            node.set("expression", local)
            return list(local.expressions)
        return [value]

    def _stray_zone(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        hint = "Use DATETIME(x, 'Europe/Prague'), or EXTRACT(HOUR FROM x AT TIME ZONE 'Europe/Prague')."
        raise self._binding.refuse("disallowed_node", "AT TIME ZONE stands in EXTRACT only.", hint, node)

    def _named_argument(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        """`name => value`. The name is a word of the function, which BigQuery checks."""
        name = node.this
        node.set("this", exp.Var(this=name.name.lower()))
        return [node.args["expression"]]

    def _ordered(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        if not node.args.get("desc"):  # ASC goes without saying
            node.args.pop("desc", None)
        return [node.this]

    def _window(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        named = node.args.get("alias")
        if named is not None:
            _fold(named)
        if type(node.this) is exp.Identifier:
            _fold(node.this)
            inside: list[exp.Expr] = []
        else:
            inside = [node.this]
        rest = (node.args.get("order"), node.args.get("spec"))
        return [*inside, *(node.args.get("partition_by") or []), *(part for part in rest if part is not None)]

    def _window_spec(self, node: exp.Expr, scope: Scope, ctes: Ctes) -> list[exp.Expr]:
        if not node.args.get("end"):  # ROWS 2 PRECEDING
            node.args["end"] = "CURRENT ROW"
        bounds = [bound for bound in (node.args.get("start"), node.args["end"]) if isinstance(bound, exp.Expr)]
        if any(bound.find(exp.Query) is not None for bound in bounds):
            hint = "Write the number of rows, as in ROWS BETWEEN 6 PRECEDING AND CURRENT ROW."
            raise self._binding.refuse("disallowed_node", "A frame is bounded by constants.", hint, node)
        return bounds


def _keep_name(column: exp.Expr, written: str) -> None:
    """`SELECT Name` and `STRUCT(Name)` answer under the name that is written, whatever the schema's spelling."""
    parent = column.parent
    projected = type(parent) is exp.Select or (type(parent) is exp.Anonymous and parent.this == "STRUCT")
    if projected and column.arg_key == "expressions":
        alias = exp.Alias(alias=exp.Identifier(this=written, quoted=True))
        column.replace(alias)
        alias.set("this", column)


def _note_row(name: str, path: list[str], scope: Scope) -> None:
    """A row taken whole depends on every column of its range."""
    around: Scope | None = scope
    while around is not None:
        for candidate in around.ranges:
            if candidate.name == name:
                for column in candidate.columns.values():
                    if column.origin is not None:
                        column.origin[0].columns.add(column.origin[1])
                return
        around = around.outer


def _fold(identifier: exp.Expr) -> None:
    identifier.args["this"], identifier.args["quoted"] = str(identifier.this).casefold(), True
