"""The rooms of the code by floor, each in the words of its own docstring."""

from __future__ import annotations

import ast
from pathlib import Path

from .markdown import code, table

ROOT = Path(__file__).parents[2]
#: What has no docstring of its own, or none that tells.
_WITHOUT = ("__version__", "__main__")


def rooms() -> str:
    """The floors as the architecture test has them, top first."""
    floors = reversed(_floors())
    return table(
        ("room", "what it is"), [(code(name), _sentence(name)) for floor in floors for name in floor if _path(name)]
    )


def _floors() -> list[list[str]]:
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    named = (node for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name))
    value = next(node.value for node in named if getattr(node.target, "id", "") == "FLOORS")
    if value is None:
        raise ValueError("tests/test_architecture.py has no FLOORS")
    return [[name for name in floor if name not in _WITHOUT] for floor in ast.literal_eval(value)]


def _path(room: str) -> Path | None:
    places = (ROOT / "agnes_mcp" / f"{room}.py", ROOT / "agnes_mcp" / room / "__init__.py", ROOT / room / "__init__.py")
    return next((place for place in places if place.exists()), None)


def _sentence(room: str) -> str:
    path = _path(room)
    docstring = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path else None) or ""
    return docstring.split("\n\n", 1)[0].replace("\n", " ")
