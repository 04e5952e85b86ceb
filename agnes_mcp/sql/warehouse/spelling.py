"""Gate 1, second half: what each lexeme is, and how it is written for the parser.

Only words on a closed list reach the parser as words, each where GoogleSQL gives it a meaning; functions only if they
are listed; every other word reaches it as a name in backticks. So no word that is special to the parser alone can be.
Names with other characters than letters, digits, `_`, space and `-` go under a stand-in that no text can hold.
"""

from __future__ import annotations

from bisect import bisect_right

from agnes_mcp.errors import AgnesError
from agnes_mcp.sql.warehouse import words
from agnes_mcp.sql.warehouse.functions import GRAMMAR_CALLS, NAMESPACES, signature_of
from agnes_mcp.sql.warehouse.levels import Levels
from agnes_mcp.sql.warehouse.lexemes import Lexeme
from agnes_mcp.sql.warehouse.limits import MAX_DOUBLING_DEPTH
from agnes_mcp.sql.warehouse.missing import unlisted, wrong_start
from agnes_mcp.sql.warehouse.refusals import refuse

STAND_IN = "\ue000"  # begins a stand-in: private use, which gate 1 lets nobody write
_NOTHING = Lexeme("end", "", 0, 0)


class Spelling:
    """One pass over the lexemes. Afterwards `text` is what the parser reads, and `lexeme_at` maps it back."""

    def __init__(self, source: str, lexemes: list[Lexeme]) -> None:
        self.source, self.lexemes = source, lexemes
        self.names: dict[str, str] = {}
        self.literals = self.joins = self.selects = self.quoted = 0
        self._levels = Levels(source)
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._index = 0
        self._typed = -2  # where a type in angle brackets has ended
        self._spell()
        self.text = "".join(self._parts)

    def lexeme_at(self, offset: int) -> Lexeme:
        """The lexeme that stands at `offset` of `text`."""
        return self.lexemes[max(0, bisect_right(self._starts, offset) - 1)]

    def name(self, spelled: str) -> str:
        """The name behind a stand-in; any other name is itself."""
        return self.names.get(spelled, spelled)

    def refuse(self, kind: str, message: str, hint: str, lexeme: Lexeme, **details: object) -> AgnesError:
        return refuse(kind, message, hint, self.source, lexeme.start, lexeme.end, **details)

    def _spell(self) -> None:
        offset, end, before = 0, -1, _NOTHING
        last = len(self.lexemes) - 1
        while self._index < last:
            lexeme = self.lexemes[self._index]
            spelled = self._spelled(lexeme, before)
            if self._parts and (lexeme.start != end or (spelled[:1] == "`" == self._parts[-1][-1:])):
                spelled = f" {spelled}"  # two names side by side would be one with a backtick in it
            self.quoted += spelled.lstrip()[:1] == "`"
            self._starts.append(offset)
            self._parts.append(spelled)
            offset += len(spelled)
            end, before = lexeme.end, lexeme
            self._index += 1
        self._levels.end()

    def _after(self, steps: int) -> Lexeme:
        at = self._index + steps
        return self.lexemes[at] if at < len(self.lexemes) else _NOTHING

    def _spelled(self, lexeme: Lexeme, before: Lexeme) -> str:
        kind, value = lexeme.kind, lexeme.value
        self._levels.run(lexeme)
        if before is _NOTHING and (refusal := wrong_start(lexeme)) is not None:
            raise self.refuse(*refusal, lexeme)
        if kind == "word":
            return self._word(lexeme, before)
        if kind == "symbol":
            return self._symbol(lexeme, before)
        if kind == "name":
            if self._after(1).value == "(" and self._after(1).kind == "symbol":
                raise self._unlisted((value,), lexeme, before)
            return self._quoted(value)
        if kind == "string" and self._names_tables(before):
            raise self.refuse("parse_error", "A string is no table.", f"Write `{value[:80]}` in backticks.", lexeme)
        self.literals += 1
        return f"'{value.translate(words.ESCAPES)}'" if kind == "string" else value

    def _quoted(self, name: str) -> str:
        if not all(c.isalnum() or c in "_- " for c in name):
            spelled = f"{STAND_IN}{len(self.names)}"
            self.names[spelled] = name
            return f"`{spelled}`"
        return f"`{name}`"

    # symbols

    def _symbol(self, lexeme: Lexeme, before: Lexeme) -> str:
        value, levels = lexeme.value, self._levels
        if value in "([":
            self._open(lexeme, before)
        elif value in ")]":
            levels.close(lexeme)
        elif value == ",":
            self._comma(lexeme, before)
        elif value in ("<", ">", ">>") and self._angles(value, before):
            return "> >" if value == ">>" else value
        else:
            levels.chain(lexeme)
        return value

    def _open(self, lexeme: Lexeme, before: Lexeme) -> None:
        opener = before.value if before.kind == "word" and self._after(-2).value != "." else ""
        doubling = lexeme.value == "[" or opener in words.DOUBLING or self._typed == self._index - 1
        doubling |= self._after(-2).value == "." and self._after(-3).value in ("SAFE", "NET")
        clause = "FROM" if lexeme.value == "(" and self._names_tables(before) else ""
        self._levels.open(lexeme, opener, clause, doubling)

    def _comma(self, lexeme: Lexeme, before: Lexeme) -> None:
        level = self._levels.now
        self._levels.separate()
        if level.clause in ("ON", "USING"):
            level.clause = "FROM"
        self.joins += level.clause == "FROM"
        if level.clause == "LIMIT":
            raise self.refuse("parse_error", "LIMIT takes one number.", "Write LIMIT 10 OFFSET 5.", lexeme)

    def _angles(self, value: str, before: Lexeme) -> bool:
        """Whether `<` or `>` encloses a type."""
        level = self._levels.now
        if value == "<":
            opens = before.value in ("ARRAY", "STRUCT") and before.kind == "word"
            level.angle += opens
            if level.angle > MAX_DOUBLING_DEPTH:
                raise self._levels.too_complex("The type nests too deep.", self.lexemes[self._index])
            return opens
        if level.angle < len(value):
            return False
        level.angle -= len(value)
        self._typed = self._index
        return True

    # words

    def _word(self, lexeme: Lexeme, before: Lexeme) -> str:
        word, follower = lexeme.value, self._after(1)
        if before.value == "." and before.kind == "symbol":
            if follower.value == "(" and follower.kind == "symbol":
                raise self._unlisted(self._path_before(), lexeme, before)
            return f"`{self.source[lexeme.start : lexeme.end]}`"
        level = self._levels.now
        if level.angle or (level.casting and before.value == "AS"):
            return self._type(lexeme, follower)
        if follower.kind == "symbol" and follower.value == "(" and word not in words.BEFORE_BRACKET:
            return self._call(lexeme, before)
        if word in words.SYNTAX:
            return self._syntax(lexeme, before)
        if self._in_context(word, before, follower):
            return self.source[lexeme.start : lexeme.end]
        if word in words.REFUSED:
            raise self._refused(lexeme)
        return self._name_or_value(lexeme, before, follower)

    def _name_or_value(self, lexeme: Lexeme, before: Lexeme, follower: Lexeme) -> str:
        word = lexeme.value
        if follower.kind == "string" and word in words.LITERAL_TYPES:
            return word
        if word == "UNKNOWN" and "IS" in (before.value, before.value == "NOT" and self._after(-2).value):
            return "NULL"
        if word in words.BARE_CALLS and before.value != "AS" and follower.value != ".":
            return f"{word}()"
        if before.value == "(" and self._levels.now.opener == "EXTRACT":
            return word
        if follower.value == "." and (word in NAMESPACES or word == "SAFE") and self._after(3).value == "(":
            return self._namespace(lexeme, before)
        if word in words.STATEMENTS and before.value in ("(", ")") and follower.kind == "word":
            hint = "Write one SELECT; this server reads."
            raise self.refuse("ddl_or_dml", f"{word} begins a statement.", hint, lexeme)
        if word == "FORMAT" and self._levels.now.casting:
            hint = "Use FORMAT_DATE('%Y-%m', x), FORMAT_TIMESTAMP, PARSE_DATE or PARSE_TIMESTAMP."
            raise self.refuse("disallowed_node", "CAST … FORMAT is not available here.", hint, lexeme)
        return f"`{self.source[lexeme.start : lexeme.end]}`"

    def _in_context(self, word: str, before: Lexeme, follower: Lexeme) -> bool:
        """Whether a word that is a name elsewhere has a meaning in the grammar here."""
        if (wanted := words.AFTER.get(word)) is not None and before.value in wanted and before.kind != "name":
            return word != "VALUE" or self._after(-2).value == "SELECT"
        if word == "OFFSET":
            return before.kind == "number" and self._after(-2).value == "LIMIT"
        if word in ("PIVOT", "UNPIVOT"):
            return self._levels.now.clause == "FROM" and follower.value in ("INCLUDE", "EXCLUDE")
        if word == "PERCENT":
            return before.kind == "number" and follower.value == ")"
        return word in words.PARTS and word not in words.TYPES and before.value not in ("AS", ",", "(", "SELECT", "BY")

    def _syntax(self, lexeme: Lexeme, before: Lexeme) -> str:
        word, levels = lexeme.value, self._levels
        if before.value == "AS" and before.kind == "word":
            self._check_alias(lexeme)
        if word in words.CASES:
            levels.case(lexeme, words.CASES[word])
        if word in words.SEPARATORS:
            levels.separate()
            levels.now.casting |= word == "AS" and levels.now.opener in ("CAST", "SAFE_CAST")
        elif word in words.CLAUSES and not self._is_no_clause(word, before):
            self._clause(lexeme)
        if word == "EXCEPT" and self._after(1).value == "DISTINCT":
            levels.set_operation(lexeme)
        left_out = (word, before.value) == ("ALL", "SELECT") or (word, self._after(1).value) == ("ARRAY", "[")
        return "" if left_out else word  # ARRAY[1, 2] is [1, 2]

    def _is_no_clause(self, word: str, before: Lexeme) -> bool:
        """FROM of EXTRACT and of IS DISTINCT FROM; HAVING of an aggregate."""
        if word == "FROM":
            return before.value == "DISTINCT" or self._levels.now.opener == "EXTRACT"
        return word == "HAVING" and self._after(1).value in ("MAX", "MIN") and self._after(2).value != "("

    def _clause(self, lexeme: Lexeme) -> None:
        word = lexeme.value
        self._levels.clause(lexeme)
        self.selects += word == "SELECT"
        if word == "JOIN":
            self.joins += 1
            self._levels.now.clause = "FROM"
        if word in ("UNION", "INTERSECT"):
            self._levels.set_operation(lexeme)

    def _check_alias(self, lexeme: Lexeme) -> None:
        """What follows AS is a name, unless the AS is that of SELECT AS STRUCT or FOR SYSTEM_TIME AS OF."""
        two_before = self._after(-2).value
        if (lexeme.value, two_before) in (("STRUCT", "SELECT"), ("OF", "SYSTEM_TIME")):
            return
        hint = f"Write `{self.source[lexeme.start : lexeme.end]}` in backticks, or choose another name."
        raise self.refuse("parse_error", f"{lexeme.value} is a word of SQL and no name.", hint, lexeme)

    def _type(self, lexeme: Lexeme, follower: Lexeme) -> str:
        word = lexeme.value
        if self._levels.now.angle and follower.kind in ("word", "name"):
            return f"`{self.source[lexeme.start : lexeme.end]}`"
        if word not in words.TYPES:
            other = words.OTHER_TYPES.get(word)
            hint = f"Use {other}." if other else "Use INT64, FLOAT64, NUMERIC, STRING, BOOL, DATE, TIMESTAMP or JSON."
            raise self.refuse("parse_error", f"{word[:40]} is not a type here.", hint, lexeme)
        return word

    # calls

    def _call(self, lexeme: Lexeme, before: Lexeme) -> str:
        word = lexeme.value
        if word in words.AFTER and self._in_context(word, before, self._after(1)):
            return word
        if word in ("PIVOT", "UNPIVOT") and self._levels.now.clause == "FROM":
            return word
        if word == "REPLACE" and before.value in ("*", ")") and self._levels.now.clause == "SELECT":
            return word
        if word == "WEEK" and self._after(2).value in words.WEEKDAYS:
            return word
        if word in GRAMMAR_CALLS and (word == "UNNEST" or not self._names_tables(before)):
            return word
        if word in words.REFUSED:
            raise self._refused(lexeme)
        if self._names_tables(before) or signature_of((word,)) is None:
            raise self._unlisted((word,), lexeme, before)
        return word

    def _refused(self, lexeme: Lexeme) -> AgnesError:
        kind, hint = words.REFUSED[lexeme.value]
        return self.refuse(kind, f"{lexeme.value} is not available here.", hint, lexeme)

    def _namespace(self, lexeme: Lexeme, before: Lexeme) -> str:
        """The first of two words of a function's name; the second is passed over here."""
        path = (lexeme.value, self._after(2).value)
        if self._names_tables(before) or signature_of(path) is None:
            raise self._unlisted(path, lexeme, before)
        self._starts.extend((self._starts[-1] if self._starts else 0,) * 2)
        self._index += 2
        return ".".join(path)

    def _names_tables(self, before: Lexeme) -> bool:
        level = self._levels.now
        if before.value == ",":
            return level.clause == "FROM"
        return level.clause == "FROM" and before.value in ("FROM", "JOIN", "(")

    def _path_before(self) -> tuple[str, ...]:
        """The dotted name that ends at the present lexeme."""
        path, step = [self._after(0).value], -1
        while self._after(step).value == "." and self._after(step - 1).kind in ("word", "name"):
            path.insert(0, self._after(step - 1).value)
            step -= 2
        return tuple(path)

    def _unlisted(self, path: tuple[str, ...], lexeme: Lexeme, before: Lexeme) -> AgnesError:
        shown = ".".join(path)[:80]
        if self._names_tables(self._after(-2 * (len(path) - 1) - 1)):
            hint = "Name tables of the catalog in FROM, or UNNEST(array)."
            return self.refuse("table_function", f"{shown} would be a table function.", hint, lexeme, function=shown)
        inside = self._levels.now.clause == "FROM" and len(path) == 1
        kind, message, hint, details = unlisted(path, before, inside)
        return self.refuse(kind, message, hint, lexeme, **details)
