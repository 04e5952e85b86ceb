"""What a predicate may cost per row, computed from its validated tree before anything is run.

DuckDB cannot be interrupted inside one vector of 2,048 rows, and counts no memory that a scalar function takes. So a
condition runs on the shared connection only where both are bounded by the rows themselves; any other runs in a process
that can be killed.

What fails and says of which text waits for the square of it where the text has zero bytes, so that is counted too.

For each node: the size of its value, and the characters touched to make it (`bounds`). A node that no table knows, or
whose cost grows faster than the row's texts, has no bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.models import Column, TableSchema
from agnes_mcp.sql.bounds import CALLS, NOTHING, SMALL, Amount, Bound, UnboundedError, all_of, made, one_of, together
from agnes_mcp.sql.predicate.kinds import kind_named, kind_of
from agnes_mcp.sql.predicate.nodes import type_text

#: Times that every character of a row's texts may be touched, and as how many characters it may stand in memory at
#: once. A vector of long texts is bounded by DuckDB's own memory, so these bound what a predicate makes of it.
MAX_PASSES = 32
MAX_COPIES = 4
#: Characters per row that do not depend on the row: touched, and standing in memory at once (32 MB for a vector).
MAX_CONSTANT_WORK = 262_144
MAX_CONSTANT_SIZE = 16_384
#: Where a file holds a text once for many rows, DuckDB's memory does not bound what a vector of them stands for: then
#: characters per row, touched and standing in memory at once, are bounded by the longest text there may be.
MAX_WORK = 2**21
MAX_SIZE = 2**17
#: For each zero byte of what a failure quotes DuckDB moves the rest: a tenth of a second, of ten times as many ten.
MAX_QUOTED = 2**17

#: What one byte becomes in text: `\\xFF`.
_BYTE_CHARS = 4
_FIXED = frozenset({"number", "boolean", "date", "time", "datetime", "timestamp", "interval", "null"})
_TEXTS = frozenset({"text", "bytes"})
#: What takes texts as they are, to compare or to join them.
_COMPARING = (
    exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Between, exp.In, exp.Is,
    exp.Like, exp.ILike, exp.Escape, exp.DPipe,
)  # fmt: skip
#: Functions that never fail over what a text says: they measure it, make another text of it, or take one of several.
_MEASURING = frozenset({
    "LENGTH", "LEN", "STRLEN", "CHAR_LENGTH", "STARTS_WITH", "PREFIX", "ENDS_WITH", "SUFFIX", "STRPOS", "INSTR",
    "CONTAINS", "TRY_STRPTIME",
})  # fmt: skip
_MAKING = frozenset({
    "SUBSTR", "SUBSTRING", "LEFT", "RIGHT", "LOWER", "LCASE", "UPPER", "UCASE", "REVERSE", "STRIP_ACCENTS", "TRIM",
    "LTRIM", "RTRIM", "SPLIT_PART", "CONCAT", "CONCAT_WS", "REPLACE",
})  # fmt: skip
_TAKING = frozenset({"GREATEST", "LEAST", "IFNULL", "COALESCE", "NULLIF"})


def is_bounded(predicate: exp.Expr, schema: TableSchema) -> bool:
    """Whether a validated predicate of DuckDB's dialect costs no more per row than the row itself allows."""
    try:
        bound = bound_of(predicate, schema)
        if schema.longest_text > MAX_QUOTED:
            _Quoting(schema).condition(predicate)
    except (UnboundedError, RecursionError):
        return False
    longest = max((schema.heavy_values.get(name, 0) for name in _heads_of(predicate)), default=0)
    return (
        bound.work.per_text * longest <= MAX_WORK
        and bound.held.per_text * longest <= MAX_SIZE
        and bound.work.per_text <= MAX_PASSES
        and bound.work.constant <= MAX_CONSTANT_WORK
        and bound.held.per_text <= MAX_COPIES
        and bound.held.constant <= MAX_CONSTANT_SIZE
    )


def _heads_of(predicate: exp.Expr) -> set[str]:
    """The columns that it names, and "" for any of them."""
    return {"", *(column.parts[0].name for column in predicate.find_all(exp.Column))}


def bound_of(predicate: exp.Expr, schema: TableSchema) -> Bound:
    """The bound of the whole predicate. Raises UnboundedError where it has none."""
    return _Reader(schema).read(predicate)


class _Reader:
    """Reads nodes over the columns of one table. Every method raises UnboundedError."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = {column.name: column for column in [*schema.pseudo_columns, *schema.columns]}

    def read(self, node: exp.Expr) -> Bound:
        if isinstance(node, (exp.And, exp.Or)):  # as long as a predicate may be: never by recursion
            return all_of(self.read(part) for part in _joined(node))
        rule = _RULE_OF.get(type(node))
        if rule is None:
            raise UnboundedError(type(node).__name__)
        return rule(self, node)

    def read_all(self, *nodes: exp.Expr | None) -> list[Bound]:
        return [self.read(node) for node in nodes if node is not None]

    def operands(self, node: exp.Expr) -> Bound:
        """What is made of operands by comparing, or by calculating with what has a fixed size."""
        return together(self.read(child) for child in node.iter_expressions())

    def literal(self, node: exp.Expr) -> Bound:
        size = Amount(len(node.this)) if isinstance(node, exp.Literal) and node.is_string else SMALL
        return Bound(size, NOTHING, NOTHING)

    def path(self, node: exp.Expr) -> Bound:
        """A column, or a field inside one; what the row holds is held anyway."""
        column = self.column_at(node)
        family, word = kind_of(column).family, column.type.upper()
        if word == "BIGNUM":  # to be shown, read or calculated with, it takes the square of its digits
            raise UnboundedError(word)
        if family in _TEXTS:
            return Bound(Amount(0, 1), NOTHING, NOTHING)
        if family in _FIXED or word == "UUID":
            return Bound(SMALL, NOTHING, NOTHING)
        raise UnboundedError(family)

    def is_null(self, node: exp.Expr) -> Bound:
        """Whether there is a value at all, of whatever kind: nothing of it is touched."""
        if isinstance(node.expression, exp.Null) and isinstance(node.this, (exp.Column, exp.Dot)):
            return Bound(SMALL, NOTHING, NOTHING)
        return self.operands(node)

    def inside(self, node: exp.Expr) -> Bound:
        return self.read(node.this)

    def membership(self, node: exp.Expr) -> Bound:
        if node.args.get("query") is not None or node.args.get("unnest") is not None:
            raise UnboundedError("IN over rows")
        return together(self.read_all(node.this, *node.expressions))

    def concatenation(self, node: exp.Expr) -> Bound:
        return made(self.read_all(node.this, node.expression))

    def cast(self, node: exp.Expr) -> Bound:
        value = self.read(node.this)
        target = kind_named(type_text(node.args["to"], "duckdb")).family
        if target in _FIXED:
            return Bound(SMALL, value.work.plus(value.size), value.held)
        if target not in _TEXTS:
            raise UnboundedError(target)
        is_column = isinstance(node.this, (exp.Column, exp.Dot))
        in_bytes = is_column and kind_of(self.column_at(node.this)).family == "bytes"
        return made([value], factor=_BYTE_CHARS if in_bytes else 1)

    def choice(self, node: exp.Expr) -> Bound:
        """CASE: any of its results, after all of its conditions."""
        branches = node.args.get("ifs") or []
        tests = self.read_all(node.this, *(branch.this for branch in branches))
        results = self.read_all(*(branch.args.get("true") for branch in branches), node.args.get("default"))
        return one_of(results, tests)

    def like(self, node: exp.Expr) -> Bound:
        """A pattern looks for one place at most: every further `%` in the middle would multiply the places to try."""
        like = node.this if isinstance(node, exp.Escape) else node
        if not isinstance(like, (exp.Like, exp.ILike)) or not isinstance(like.expression, exp.Literal):
            raise UnboundedError("a pattern that is not a literal")
        value, pattern = self.read(like.this), str(like.expression.this)
        moving = len(re.findall(r"%+", re.sub(r"%+\Z", "", pattern)))
        if moving > 1:
            raise UnboundedError("a pattern of several wildcards")
        folds = isinstance(like, exp.ILike)
        passes = (len(pattern) if moving else 0) + (2 if folds else 0)
        work = value.work.plus(Amount(len(pattern))).plus(value.size.times(passes))
        copied = value.size.times(2) if folds else NOTHING
        return Bound(SMALL, work, value.held.plus(copied))

    def call(self, node: exp.Expr) -> Bound:
        rule = CALLS.get(str(node.this).upper())
        if rule is None:
            raise UnboundedError(str(node.this))
        arguments = [a for a in node.expressions if not isinstance(a, (exp.Var, exp.Interval))]
        return rule(self.read_all(*arguments), arguments)

    def column_at(self, node: exp.Expr) -> Column:
        path = _path_of(node)
        column = self._columns.get(path[0])
        for name in path[1:]:
            column = next((field for field in column.fields if field.name == name), None) if column else None
        if column is None:
            raise UnboundedError(".".join(path))
        return column


class _Quoting:
    """Refuses texts of the row that something else is made of, which may fail. Each method raises UnboundedError."""

    def __init__(self, schema: TableSchema) -> None:
        self._columns = _Reader(schema)

    def condition(self, node: exp.Expr) -> None:
        for part in _joined(node):
            if self.is_text(part):
                raise UnboundedError("a text as a condition")

    def is_text(self, node: exp.Expr) -> bool:
        """Whether the value is a text of the row; of a literal DuckDB makes what it stands beside, once."""
        if isinstance(node, (exp.And, exp.Or)):
            self.condition(node)
            return False
        if isinstance(node, (exp.Column, exp.Dot)):
            return kind_of(self._columns.column_at(node)).family == "text"
        if isinstance(node, exp.Case):
            return self._choice(node)
        parts = self._parts(node)
        texts = [self.is_text(part) for part in parts]
        if isinstance(node, (exp.Cast, exp.TryCast)):
            return self._cast(node, texts[0])
        if isinstance(node, exp.Anonymous):
            return self._call(node, texts)
        if isinstance(node, exp.Paren):
            return texts[0]
        if any(texts) and not isinstance(node, _COMPARING):
            raise UnboundedError("a text that is calculated with")
        self._alike(parts, texts)
        return isinstance(node, exp.DPipe)

    def _parts(self, node: exp.Expr) -> list[exp.Expr]:
        return [part for part in node.iter_expressions() if not isinstance(part, (exp.DataType, exp.Var))]

    def _alike(self, parts: list[exp.Expr], texts: list[bool]) -> None:
        others = [part for part, text in zip(parts, texts, strict=True) if not text and not isinstance(part, exp.Null)]
        if any(texts) and not all(isinstance(part, exp.Literal) and part.is_string for part in others):
            raise UnboundedError("a text beside what is none")

    def _cast(self, node: exp.Expr, of_text: bool) -> bool:
        family = kind_named(type_text(node.args["to"], "duckdb")).family
        if of_text and family != "text" and not isinstance(node, exp.TryCast):
            raise UnboundedError("a text to be read as another type")
        return family == "text"

    def _call(self, node: exp.Expr, texts: list[bool]) -> bool:
        name = str(node.this).upper()
        if name in _TAKING:
            self._alike(self._parts(node), texts)
        elif any(texts) and name not in _MAKING | _MEASURING:
            raise UnboundedError(name)
        return name in _MAKING or (name in _TAKING and any(texts))

    def _choice(self, node: exp.Expr) -> bool:
        branches = node.args.get("ifs") or []
        tests = [*([node.this] if node.this is not None else []), *(branch.this for branch in branches)]
        if node.this is not None:
            self._alike(tests, [self.is_text(test) for test in tests])
        elif any(self.is_text(test) for test in tests):
            raise UnboundedError("a text as a condition")
        default = node.args.get("default")
        results = [*(branch.args["true"] for branch in branches), *([default] if default is not None else [])]
        texts = [self.is_text(result) for result in results]
        self._alike(results, texts)
        return any(texts)


def _path_of(node: exp.Expr) -> list[str]:
    if isinstance(node, exp.Dot):
        return [*_path_of(node.this), str(node.expression.name)]
    if not isinstance(node, exp.Column):
        raise UnboundedError(type(node).__name__)
    return [part.name for part in node.parts]


def _joined(node: exp.Expr) -> list[exp.Expr]:
    parts, waiting = [], [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, (exp.And, exp.Or)):
            waiting += [part.this, part.expression]
        else:
            parts.append(part)
    return parts


_RULES: tuple[tuple[tuple[type[exp.Expr], ...], Callable[[_Reader, exp.Expr], Bound]], ...] = (
    ((exp.Literal, exp.Boolean, exp.Null, exp.Interval), _Reader.literal),
    ((exp.Column, exp.Dot), _Reader.path),
    ((exp.Anonymous,), _Reader.call),
    ((exp.Is,), _Reader.is_null),
    ((exp.Not, exp.Paren, exp.Neg), _Reader.inside),
    ((exp.Escape, exp.Like, exp.ILike), _Reader.like),
    ((exp.In,), _Reader.membership),
    ((exp.DPipe,), _Reader.concatenation),
    ((exp.Case,), _Reader.choice),
    ((exp.Cast, exp.TryCast), _Reader.cast),
    (
        (
            exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Between,
            exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.BitwiseAnd, exp.BitwiseOr,
        ),
        _Reader.operands,
    ),
)  # fmt: skip
_RULE_OF = {kind: rule for kinds, rule in _RULES for kind in kinds}
