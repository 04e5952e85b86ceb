"""Gate 2 for calls: functions on the list, by the name that is written, each called as it may be."""

from __future__ import annotations

from sqlglot import exp

from agnes_mcp.sql.predicate.signatures import Signature
from agnes_mcp.sql.warehouse import words
from agnes_mcp.sql.warehouse.binding import Binding
from agnes_mcp.sql.warehouse.constants import NotConstantError, steps_of
from agnes_mcp.sql.warehouse.functions import GENERATORS, MODES, signature_of
from agnes_mcp.sql.warehouse.limits import MAX_STEPS

_CHANGING = frozenset({"CURRENT_DATE", "CURRENT_TIMESTAMP", "CURRENT_DATETIME", "CURRENT_TIME"})
_MODIFIERS = frozenset({exp.Order, exp.Limit, exp.IgnoreNulls, exp.RespectNulls, exp.HavingMax})


class Calls:
    def __init__(self, binding: Binding) -> None:
        self._binding = binding

    def arguments(self, path: tuple[str, ...], node: exp.Expr) -> list[exp.Expr]:
        """What is still to be read of a call: its arguments but for words such as DAY, and an aggregate's modifiers.

        Raises `unknown_function` for one that is not listed, `parse_error` for one that is not called as it may be,
        `unsupported_literal` and `too_complex` where the length of the result would not be bounded by the text.
        """
        signature = signature_of(path)
        if signature is None:
            shown = ".".join(path)[:80]
            hint = "Use functions of GoogleSQL that read no more than their arguments."
            raise self._binding.refuse("unknown_function", f"{shown} is not available.", hint, node, function=shown)
        node.args["this"] = path[-1]
        self._binding.changing |= path[-1] in _CHANGING
        arguments = _arguments(node)
        if not (signature.accepts(len(arguments)) or (signature.repeats and not arguments)):
            message = f"{path[-1]} does not take {len(arguments)} arguments."
            hint = f"Call it as {signature}."
            raise self._binding.refuse("parse_error", message, hint, node, function=path[-1])
        if path[-1] in GENERATORS:
            self._check_steps(path[-1], arguments, node)
        return [a for i, a in enumerate(arguments) if not self._is_word(signature, i, a)] + _modifiers(node)

    def _is_word(self, signature: Signature, index: int, argument: exp.Expr) -> bool:
        """Whether the argument is a date part or the like, which is then written as one; checks counts."""
        wanted = signature.argument(index)
        if wanted == "count":
            self._check_count(signature, argument)
        if wanted == "part":
            self.part(argument, f"Call it as {signature}.")
        if wanted == "unit" and signature.name.startswith("NORMALIZE"):
            self._word(argument, MODES, f"Call it as {signature}, with NFC, NFKC, NFD or NFKD.")
            return True
        return wanted == "part"

    def part(self, node: exp.Expr, hint: str) -> None:
        if type(node) is exp.Anonymous and node.this == "WEEK" and len(node.expressions) == 1:
            self._word(node.expressions[0], words.WEEKDAYS, hint)
        else:
            self._word(node, words.PARTS, hint)

    def _word(self, node: exp.Expr, known: frozenset[str], hint: str) -> None:
        word = node.name.upper()
        single = type(node) is exp.Var or (type(node) is exp.Column and not node.args.get("table"))
        if not single or word not in known:
            message = f"{self._binding.lexeme_of(node).value[:40]!r} is not one of {', '.join(sorted(known))}."
            raise self._binding.refuse("parse_error", message, hint, node)
        node.replace(exp.Var(this=word))

    def _check_count(self, signature: Signature, argument: exp.Expr) -> None:
        literal = type(argument) is exp.Literal and not argument.args["is_string"] and str(argument.this).isdigit()
        if not literal:
            message = f"{signature.name} takes a whole number there, as a literal."
            raise self._binding.refuse("unsupported_literal", message, f"Call it as {signature}.", argument)
        if int(str(argument.this)) > MAX_STEPS:
            message = f"{signature.name} takes at most {MAX_STEPS:,} there."
            raise self._binding.refuse("too_complex", message, "Choose a smaller number.", argument)

    def _check_steps(self, name: str, arguments: list[exp.Expr], node: exp.Expr) -> None:
        try:
            steps = steps_of(name, arguments)
        except NotConstantError:
            message = f"{name} takes constant bounds and a constant step other than 0."
            hint = "Write literals, such as DATE '2026-01-01', or CURRENT_DATE() with DATE_SUB and INTERVAL 30 DAY."
            raise self._binding.refuse("unsupported_literal", message, hint, node, function=name) from None
        if steps > MAX_STEPS:
            message = f"{name} would make {steps:,.0f} elements; at most {MAX_STEPS:,} are made."
            raise self._binding.refuse("too_complex", message, "Take a longer step or a shorter range.", node)


def _arguments(node: exp.Expr) -> list[exp.Expr]:
    """The arguments of a call, without the modifiers of an aggregate around them."""
    found: list[exp.Expr] = []
    for argument in node.expressions:
        while type(argument) in _MODIFIERS and argument.this is not None:
            argument = argument.this
        found.extend(argument.expressions if type(argument) is exp.Distinct else [argument])
    return found


def _modifiers(node: exp.Expr) -> list[exp.Expr]:
    """What else is to be read of an aggregate: what it is ordered by, limited to, and where it is greatest."""
    found: list[exp.Expr] = []
    for argument in node.expressions:
        while type(argument) in _MODIFIERS:
            found.extend(argument.expressions if type(argument) is exp.Order else ())
            if type(argument) in (exp.Limit, exp.HavingMax):
                found.append(argument.args["expression"])
            argument = argument.this
    return found
