"""GoogleSQL as text to a tree: every call under the name that was written, operators by GoogleSQL's precedence."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.bigquery import BigQueryParser

from agnes_mcp.stand_in.sql.kinds import statement_type
from agnes_mcp.stand_in.sql.wording import place_of, syntax_error
from agnes_mcp.stand_in.wire.replies import ApiError, invalid_query

# sqlglot warns of statements that it keeps as text; what the stand-in makes of them is its own answer
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

_DIALECT = BigQuery()
_QUANTIFIERS = {TokenType.ANY: exp.Any, TokenType.SOME: exp.Any, TokenType.ALL: exp.All}
_CALLS = ("CAST", "SAFE_CAST", "EXTRACT")
#: Operators that sqlglot parses at one level, the tightest first.
_LEVELS: tuple[tuple[type[exp.Expr], ...], ...] = (
    (exp.BitwiseLeftShift, exp.BitwiseRightShift),
    (exp.BitwiseAnd,),
    (exp.BitwiseXor,),
    (exp.BitwiseOr,),
)
_LEVEL_OF = {kind: level for level, kinds in enumerate(_LEVELS) for kind in kinds}


class _Parser(BigQueryParser):
    """sqlglot's, without its ideas of what a function of another dialect might mean."""

    SUPPORTS_IMPLICIT_UNNEST: ClassVar[bool] = False  # whether a path is a table or an array is for scopes to say
    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    NO_PAREN_FUNCTIONS: ClassVar[dict[Any, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: parser for name, parser in BigQueryParser.FUNCTION_PARSERS.items() if name in _CALLS
    }
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
        name: parser for name, parser in BigQueryParser.NO_PAREN_FUNCTION_PARSERS.items() if name == "CASE"
    }

    def _parse_unary(self) -> exp.Expr | None:
        quantifier = _QUANTIFIERS.get(self._curr.token_type) if self._curr else None
        if quantifier is None or not self._next or self._next.token_type != TokenType.UNNEST:
            return super()._parse_unary()
        self._advance()
        return self.expression(quantifier(this=self._parse_unnest(with_alias=False)))


class NotASelectError(ApiError):
    """Statements of another `kind`, which the stand-in can describe but does not run."""

    def __init__(self, kind: str, statements: list[exp.Expr]) -> None:
        super().__init__(400, "invalidQuery", "Only a single SELECT statement is supported", "q")
        self.kind = kind
        self.statements = statements


def parse(sql: str) -> exp.Query:
    """The one SELECT that `sql` is. Raises `NotASelectError`, or `ApiError` with BigQuery's reason and position."""
    parsed = _parsed(sql)
    if not parsed:
        raise invalid_query("Syntax error: Unexpected end of statement", 1, 1)
    kind = statement_type(sql)
    if kind == "SELECT" and isinstance(parsed[0], exp.Query):
        return by_precedence(parsed[0])
    if not kind or kind == "SELECT":
        word = sql.split()[0]
        raise invalid_query(f'Syntax error: Unexpected identifier "{word}"', *place_of(word, sql))
    raise NotASelectError(kind, parsed)


def parse_expression(sql: str) -> exp.Expr:
    """An expression alone: a row access policy, a row restriction, a routine's body."""
    parsed = parse(f"SELECT ({sql}\n)")
    projections = parsed.expressions
    if not isinstance(parsed, exp.Select) or len(projections) != 1 or parsed.args.get("from_"):
        raise invalid_query("Syntax error: Expected an expression")
    found: exp.Expr = projections[0]
    return found


def _parsed(sql: str) -> list[exp.Expr]:
    try:
        tokens = _DIALECT.tokenize(sql)
        _refuse_foreign(tokens)
        return [statement for statement in _Parser(dialect=_DIALECT).parse(tokens, sql) if statement is not None]
    except ParseError as error:
        raise syntax_error(error) from None
    except TokenError:
        raise invalid_query("Syntax error: Unclosed string literal", 1, 1) from None
    except RecursionError:
        raise invalid_query("Query is too complex: too deeply nested") from None


def _refuse_foreign(tokens: list[Token]) -> None:
    """What sqlglot reads as something else although GoogleSQL has no such token."""
    for token in tokens:
        if token.token_type == TokenType.DCOLON:
            raise invalid_query('Syntax error: Unexpected ":"', token.line, token.col - 1)


def by_precedence(tree: exp.Query) -> exp.Query:
    """`1 | 2 ^ 3 & 4` bound as GoogleSQL binds it, where sqlglot takes the operators from left to right."""
    for node in list(tree.find_all(*_LEVEL_OF)):
        if node.parent is not None and type(node.parent) in _LEVEL_OF and node.parent.args.get("this") is node:
            continue
        operands, operators = _chain(node)
        if len({_LEVEL_OF[operator] for operator in operators}) > 1:
            node.replace(_bound(operands, operators))
    return tree


def _chain(node: exp.Expr) -> tuple[list[exp.Expr], list[type[exp.Expr]]]:
    if type(node) not in _LEVEL_OF:
        return [node], []
    operands, operators = _chain(node.this)
    return [*operands, node.expression], [*operators, type(node)]


def _bound(operands: list[exp.Expr], operators: list[type[exp.Expr]]) -> exp.Expr:
    for level in range(len(_LEVELS)):
        index = 0
        while index < len(operators):
            if _LEVEL_OF[operators[index]] != level:
                index += 1
                continue
            joined = operators.pop(index)(this=operands[index].copy(), expression=operands[index + 1].copy())
            operands[index : index + 2] = [joined]
    return operands[0]


def unread(node: exp.Expr, *known: str) -> list[str]:
    """The arguments of `node` that say something and are not among `known`: nothing may be dropped unseen."""
    return [name for name, given in node.args.items() if given and name not in known]
