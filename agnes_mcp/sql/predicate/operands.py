"""What stands between operators: columns, literals, calls, CASE, CAST, EXTRACT, INTERVAL, brackets."""

from __future__ import annotations

import re

from sqlglot import exp

from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.calls import Calls
from agnes_mcp.sql.predicate.cursor import OPERATOR_WORDS, QUERY_WORDS, STATEMENT_WORDS, Read
from agnes_mcp.sql.predicate.kinds import BOOLEAN, INTERVAL, NULL, NUMBER, TEXT, Kind, kind_named, list_of
from agnes_mcp.sql.predicate.lexemes import Lexeme

_COUNTED = re.compile(r"(-?[0-9]{1,9})(?: ([A-Za-z]+))?")
_DIGITS = re.compile(r"[0-9]+")


class Operands(Calls):
    def operand(self) -> Read:
        """One operand with what hangs on it: `-x`, `x::INTEGER`."""
        if self.at_symbol("-"):
            sign = self.advance()
            inner = self.operand()
            return Read(exp.Neg(this=inner.node), inner.kind, sign.start)
        read = self._primary()
        while self.rules.double_colon and self.at_symbol("::"):
            read = self._double_colon(read)
        return read

    def _primary(self) -> Read:
        lexeme = self.next
        match lexeme.kind:
            case "number":
                return Read(exp.Literal(this=self.advance().value, is_string=False), NUMBER, lexeme.start, True)
            case "string":
                return Read(exp.Literal(this=self.advance().value, is_string=True), TEXT, lexeme.start, True)
            case "name":
                return self.column()
            case "word":
                return self._word()
        if self.at_symbol("("):
            return self._bracketed()
        if self.at_symbol("["):
            return self.list_literal()
        raise self.unexpected("a column, a value or a call")

    def _word(self) -> Read:
        lexeme, after = self.next, self.after_next
        word = lexeme.value
        if word == "INTERVAL":
            return self.interval()
        if after.kind == "symbol" and after.value == "(" and word not in QUERY_WORDS:
            return self._named_call()
        if word in self.rules.literals and after.kind == "string":
            return self._typed_literal()
        if word in ("TRUE", "FALSE"):
            return Read(exp.Boolean(this=self.advance().value == "TRUE"), BOOLEAN, lexeme.start, True)
        if word == "NULL":
            self.advance()
            return Read(exp.Null(), NULL, lexeme.start, True)
        if word == "CASE":
            return self._case()
        if word in self.rules.bare_calls:
            self.advance()
            name, kind = self.rules.bare_calls[word]
            return Read(nodes.call(name, []), kind, lexeme.start)
        if word in self.rules.reserved and self.source(lexeme) in self.columns:
            raise self.reserved(lexeme)
        if word in self.rules.reserved or self._begins_statement():
            raise self.unexpected("a column, a value or a call")
        return self.column()

    def _begins_statement(self) -> bool:
        """A word like DROP or TABLE that is no column here and is followed by a name."""
        known = self.source(self.next) in self.columns or self.next.value not in STATEMENT_WORDS | QUERY_WORDS
        return not known and self.after_next.kind != "end" and self.after_next.value not in OPERATOR_WORDS

    def _named_call(self) -> Read:
        special = {
            "CAST": self._cast, self.rules.try_cast: self._cast, "EXTRACT": self._extract,
        }.get(self.next.value)  # fmt: skip
        return self.subscripts(special() if special else self.call(), [])

    def _bracketed(self) -> Read:
        opening = self.advance()
        inner = self.expression()
        if self.at_symbol(","):
            hint = "Compare one value at a time: a = 1 AND b = 2."
            raise self.refuse("disallowed_node", "Rows of values are not available here.", hint, self.next)
        self.expect_symbol(")", "to close the bracket")
        if self.at_symbol(".", "["):
            hint = "Call functions by name: LOWER(x)."
            raise self.refuse("disallowed_node", "Nothing can follow a bracket like that.", hint, self.next)
        return Read(exp.Paren(this=inner.node), inner.kind, opening.start)

    def list_literal(self) -> Read:
        """`[1, 2]`, of literals only."""
        opening = self.advance()
        values: list[Read] = []
        while not self.at_symbol("]"):
            if values:
                self.expect_symbol(",", "between the values of a list")
            values.append(self.constant("A list holds only literals."))
        self.advance()
        element = values[0].kind if values else NULL
        return Read(nodes.array([v.node for v in values], self.rules.dialect), list_of(element), opening.start)

    def constant(self, message: str) -> Read:
        """A literal: a number with or without a minus, a string, TRUE, FALSE, NULL, or `DATE '2026-01-31'`."""
        lexeme = self.next
        read = self.operand()
        inner = read.node.this if isinstance(read.node, (exp.Neg, exp.Cast)) else None
        signed = isinstance(inner, exp.Literal) and inner.is_string == isinstance(read.node, exp.Cast)
        if not (read.literal or signed):
            raise self.refuse("disallowed_node", message, "Write the value itself.", lexeme)
        return read

    def _typed_literal(self) -> Read:
        word, value = self.advance(), self.advance()
        if self.at_symbol("::"):
            hint = "Write CAST(" + self.source(word) + " '…' AS type)."
            raise self.refuse("disallowed_node", "It is not clear what :: is to cast here.", hint, self.next)
        literal = exp.Literal(this=value.value, is_string=True)
        return Read(nodes.cast(literal, word.value, self.rules.dialect), kind_named(word.value), word.start, True)

    def interval(self) -> Read:
        """`INTERVAL 30 DAY`, `INTERVAL '30' DAY`; `INTERVAL -1 DAY` in BigQuery; `INTERVAL '30 days'` in DuckDB."""
        start = self.advance().start
        sign = "-" if self.take_symbol("-") else ""
        lexeme = self.advance()
        counted = _COUNTED.fullmatch(lexeme.value) if lexeme.kind in ("number", "string") else None
        if counted is None or (counted[2] and (self.rules.unnests or lexeme.kind == "number")):
            hint = "Write INTERVAL 30 DAY."
            raise self.refuse("disallowed_node", "An interval counts with a whole-number literal.", hint, lexeme)
        count = (sign + counted[1]).removeprefix("--")
        if count.startswith("-") and not self.rules.unnests:
            hint = "Subtract instead: x - INTERVAL 1 DAY."
            raise self.refuse("disallowed_node", "An interval has no sign in DuckDB.", hint, lexeme)
        return Read(nodes.interval(count, self._unit(counted[2], lexeme)), INTERVAL, start)

    def _unit(self, counted: str | None, lexeme: Lexeme) -> str:
        unit = counted.upper() if counted else (self.advance().value if self.next.kind == "word" else "")
        if unit not in self.rules.units:
            hint = f"Use one of {', '.join(sorted(self.rules.units))}."
            raise self.refuse("parse_error", f"{unit[:40] or 'Nothing'} is not a unit of time.", hint, lexeme)
        return unit

    def _case(self) -> Read:
        start = self.advance().start
        base = None if self.at_word("WHEN") else self.expression()
        branches: list[exp.Expr] = []
        results: list[Read] = []
        while self.take_word("WHEN"):
            test = self.expression() if base else self.condition("WHEN")
            self.expect_word("THEN", "after the condition of WHEN")
            results.append(self.expression())
            branches.append(exp.If(this=test.node, true=results[-1].node))
        if not branches:
            raise self.unexpected("WHEN")
        otherwise = self.expression() if self.take_word("ELSE") else None
        self.expect_word("END", "to close CASE")
        node = exp.Case(this=base and base.node, ifs=branches, default=otherwise and otherwise.node)
        return Read(node, common_kind([*results, *([otherwise] if otherwise else [])]), start)

    def _cast(self) -> Read:
        function, _ = self.advance(), self.advance()
        value = self.expression()
        self.expect_word("AS", "and a type")
        spelling = self._type()
        self.expect_symbol(")", "to close the cast")
        tries = function.value == self.rules.try_cast
        node = nodes.cast(value.node, spelling, self.rules.dialect, tries)
        return Read(node, kind_named(spelling), function.start)

    def _double_colon(self, read: Read) -> Read:
        sign = self.advance()
        number = isinstance(read.node, exp.Literal) and not read.node.is_string
        if number or isinstance(read.node, (exp.Case, exp.Interval, exp.Array, exp.Boolean, exp.Null)):
            raise self.refuse(
                "disallowed_node", ":: follows only a column, a call or a bracket.", "Use CAST(x AS type).", sign
            )
        spelling = self._type()
        return Read(nodes.cast(read.node, spelling, self.rules.dialect), kind_named(spelling), read.start)

    def _type(self) -> str:
        """The name of a type that CAST may have, in capitals, with its numbers."""
        lexeme = self.advance()
        word = lexeme.value
        if lexeme.kind != "word" or word not in self.rules.casts:
            hint = f"Use one of {', '.join(self.rules.casts)}."
            raise self.refuse("disallowed_node", f"{self.source(lexeme)[:40]} is not a type to cast to.", hint, lexeme)
        if word == "TIMESTAMP" and self.rules.double_colon and self.take_word("WITH"):
            self.expect_word("TIME", "ZONE after WITH")
            self.expect_word("ZONE", "after TIME")
            return "TIMESTAMPTZ"
        if self.at_symbol("["):
            hint = f"Use one of {', '.join(self.rules.casts)}."
            raise self.refuse("disallowed_node", "A list or a record is not a type to cast to.", hint, self.next)
        return word + self._type_numbers(self.rules.casts[word])

    def _type_numbers(self, most: int) -> str:
        if not most or not self.take_symbol("("):
            return ""
        numbers: list[str] = []
        while not numbers or self.take_symbol(","):
            numbers.append(self.advance().value)
        self.expect_symbol(")", "to close the type")
        if len(numbers) > most or not all(_DIGITS.fullmatch(n) and len(n) <= 8 for n in numbers):
            raise self.refuse("parse_error", "A type takes whole numbers there.", "Write NUMERIC(10, 2).", self.next)
        return f"({', '.join(numbers)})"

    def _extract(self) -> Read:
        function, _ = self.advance(), self.advance()
        part, word = self.part("Write EXTRACT(YEAR FROM x).")
        self.expect_word("FROM", "after the part")
        value = self.expression()
        zoned = self._zone() if self.rules.unnests and self.take_word("AT") else None
        self.expect_symbol(")", "to close EXTRACT")
        if (
            not self.rules.unnests
        ):  # DuckDB: EXTRACT is DATE_PART by another name, and sqlglot renames some of its parts
            unit = exp.Literal(this=word.lower(), is_string=True)
            return Read(nodes.call("DATE_PART", [unit, value.node]), NUMBER, function.start)
        # EXTRACT(HOUR FROM t AT TIME ZONE z) is EXTRACT(HOUR FROM DATETIME(t, z)): one spelling for both.
        inner = nodes.call("DATETIME", [value.node, zoned]) if zoned else value.node
        kind = kind_named(word) if word in ("DATE", "TIME", "DATETIME") else NUMBER
        return Read(exp.Extract(this=part, expression=inner), kind, function.start)

    def _zone(self) -> exp.Expr:
        self.expect_word("TIME", "ZONE after AT")
        self.expect_word("ZONE", "after TIME")
        if self.next.kind != "string":
            raise self.unexpected("a time zone in quotes")
        return exp.Literal(this=self.advance().value, is_string=True)


def common_kind(reads: list[Read]) -> Kind:
    """The kind of the first that is not NULL."""
    return next((read.kind for read in reads if read.kind.family != "null"), NULL)
