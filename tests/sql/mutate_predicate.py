"""Takes the refusals out of the validator one at a time and counts how many the corpora and the limits notice.

    python tests/sql/mutate_predicate.py

Each `raise` of the reading modules is replaced by `pass` in a process of its own. A mutant is killed when a rejected
text is accepted or refused for another reason, an accepted one refused, or a limit passed. What survives is printed: a
refusal behind which the next gate refuses for the same reason, and methods that a subclass defines.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

sys.path.insert(0, str(Path(__file__).parents[1]))

from sql.test_predicate_gates import AT_A_LIMIT
from support.predicates import SCHEMAS, accepted, rejected

import agnes_mcp.sql.predicate
from agnes_mcp.errors import PredicateError

_MODULES = ("characters", "lexemes", "columns", "leaves", "operands", "exists", "reader")
_LONGEST_S = 30  # of processor time: without some refusals reading never ends
_FOLDER = Path(agnes_mcp.sql.predicate.__file__).parent


class _Drop(ast.NodeTransformer):
    """Replaces the raise statement of that number."""

    def __init__(self, number: int) -> None:
        self._left, self.line = number, 0

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        self._left -= 1
        if self._left != -1:
            return node
        self.line = node.lineno
        return ast.copy_location(ast.Pass(), node)


class _Mutant(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, module: str, code: CodeType) -> None:
        self._name, self._code = f"agnes_mcp.sql.predicate.{module}", code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)  # noqa: S102 - our own source, with one statement less


def noticed(finder: _Mutant) -> bool:
    """Whether the corpora or the limits tell the mutant from the validator."""
    for name in [name for name in sys.modules if name.startswith("agnes_mcp.sql.predicate")]:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    validate = importlib.import_module("agnes_mcp.sql.predicate").validate_predicate

    def verdict(text: str, dialect: str) -> str:
        try:
            validate(text, SCHEMAS[dialect], dialect)  # type: ignore[index]
        except PredicateError as error:
            return error.kind
        return "accepted"

    same = all(verdict(text, d) == kind for d in SCHEMAS for kind, text in rejected(d))
    same = same and all(verdict(text, d) == "accepted" for d in SCHEMAS for text in accepted(d))
    return not (same and all(verdict(text(limit + 4), "bigquery") != "accepted" for _, text, limit in AT_A_LIMIT))


def killed(module: str, code: CodeType) -> bool:
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (_LONGEST_S, _LONGEST_S))
        try:
            os._exit(int(noticed(_Mutant(module, code))))
        finally:
            os._exit(1)  # it crashed: noticed
    return os.waitpid(child, 0)[1] != 0


def main() -> None:
    survivors: list[str] = []
    total = 0
    for module in _MODULES:
        source = (_FOLDER / f"{module}.py").read_text(encoding="utf-8")
        for number in range(sum(isinstance(node, ast.Raise) for node in ast.walk(ast.parse(source)))):
            drop = _Drop(number)
            tree = ast.fix_missing_locations(drop.visit(ast.parse(source)))
            total += 1
            if not killed(module, compile(tree, module, "exec")):
                survivors.append(f"{module}.py:{drop.line} {source.splitlines()[drop.line - 1].strip()[:90]}")
    lines = [*survivors, f"{total - len(survivors)} of {total} mutants killed"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
