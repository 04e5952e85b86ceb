"""The reader: conditions and arithmetic over operands, which `operands` reads.

Comparisons do not chain, and operators of different families do not mix without brackets: there the engines and sqlglot
disagree on what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate.cursor import Expressions, Read
from agnes_mcp.sql.predicate.kinds import BOOLEAN, NUMBER, TEXT, Kind
from agnes_mcp.sql.predicate.limits import MAX_CHAIN
from agnes_mcp.sql.predicate.operands import list_literal, operand
from agnes_mcp.sql.predicate.refusals import Fault, refuse

_COMPARISONS: dict[str, type[exp.Binary]] = {
    "=": exp.EQ, "!=": exp.NEQ, "<>": exp.NEQ, "<": exp.LT, "<=": exp.LTE, ">": exp.GT, ">=": exp.GTE,
}  # fmt: skip
_PRODUCTS: dict[str, type[exp.Binary]] = {"*": exp.Mul, "/": exp.Div, "//": exp.IntDiv, "%": exp.Mod}
_SUMS: dict[str, type[exp.Binary]] = {"+": exp.Add, "-": exp.Sub}
_UNMIXED: dict[str, type[exp.Binary]] = {"||": exp.DPipe, "&": exp.BitwiseAnd, "|": exp.BitwiseOr}
_PATTERNS: dict[str, type[exp.Binary]] = {"LIKE": exp.Like, "ILIKE": exp.ILike}
_RANGES = ("IN", "BETWEEN", "LIKE", "ILIKE", "IS")
_COMPARES = frozenset({*_COMPARISONS, *_RANGES})
_TRUTHS = {"NULL": exp.Null, "TRUE": exp.Boolean, "FALSE": exp.Boolean}
_WITH_ARTICLE = {"number": "a number", "text": "a text", "list": "a list", "null": "NULL", "interval": "an interval"}
_CONDITIONS = ("boolean", "null", "other")


class Reader(Expressions):
    def whole(self) -> exp.Expr:
        """The tree of all that there is. `faults` are what is wrong with it."""
        read = self.expression()
        if self.next.kind != "end":
            raise self.unexpected("AND, OR or the end")
        if read.kind.family not in ("boolean", "other"):
            self._note_not_condition(read, "The predicate")
        return read.node

    def expression(self) -> Read:
        """Conditions joined by OR."""
        return self._joined("OR", exp.Or, self._conjunction)

    def condition(self, where: str) -> Read:
        """An expression that is true, false or NULL."""
        read = self.expression()
        self._require_condition(read, where)
        return read

    def _conjunction(self) -> Read:
        return self._joined("AND", exp.And, self._negation)

    def _joined(self, word: str, node: type[exp.Connector], part: Callable[[], Read]) -> Read:
        left = part()
        while self.next.sign == word:
            self.advance()
            right = part()
            self._require_condition(left, word)
            self._require_condition(right, word)
            left = Read(node(this=left.node, expression=right.node), BOOLEAN, left.start)
        return left

    def _negation(self) -> Read:
        if self.next.sign != "NOT":
            return self._comparison()
        start = self.advance().start
        read = self._negation()
        self._require_condition(read, "NOT")
        return Read(exp.Not(this=read.node), BOOLEAN, start)

    def _require_condition(self, read: Read, where: str) -> None:
        if read.kind.family not in _CONDITIONS:
            self._note_not_condition(read, where)

    def _note_not_condition(self, read: Read, where: str) -> None:
        message = f"{where} needs a condition, and this is {_WITH_ARTICLE.get(read.kind.family, read.kind.family)}."
        hint = "Compare it with something: x = 1, x IS NOT NULL."
        error = refuse("not_boolean", message, hint, self.text, read.start, self.next.start)
        self.faults.append(Fault("not_boolean", read.start, lambda: error))

    def _comparison(self) -> Read:
        left = self._sum()
        read = self._range(left)
        if read is not left and (self.next.sign in _COMPARES or self._negated_range()):
            hint = "Put brackets around the first comparison, or join the two with AND."
            raise self.refuse("disallowed_node", "Comparisons do not chain.", hint, self.next)
        return read

    def _negated_range(self) -> bool:
        return self.next.sign == "NOT" and self.after_next.value in _RANGES

    def _range(self, left: Read) -> Read:
        if self.next.sign not in _COMPARES and self.next.sign != "NOT":
            return left
        if self.next.sign in _COMPARISONS:
            symbol = self.advance()
            right = self._sum()
            if "null" in (left.kind.family, right.kind.family):
                raise self.refuse(
                    "disallowed_node", f"Nothing is {symbol.value} NULL.", "Use IS NULL or IS NOT NULL.", symbol
                )
            return Read(_COMPARISONS[symbol.value](this=left.node, expression=right.node), BOOLEAN, left.start)
        if self.take("IS"):
            return self._is(left)
        negated = bool(self._negated_range() and self.advance())
        if self.at(*self.rules.patterns):
            return self._like(left, negated)
        node: exp.Expr | None = None
        if self.take("IN"):
            node = self._in(left)
        elif self.take("BETWEEN"):
            node = self._between(left)
        if node is None:
            if negated:
                raise self.unexpected("IN, BETWEEN or LIKE")
            return left
        return Read(exp.Not(this=node) if negated else node, BOOLEAN, left.start)

    def _is(self, left: Read) -> Read:
        negated = bool(self.take("NOT"))
        node: exp.Expr
        if self.take("DISTINCT"):
            self.expect("FROM", "after DISTINCT")
            distinct = exp.NullSafeEQ if negated else exp.NullSafeNEQ
            return Read(distinct(this=left.node, expression=self._sum().node), BOOLEAN, left.start)
        word = self.take(*_TRUTHS)
        if word is None:
            raise self.unexpected("NULL, TRUE, FALSE or DISTINCT FROM")
        if word.value != "NULL":
            self._require_condition(left, f"IS {word.value}")
        truth = exp.Null() if word.value == "NULL" else exp.Boolean(this=word.value == "TRUE")
        node = exp.Is(this=left.node, expression=truth)
        return Read(exp.Not(this=node) if negated else node, BOOLEAN, left.start)

    def _like(self, left: Read, negated: bool) -> Read:
        operator = self.advance()
        pattern = self.next
        if pattern.kind != "string":
            if pattern.kind == "end":
                raise self.unexpected("a pattern in quotes")
            if self.at("ANY", "ALL", "SOME"):
                hint = "Join several LIKE with OR."
            else:
                hint = "Write the pattern as one string literal."
            raise self.refuse("disallowed_node", f"{operator.value} takes one pattern in quotes.", hint, pattern)
        literal = exp.Literal(this=self.advance().value, is_string=True)
        if self.at("||"):
            hint = "Write the pattern as one string literal."
            raise self.refuse("disallowed_node", f"{operator.value} takes one pattern in quotes.", hint, self.next)
        extra = {"negate": True} if negated else {}
        node: exp.Expr = _PATTERNS[operator.value](this=left.node, expression=literal, **extra)
        if self.rules.dialect == "duckdb" and self.take("ESCAPE"):
            node = exp.Escape(this=node, expression=self._escape_character())
        return Read(node, BOOLEAN, left.start)

    def _escape_character(self) -> exp.Expr:
        lexeme = self.advance()
        if lexeme.kind != "string" or len(lexeme.value) != 1:
            raise self.refuse("parse_error", "ESCAPE takes one character in quotes.", "Write ESCAPE '!'.", lexeme)
        return exp.Literal(this=lexeme.value, is_string=True)

    def _between(self, left: Read) -> exp.Expr:
        low = self._sum()
        self.expect("AND", "between the two bounds")
        return exp.Between(this=left.node, low=low.node, high=self._sum().node)

    def _in(self, left: Read) -> exp.Expr:
        if self.at("UNNEST"):
            return self._in_unnest(left)
        if not self.rules.unnests and self.at("["):
            return exp.In(this=left.node, expressions=list(self.list_literal().node.expressions))
        if not self.rules.unnests and self.next.kind in ("word", "name"):
            hint = "Use list_contains(list, value)."
            raise self.refuse("disallowed_node", "IN takes values in brackets.", hint, self.next)
        self.expect("(", "and values after IN")
        values: list[exp.Expr] = []
        while not values or self.take(","):
            values.append(self._sum().node)
        self.expect(")", "or , after a value of IN")
        return exp.In(this=left.node, expressions=values)

    def _in_unnest(self, left: Read) -> exp.Expr:
        if not self.rules.unnests:
            hint = "Use list_contains(list, value)."
            raise self.refuse("disallowed_node", "UNNEST is not available here.", hint, self.next)
        self.advance()
        self.expect("(", "after UNNEST")
        lexeme = self.next
        values = self.list_literal() if self.at("[") else self.operand()
        if values.kind.family not in ("list", "other"):
            raise self.refuse("disallowed_node", "UNNEST takes an array.", "Name an array column.", lexeme)
        self.expect(")", "to close UNNEST")
        return exp.In(this=left.node, unnest=exp.Unnest(expressions=[values.node], offset=False))

    def _sum(self) -> Read:
        """Arithmetic, or a chain of one of || & |."""
        left = self._chain(self._product, _SUMS)
        symbol = self.next.sign
        if symbol not in _UNMIXED:
            return left
        if isinstance(left.node, exp.Binary) and not isinstance(left.node, exp.Dot):
            raise self._mixed()
        left = self._chain(self.operand, {symbol: _UNMIXED[symbol]}, left)
        if self.at(*_UNMIXED, *_SUMS, *_PRODUCTS):
            raise self._mixed()
        return left

    def _mixed(self) -> PredicateError:
        hint = "Put brackets around the inner operation."
        return self.refuse("disallowed_node", f"{self.next.value} mixes with another operator.", hint, self.next)

    def _product(self) -> Read:
        return self._chain(self.operand, _PRODUCTS)

    def operand(self) -> Read:
        """One operand with what hangs on it."""
        return operand(self)

    def list_literal(self) -> Read:
        """`[1, 2]`, of literals only."""
        return list_literal(self)

    def _chain(
        self, part: Callable[[], Read], operators: dict[str, type[exp.Binary]], left: Read | None = None
    ) -> Read:
        read = left or part()
        length = 0
        while self.next.sign in operators:
            symbol = self.advance()
            length += 1
            if length > MAX_CHAIN:
                message = f"More than {MAX_CHAIN} operands are chained."
                raise self.refuse("too_complex", message, "Shorten the expression.", symbol)
            right = part()
            node = _binary(operators[symbol.value], read.node, right.node)
            read = Read(node, _result(symbol.value, read, right), read.start)
        return read


def _binary(node: type[exp.Binary], left: exp.Expr, right: exp.Expr) -> exp.Binary:
    if node is exp.DPipe:
        return node(this=left, expression=right, safe=True)
    if node is exp.Div:
        return node(this=left, expression=right, typed=False, safe=False)
    return node(this=left, expression=right)


def _result(symbol: str, left: Read, right: Read) -> Kind:
    if symbol == "||":
        return TEXT
    if symbol in ("+", "-") and "number" not in (left.kind.family, right.kind.family):
        return left.kind if left.kind.family != "interval" else right.kind
    return NUMBER
