"""Gate 1: how deep a statement nests and how long its chains are, counted on the lexemes as they go by."""

from __future__ import annotations

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse.lexemes import Lexeme
from agnes_mcp.sql.warehouse.limits import (
    MAX_CHAIN,
    MAX_DEPTH,
    MAX_DOUBLING_DEPTH,
    MAX_SELECTS,
    MAX_SET_OPERATIONS,
    MAX_UNARY_RUN,
)
from agnes_mcp.sql.warehouse.refusals import refuse

_CHAINED = frozenset({"+", "-", "*", "/", "||", "&", "|", "^", "<<", ">>", ".", "=", "<", ">", "<=", ">=", "!=", "<>"})
_UNARY = frozenset({"NOT", "-", "+", "~"})
_CLOSING = {"(": ")", "[": "]"}


class Level:
    """What stands inside one bracket. `opener` is the word before it, `clause` the clause that is being read."""

    __slots__ = ("angle", "casting", "chain", "clause", "doubling", "lexeme", "opener", "sets")

    def __init__(self, lexeme: Lexeme | None, opener: str, clause: str, doubling: bool) -> None:
        self.lexeme, self.opener, self.clause, self.doubling = lexeme, opener, clause, doubling
        self.angle = self.chain = self.sets = 0
        self.casting = False  # behind the AS of a CAST


class Levels:
    """Raises `parse_error` for brackets that do not match, `too_complex` for what passes a limit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open = [Level(None, "", "", False)]
        self._cases = self._doubling = self._unary = self._selects = 0

    @property
    def now(self) -> Level:
        return self._open[-1]

    @property
    def depth(self) -> int:
        return len(self._open) - 1

    def open(self, lexeme: Lexeme, opener: str, clause: str, doubling: bool) -> None:
        self._open.append(Level(lexeme, opener, clause, doubling))
        self._doubling += doubling
        if self._doubling > MAX_DOUBLING_DEPTH:
            message = (
                f"Calls named like a type, STRUCT, SAFE and square brackets nest deeper than {MAX_DOUBLING_DEPTH}."
            )
            raise self.too_complex(message, lexeme)
        self._check_depth(lexeme)

    def close(self, lexeme: Lexeme) -> None:
        level = self._open.pop()
        if level.lexeme is None or _CLOSING[level.lexeme.value] != lexeme.value:
            raise self._unmatched(lexeme)
        self._doubling -= level.doubling

    def case(self, lexeme: Lexeme, step: int) -> None:
        self._cases = max(0, self._cases + step)
        self._check_depth(lexeme)

    def end(self) -> None:
        if self.now.lexeme is not None:
            raise self._unmatched(self.now.lexeme)

    def chain(self, lexeme: Lexeme) -> None:
        """An operator, NOT, or a sign."""
        level = self.now
        if lexeme.value in _CHAINED:
            level.chain += 1
            if level.chain > MAX_CHAIN:
                raise self.too_complex(f"More than {MAX_CHAIN} operators stand beside one another.", lexeme)

    def run(self, lexeme: Lexeme) -> None:
        self._unary = self._unary + 1 if lexeme.value in _UNARY else 0
        if self._unary > MAX_UNARY_RUN:
            raise self.too_complex(f"More than {MAX_UNARY_RUN} NOT or signs stand in a row.", lexeme)

    def clause(self, lexeme: Lexeme) -> None:
        level = self.now
        level.clause, level.chain = lexeme.value, 0
        if lexeme.value == "SELECT":
            self._selects += 1
            if self._selects > MAX_SELECTS:
                raise self.too_complex(f"The statement has more than {MAX_SELECTS} SELECTs.", lexeme)

    def set_operation(self, lexeme: Lexeme) -> None:
        self.now.sets += 1
        if self.now.sets > MAX_SET_OPERATIONS:
            raise self.too_complex(f"More than {MAX_SET_OPERATIONS} set operations stand beside one another.", lexeme)

    def separate(self) -> None:
        """A comma, AND, OR, WHEN …: another chain begins."""
        self.now.chain = 0

    def _check_depth(self, lexeme: Lexeme) -> None:
        if self.depth + self._cases > MAX_DEPTH:
            raise self.too_complex(f"Brackets and CASE nest deeper than {MAX_DEPTH}.", lexeme)

    def too_complex(self, message: str, lexeme: Lexeme) -> AgnesError:
        hint = "Flatten it, or name the steps in WITH."
        return refuse("too_complex", message, hint, self._text, lexeme.start, lexeme.end)

    def _unmatched(self, lexeme: Lexeme) -> AgnesError:
        message = f"The bracket {lexeme.value} at {lexeme.start} has no partner."
        return refuse("parse_error", message, "Balance the brackets.", self._text, lexeme.start, lexeme.end)
