"""What a 404 of BigQuery does not find, and who can do what about it."""

from __future__ import annotations

import re

_KIND = re.compile(r"(?i)not found: (another )?(dataset|project|job|routine|function|model|connection|table|view)\b")
_TABLE = (
    "The table is registered here, but BigQuery does not have it where it was sought. If it was just made again, call "
    "again; else whoever keeps this instance "
    "checks project, dataset and table name, and `location` where it is set: under the table, or at "
    "`data_source.bigquery.location`."
)
_VIEW = "What the table is made of is gone. Whoever keeps the view in BigQuery puts it right; others are not affected."
_OTHERS = {
    "dataset": (
        "BigQuery has no dataset of that name there. If it was just made again elsewhere, call again: its place is "
        "asked anew. Else whoever keeps this instance checks its spelling and its project, in "
        "`data_source.bigquery.datasets` or under the table, and where it is: `location` under the table, or "
        "`data_source.bigquery.location`. Other datasets are served."
    ),
    "project": (
        "BigQuery knows no project of that name. Whoever keeps this instance checks `data_source.bigquery.project`, "
        "`billing_project`, and `project` under the table."
    ),
    "job": "BigQuery does not know the job any more, or not there. Call again; what it billed is charged.",
}


def hint(message: str) -> str:
    """The next step, by BigQuery's own words for what is missing; without them, a table is."""
    found = _KIND.search(message)
    if found is None:
        return _TABLE
    what = found[2].casefold()
    if found[1] or what in ("routine", "function", "model", "connection"):
        return _VIEW
    return _OTHERS.get(what, _TABLE)
