"""The lexemes as a reader meets them: what comes next, what has to come, and what was wrong on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sqlglot import exp

from agnes_mcp.errors import PredicateError
from agnes_mcp.sql.predicate.columns import Columns, UnresolvedError
from agnes_mcp.sql.predicate.hints import OPERATOR_HINTS
from agnes_mcp.sql.predicate.kinds import Kind
from agnes_mcp.sql.predicate.lexemes import Lexeme
from agnes_mcp.sql.predicate.refusals import Fault, near, refuse
from agnes_mcp.sql.predicate.rules import Rules

QUERY_WORDS = frozenset({"SELECT", "WITH", "FROM", "TABLE", "VALUES", "EXISTS"})
_STATEMENTS = """
    INSERT UPDATE DELETE DROP TRUNCATE ALTER CREATE COPY MERGE GRANT REVOKE CALL EXECUTE EXPORT LOAD ATTACH DETACH
    INSTALL PRAGMA SET REPLACE VACUUM EXPLAIN DECLARE BEGIN COMMIT ROLLBACK USE
"""
_CLAUSES = """
    UNION INTERSECT EXCEPT LIMIT OFFSET ORDER GROUP HAVING QUALIFY WINDOW TABLESAMPLE FETCH JOIN LEFT RIGHT FULL INNER
    CROSS NATURAL WHERE ON USING AS OVER FILTER WITHIN RESPECT IGNORE FOR SAMPLE PIVOT UNPIVOT INTO RETURNING LATERAL
    COLLATE AT ANY ALL SOME ESCAPE SIMILAR GLOB OVERLAPS
"""
STATEMENT_WORDS = frozenset(_STATEMENTS.split())
BEGINNINGS = STATEMENT_WORDS | QUERY_WORDS
OPERATOR_WORDS = frozenset({"AND", "OR", "NOT", "IS", "IN", "BETWEEN", "LIKE", "ILIKE", "=", "!=", "<>", "<", ">"})
_CLAUSE_WORDS = frozenset(_CLAUSES.split())


@dataclass(slots=True)
class Read:
    """One expression: its node, its kind, where it starts, and whether it is a literal."""

    node: exp.Expr
    kind: Kind
    start: int
    literal: bool = False


class Cursor:
    """Failures of structure are raised at once; those of meaning are gathered in `faults`, to be told in order."""

    def __init__(self, text: str, lexemes: list[Lexeme], columns: Columns, rules: Rules) -> None:
        self.text, self.columns, self.rules = text, columns, rules
        self.faults: list[Fault] = []
        self.growing: set[int] = set()  # by id: what a longer text is put in place of
        self.subqueries = 0  # EXISTS read so far
        self._lexemes = lexemes
        self.go_to(0)

    def go_to(self, position: int) -> None:
        self.position, self.next = position, self._lexemes[position]

    @property
    def after_next(self) -> Lexeme:
        return self.next if self.next.kind == "end" else self._lexemes[self.position + 1]

    def advance(self) -> Lexeme:
        lexeme = self.next
        if lexeme.kind != "end":
            self.position += 1
            self.next = self._lexemes[self.position]
        return lexeme

    def at(self, *signs: str) -> bool:
        """Whether one of these words or symbols comes next."""
        return self.next.sign in signs

    def take(self, *signs: str) -> Lexeme | None:
        return self.advance() if self.next.sign in signs else None

    def expect(self, sign: str, purpose: str) -> None:
        if not self.take(sign):
            raise self.unexpected(f"{sign} {purpose}")

    def source(self, lexeme: Lexeme) -> str:
        return self.text[lexeme.start : lexeme.end]

    def refuse(self, kind: str, message: str, hint: str, lexeme: Lexeme, **details: object) -> PredicateError:
        return refuse(kind, message, hint, self.text, lexeme.start, lexeme.end, **details)

    def note(self, unresolved: UnresolvedError, segment: Lexeme) -> None:
        unresolved.__traceback__ = None  # kept with the fault, it would keep every frame of the reader
        self.faults.append(Fault(unresolved.kind, segment.start, lambda: self._unresolved(unresolved, segment)))

    def _unresolved(self, unresolved: UnresolvedError, segment: Lexeme) -> PredicateError:
        name = segment.value if segment.kind == "name" else self.source(segment)
        close = near(name, unresolved.known)
        hint = unresolved.hint(close)
        if segment.kind == "name" and self.rules.dialect == "duckdb":
            hint = f"{hint} Strings take single quotes: 'text'."
        details = {"column": name[:80], "nearest": close}
        return self.refuse(unresolved.kind, unresolved.message, hint, segment, **details)

    def unexpected(self, wanted: str) -> PredicateError:
        """The next lexeme does not continue the condition: say of what kind of SQL it is a part."""
        lexeme = self.next
        if lexeme.kind == "end":
            return self.refuse("parse_error", f"The predicate ends where {wanted} is needed.", "Complete it.", lexeme)
        shown = self.source(lexeme)[:40]
        if lexeme.kind == "word":
            return self._unexpected_word(lexeme, shown, wanted)
        star = lexeme.value == "." and self.after_next.value == "*"
        if lexeme.kind == "symbol" and (lexeme.value in ("*", ",") or star):
            message = f"{shown} at {lexeme.start} is not part of a condition."
            return self.refuse("disallowed_node", message, "Write one condition over columns of this table.", lexeme)
        message = f"{shown} stands where {wanted} is needed."
        return self.refuse("parse_error", message, "Correct the condition there.", lexeme)

    def _unexpected_word(self, lexeme: Lexeme, shown: str, wanted: str) -> PredicateError:
        word = lexeme.value
        if word in QUERY_WORDS:
            hint = "Write values instead of a query; fetch the other table on its own, then use `query`."
            if self.text.upper().find("UNNEST") >= 0:
                hint = "Over a list of this table: EXISTS (SELECT 1 FROM UNNEST(list) AS e WHERE e.field = 'value')."
            return self.refuse("nested_select", f"{shown} begins a query inside the predicate.", hint, lexeme)
        if word in STATEMENT_WORDS:
            hint = "Write only a condition; this server reads."
            return self.refuse("ddl_or_dml", f"{shown} begins a statement.", hint, lexeme)
        hint = OPERATOR_HINTS[self.rules.dialect].get(word, "")
        if word in _CLAUSE_WORDS:
            hint = hint or "Use the tool's own arguments for limit, order and grouping."
            return self.refuse("disallowed_node", f"{shown} is not part of a condition.", hint, lexeme)
        if word == "NOT":
            hint = "Put brackets around NOT and its condition."
        hint = hint or self._quoting_hint(word) or "Join conditions with AND or OR; put strings in single quotes."
        return self.refuse("parse_error", f"{shown} stands where {wanted} is needed.", hint, lexeme)

    def reserved(self, lexeme: Lexeme) -> PredicateError:
        hint = self._quoting_hint(lexeme.value)
        return self.refuse("parse_error", f"{lexeme.value} is a word of SQL; as a column it is quoted.", hint, lexeme)

    def _quoting_hint(self, word: str) -> str:
        quote = "`" if self.rules.dialect == "bigquery" else '"'
        return f"{word} is a reserved word: write {quote}{word.lower()}{quote}." if word in self.rules.reserved else ""


class Expressions(Cursor, ABC):
    """A cursor that reads whole expressions as well: what operands and calls, in which expressions stand, may ask."""

    @abstractmethod
    def expression(self) -> Read:
        """Conditions joined by OR."""

    @abstractmethod
    def condition(self, where: str) -> Read:
        """An expression that is true, false or NULL."""

    @abstractmethod
    def list_literal(self) -> Read:
        """`[1, 2]`, of literals only."""
