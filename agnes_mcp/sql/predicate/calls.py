"""Calls by the name that the caller writes, each checked against its signature; and paths to columns."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate import nodes
from agnes_mcp.sql.predicate.columns import UnresolvedError, field_of
from agnes_mcp.sql.predicate.cursor import Cursor, Read
from agnes_mcp.sql.predicate.hints import FUNCTION_HINTS
from agnes_mcp.sql.predicate.kinds import NULL, OTHER, TEXT, Kind, kind_of
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.limits import MAX_REPLACEMENT_CHARS
from agnes_mcp.sql.predicate.refusals import Fault, near, printable
from agnes_mcp.sql.predicate.signatures import Signature

_SUBSCRIPTS = {"OFFSET": (0, False), "SAFE_OFFSET": (0, True), "ORDINAL": (1, False), "SAFE_ORDINAL": (1, True)}


class Calls(Cursor):
    def expression(self) -> Read:
        """Any expression. The operators are one floor up."""
        raise NotImplementedError

    def condition(self, where: str) -> Read:
        raise NotImplementedError

    def interval(self) -> Read:
        raise NotImplementedError

    def list_literal(self) -> Read:
        raise NotImplementedError

    def call(self) -> Read:
        """`NAME(…)`. A name that is not on the list is noted, and its arguments are passed over."""
        name = self.advance()
        signature = self.rules.functions.get(name.value)
        if signature is None:
            return self._unknown_call(name, name.start)
        self.advance()
        arguments = self._arguments(signature, name)
        kind = signature.result or _first_kind(arguments, signature)
        return Read(nodes.call(signature.name, [a.node for a in arguments]), kind, name.start)

    def _arguments(self, signature: Signature, name: Lexeme) -> list[Read]:
        arguments: list[Read] = []
        while not self.at_symbol(")"):
            if arguments:
                self.expect_symbol(",", f"or ) after an argument of {signature.name}")
            arguments.append(self._argument(signature, signature.argument(len(arguments)), arguments))
            self._refuse_count(signature, name, too_many=True, count=len(arguments))
        self.advance()
        self._refuse_count(signature, name, too_many=False, count=len(arguments))
        return arguments

    def _refuse_count(self, signature: Signature, name: Lexeme, too_many: bool, count: int) -> None:
        over = not signature.repeats and count > len(signature.arguments)
        if over if too_many else not signature.accepts(count):
            message = f"{signature.name} does not take {'so many' if over else str(count)} arguments."
            raise self.refuse("parse_error", message, f"Call it as {signature}.", name, function=signature.name)

    def _argument(self, signature: Signature, wanted: str, before: list[Read]) -> Read:
        lexeme = self.next
        match wanted:
            case "condition":
                return self.condition(signature.name)
            case "part":
                part, _ = self.part(f"Call it as {signature}.")
                return Read(part, OTHER, lexeme.start)
            case "interval":
                return self._interval_argument(signature)
            case "list":
                return self._list_argument(signature)
            case "text" | "unit" | "growth":
                return self._text_argument(signature, wanted, before)
        return self.expression()

    def _interval_argument(self, signature: Signature) -> Read:
        if self.at_word("INTERVAL"):
            return self.interval()
        hint = f"Write {signature.name}(x, INTERVAL 30 DAY)."
        raise self.refuse("parse_error", f"{signature.name} takes an INTERVAL there.", hint, self.next)

    def _list_argument(self, signature: Signature) -> Read:
        lexeme = self.next
        read = self.list_literal() if self.at_symbol("[") else self.expression()
        if read.kind.family not in ("list", "other"):
            hint = f"Call it as {signature}, with an array column."
            raise self.refuse("disallowed_node", f"{signature.name} takes a list there.", hint, lexeme)
        return read

    def _text_argument(self, signature: Signature, wanted: str, before: list[Read]) -> Read:
        lexeme = self.next
        if lexeme.kind != "string":
            hint = f"Call it as {signature}, with a string in quotes: patterns and formats are not taken from rows."
            raise self.refuse("disallowed_node", f"{signature.name} takes a string literal there.", hint, lexeme)
        self.advance()
        if wanted == "unit" and lexeme.value.upper() not in self.rules.parts:
            hint = f"Use one of {', '.join(sorted(self.rules.parts))}."
            raise self.refuse("parse_error", f"{lexeme.value[:40]!r} is not a part of a date.", hint, lexeme)
        if wanted == "growth":
            self._check_growth(signature, lexeme, before)
        return Read(exp.Literal(this=lexeme.value, is_string=True), TEXT, lexeme.start, True)

    def _check_growth(self, signature: Signature, lexeme: Lexeme, before: list[Read]) -> None:
        """A replacement longer than what it replaces multiplies the size of a text; nested, the factors multiply."""
        replaced = before[1].node
        longest = len(str(replaced.this)) if signature.name == "REPLACE" else 0
        if len(lexeme.value) <= longest:
            return
        nested = any(id(node) in self.growing for node in before[0].node.walk())
        if nested or len(lexeme.value) > MAX_REPLACEMENT_CHARS:
            hint = f"Replace by at most {MAX_REPLACEMENT_CHARS} characters; do not nest what makes a text longer."
            raise self.refuse("too_complex", f"{signature.name} would let a text grow without bound.", hint, lexeme)
        self.growing.add(id(replaced))

    def part(self, usage: str) -> tuple[exp.Expr, str]:
        """A date part: `DAY`, and in BigQuery `WEEK(MONDAY)`."""
        lexeme = self.advance()
        word = lexeme.value
        if lexeme.kind != "word" or word not in self.rules.parts:
            shown = self.source(lexeme)[:40] or "Nothing"
            hint = f"{usage} A part is one word without quotes: {', '.join(sorted(self.rules.parts))}."
            raise self.refuse("parse_error", f"{shown} is not a part of a date.", hint, lexeme)
        if word == "WEEK" and self.rules.week_starts and self.take_symbol("("):
            day = self.advance()
            if day.value not in self.rules.week_starts:
                raise self.refuse("parse_error", "A week starts on a day.", "Write WEEK(MONDAY).", day)
            self.expect_symbol(")", "to close WEEK")
            return nodes.call("WEEK", [exp.Var(this=day.value)]), word
        return exp.Var(this=word), word

    def column(self) -> Read:
        """`column`, `record.field`, `list[OFFSET(0)].field`, each with or without the table's own name before it."""
        path = [self.advance()]
        while self.at_symbol(".") and self.after_next.kind in ("word", "name"):
            self.advance()
            path.append(self.advance())
        if self.at_symbol("("):
            return self._unknown_call(path[-1], path[0].start)
        return self._placed(path)

    def _placed(self, path: list[Lexeme]) -> Read:
        try:
            place = self.columns.find([self._spelled(segment) for segment in path])
        except UnresolvedError as unresolved:
            self.note(unresolved, path[unresolved.segment])
            return self._skip_subscripts(path[0].start)
        read = Read(nodes.column([place.name]), place.kind, path[0].start)
        return self.subscripts(self._descend(read, [place.name], path[place.segments :]), path)

    def _spelled(self, segment: Lexeme) -> str:
        return segment.value if segment.kind == "name" else self.source(segment)

    def _descend(self, read: Read, names: list[str], path: list[Lexeme]) -> Read:
        """Into the fields of a record. `names` is where `read` stands; empty when an element of a list comes before."""
        kind, shown = read.kind, ".".join(names)
        fields: list[str] = []
        for segment in path:
            try:
                field = field_of(kind, shown or "the element", self._spelled(segment), 0)
            except UnresolvedError as unresolved:
                self.note(unresolved, segment)
                return Read(read.node, OTHER, read.start)
            fields.append(field.name)
            kind, shown = kind_of(field), f"{shown}.{field.name}"
        node = nodes.column(names + fields) if names else nodes.fields(read.node, fields)
        return Read(node, kind, read.start)

    def subscripts(self, read: Read, path: list[Lexeme]) -> Read:
        """`[…]` and what follows it. What is left in the end may not be a whole record."""
        while self.at_symbol("["):
            read = self._element(read)
            fields: list[Lexeme] = []
            while self.at_symbol(".") and self.after_next.kind in ("word", "name"):
                self.advance()
                fields.append(self.advance())
            if self.at_symbol("("):
                return self._unknown_call(fields[-1] if fields else self.next, read.start)
            read = self._descend(read, [], fields)
        if read.kind.family == "record":
            shown = [field.name for field in read.kind.fields[:5]]
            hint = f"Name one of its fields: {', '.join(shown)}." if shown else "Name one of its fields."
            lexeme = path[-1] if path else self.next
            raise self.refuse("disallowed_node", "A whole record is not a value to compare.", hint, lexeme)
        return read

    def _element(self, read: Read) -> Read:
        opening = self.advance()
        if read.kind.family not in ("list", "map", "other"):
            hint = "Only arrays have elements."
            raise self.refuse("disallowed_node", "This is not a list.", hint, opening)
        node = self._bigquery_element(read) if self.rules.unnests else self._duckdb_element(read)
        if not self.at_symbol("]"):
            raise self.refuse("disallowed_node", "A position is one literal.", "Write it as a number.", self.next)
        self.advance()
        return Read(node, read.kind.element or OTHER, read.start)

    def _bigquery_element(self, read: Read) -> exp.Expr:
        offset, safe = 0, False
        keyword = self.take_word(*_SUBSCRIPTS)
        if keyword:
            offset, safe = _SUBSCRIPTS[keyword.value]
            self.expect_symbol("(", f"after {keyword.value}")
        node = nodes.element(read.node, self._position(), offset, safe)
        if keyword:
            self.expect_symbol(")", "after the position")
        return node

    def _duckdb_element(self, read: Read) -> exp.Expr:
        if read.kind.family == "map" and self.next.kind == "string":
            return nodes.element(read.node, exp.Literal(this=self.advance().value, is_string=True))
        lexeme, position = self.next, self._position()
        if position.this == "0":
            raise self.refuse("parse_error", "DuckDB counts elements from 1.", "Write [1] for the first.", lexeme)
        return nodes.element(read.node, exp.Literal(this=str(int(position.this) - 1), is_string=False))

    def _position(self) -> exp.Literal:
        lexeme = self.next
        if lexeme.kind != "number" or not lexeme.value.isdigit() or len(lexeme.value) > 9:
            hint = "Write the position as a number: [SAFE_OFFSET(0)] in BigQuery, [1] in DuckDB."
            raise self.refuse("disallowed_node", "A position is a whole-number literal.", hint, lexeme)
        return exp.Literal(this=str(int(self.advance().value)), is_string=False)

    def _skip_subscripts(self, start: int) -> Read:
        while self.at_symbol("["):
            self._skip_brackets()
        return _unread(start)

    def _unknown_call(self, name: Lexeme, start: int) -> Read:
        """A function that is not on the list, or one behind a dot: a user's own, SAFE., NET., ML."""
        self.faults.append(Fault("unknown_function", start, lambda: self._unavailable(name, start)))
        self._skip_brackets()
        if self.take_word("OVER") and self.at_symbol("("):
            self._skip_brackets()
        return _unread(start)

    def _unavailable(self, name: Lexeme, start: int) -> PredicateError:
        shown = printable(self.text[start : name.end])
        close = near(name.value, list(self.rules.functions))
        hint = FUNCTION_HINTS[self.rules.dialect].get(name.value, "") if start == name.start else ""
        hint = hint or (f"Did you mean {' or '.join(close)}?" if close else "Use operators, or call a listed function.")
        message = f"The function {shown} is not available in a predicate."
        lexeme = Lexeme(name.kind, name.value, start, name.end)
        return self.refuse("unknown_function", message, hint, lexeme, function=shown.upper(), nearest=close)

    def _skip_brackets(self) -> None:
        """Past the bracket that opens here; a query in it is still refused as one."""
        depth = 0
        while True:
            if self.at_word("SELECT"):
                raise self.unexpected("a value")
            lexeme = self.advance()
            if lexeme.kind == "symbol":
                depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(lexeme.value, 0)
            if depth == 0 or lexeme.kind == "end":
                return


def _first_kind(arguments: list[Read], signature: Signature) -> Kind:
    kinds = (a.kind for i, a in enumerate(arguments) if signature.argument(i) == "value" and a.kind.family != "null")
    return next(kinds, NULL)


def _unread(start: int) -> Read:
    """Stands for what was passed over, so that reading can go on to what is told first."""
    return Read(exp.Paren(this=exp.Null()), OTHER, start)
