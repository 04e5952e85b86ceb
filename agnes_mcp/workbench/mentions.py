"""Which names a statement holds, so that of a table of thousands of columns only those need to be bound."""

from __future__ import annotations

from typing import Any

from agnes_mcp.workbench import grammar
from agnes_mcp.workbench.admission import Parser


class Mentions:
    """The names in one admitted statement, asked for where a table has many columns; `asked` says whether one had."""

    def __init__(self, sql: str, parser: Parser) -> None:
        self._sql, self._parser = sql, parser
        self.asked = False

    def __call__(self) -> frozenset[str] | None:
        self.asked = True
        return names_in(self._parser.tree(self._sql))


def names_in(tree: Any) -> frozenset[str] | None:
    """Every text in the statement's tree, case folded: no column is meant that is not among them.

    None where columns are meant that are not written: by a star, a join on what two tables share, PIVOT, names given
    by position, or a table's name in place of a value, which is its row.
    """
    texts, tables, columns = set[str](), set[str](), set[str]()
    parts = [tree]
    for part in parts:
        if isinstance(part, str):
            texts.add(part.casefold())
        elif isinstance(part, list):
            parts += part
        elif isinstance(part, dict):
            if _means_unwritten(part):
                return None
            if part.get("class") == "COLUMN_REF":
                columns.add(part["column_names"][-1].casefold())
            elif str(part.get("type")) in grammar.RELATIONS:  # that of a value is a tree
                tables |= {str(part[key]).casefold() for key in ("alias", "table_name") if part.get(key)}
            parts += part.values()
    return None if tables & columns else frozenset(texts)


def _means_unwritten(node: dict[str, Any]) -> bool:
    if node.get("class") == "STAR" or node.get("ref_type") == "NATURAL":
        return True
    kind = node.get("type")
    return kind == "PIVOT" or (kind == "BASE_TABLE" and bool(node.get("column_name_alias")))
