"""A chart as a page of its own: the picture, its data as a table, no script, nothing loaded."""

from __future__ import annotations

from html import escape
from typing import Any

from agnes_mcp.charts.labels import shown

MAX_TABLE_ROWS = 500
#: The page may draw and style itself, and nothing else.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
figure { margin: 0; overflow-x: auto; } svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .8rem; text-align: left; border-bottom: 1px solid #8884; }
"""


def html_page(svg: str, title: str, words: list[str], columns: dict[str, str], values: list[dict[str, Any]]) -> str:
    """`svg` is the renderer's, in which every text is escaped; `columns` are fields of `values` and their titles."""
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in columns.values())
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row.get(field, '')))}</td>" for field in columns) + "</tr>"
        for row in values[:MAX_TABLE_ROWS]
    )
    rest = len(values) - MAX_TABLE_ROWS
    more = f"<p>and {rest:,} more</p>" if rest > 0 else ""
    said = "".join(f"<li>{escape(shown(word, 400))}</li>" for word in words)
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        f"<title>{escape(shown(title, 200))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<figure>{svg}</figure>\n<ul>{said}</ul>\n"
        f"<details><summary>Data</summary><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"
        "</details>\n</body>\n</html>\n"
    )
