"""Fills the generated blocks of the reference; `--check` only tells whether they are up to date.

A block stands between `<!-- generated: NAME -->` and `<!-- end -->`. Everything else in a page is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from blocks import audit, commands, performance, predicates, queries, rooms, server, settings, values

FOLDER = Path(__file__).parent
BLOCKS: dict[str, Callable[[], str]] = {
    "tools": server.tools,
    "shapes": server.shapes,
    "resources": server.resources,
    "prompts": server.prompts,
    "settings": settings.settings,
    "other variables": settings.other_variables,
    "commands": commands.commands,
    "exit codes": commands.exit_codes,
    "where: bigquery": partial(predicates.functions, "bigquery"),
    "where: duckdb": partial(predicates.functions, "duckdb"),
    "where: limits": predicates.sizes,
    "query: functions": queries.function_list,
    "query: instead": queries.instead,
    "query: limits": queries.sizes,
    "audit: fields": audit.fields,
    "audit: rotation": audit.rotation,
    "rooms": rooms.rooms,
    **{f"performance: {bench}": partial(performance.figures, bench) for bench in performance.EVERY},
    "values: duckdb": values.duckdb_values,
    "values: bigquery": values.bigquery_values,
}
_BLOCK = re.compile(r"(<!-- generated: (?P<name>.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(text: str) -> str:
    """The page with every block made anew. Raises KeyError for a block that nobody makes."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block['name']]()}\n\n{block[3]}", text)


def main() -> int:
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(FOLDER.rglob("*.md"))}
    used = {name for text in pages.values() for name in re.findall(r"<!-- generated: (.+?) -->", text)}
    if missing := set(BLOCKS) - used:
        sys.stderr.write(f"no page has {', '.join(sorted(missing))}\n")
        return 1
    outdated = {path: new for path, text in pages.items() if (new := fill(text)) != text}
    if "--check" not in sys.argv[1:]:
        for path, text in outdated.items():
            path.write_text(text, encoding="utf-8")
        return 0
    for path in outdated:
        sys.stderr.write(f"{path.relative_to(FOLDER.parent)} is not up to date: run python docs/generate.py\n")
    return int(bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
