"""Searching, ordering and paging the catalog, and what it says of one table."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from bisect import bisect_right
from collections import OrderedDict

from agnes_mcp.answers.fitting import compact
from agnes_mcp.answers.models import CatalogEntry
from agnes_mcp.catalog.index import Index, Known
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Table
from agnes_mcp.untrusted import clean

MAX_DESCRIPTION_CHARS = 500
MAX_CURSOR_CHARS = 500

Rank = tuple[int, str]
#: Lists of tables whose texts are kept, one for each of the callers that searched last.
_KEPT_LISTS = 8
_BLOCK = 64
_NO_MATCH = 9


class Finder:
    """Searches lists of tables by what is known of them. For worker threads, by several at once.

    What is searched of a list is kept until the list is another, or something has become known.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._kept: OrderedDict[int, tuple[list[Table], int, tuple[list[str], list[str]]]] = OrderedDict()

    def find(self, tables: list[Table], wanted: str) -> list[tuple[Rank, Table]]:
        """The tables in which every word of `wanted`, in small letters, is found; best first, each with its place.

        There is a word at least.
        """
        words = sorted(set(wanted.split()), key=len, reverse=True)
        texts, blocks = self._texts(tables)
        near = (number * _BLOCK for number, block in enumerate(blocks) if words[0] in block)
        found = [(n, texts[n]) for start in near for n in range(start, min(start + _BLOCK, len(texts)))]
        found = [(number, text) for number, text in found if words[0] in text]
        for word in words[1:]:
            found = [(number, text) for number, text in found if word in text]
        ranked = [((_score(tables[number], text, wanted, words), tables[number].id), tables[number])
                  for number, text in found]  # fmt: skip
        return sorted((pair for pair in ranked if pair[0][0] < _NO_MATCH), key=lambda pair: pair[0])

    def _texts(self, tables: list[Table]) -> tuple[list[str], list[str]]:
        """What is searched of each table, and of so many together: most of these hold no word that is sought."""
        changes = self._index.changes
        kept = self._kept.get(id(tables))
        if kept is not None and kept[0] is tables and kept[1] == changes:
            return kept[2]
        each = [_text_of(table, self._index.get(table)) for table in tables]
        texts = (each, ["\n".join(each[start : start + _BLOCK]) for start in range(0, len(each), _BLOCK)])
        self._kept[id(tables)] = (tables, changes, texts)
        while len(self._kept) > _KEPT_LISTS:
            self._kept.popitem(last=False)
        return texts


def _text_of(table: Table, known: Known | None) -> str:
    """Three lines in small letters: id and name, descriptions, columns."""
    described = f"{table.description} {known.description if known else ''}"
    lines = (f"{table.id} {table.name}", described, known.columns if known else "")
    return "\n".join(line.replace("\n", " ").casefold() for line in lines)


def _score(table: Table, text: str, wanted: str, words: list[str]) -> int:
    """0 is the best match; every word is found somewhere."""
    if wanted in (table.id, table.name.casefold()):
        return 0
    places = text.split("\n", 2)
    for rank, place in enumerate(places, start=1):
        if all(word in place for word in words):
            return rank
    return 4


def behind(tables: list[Table], after: Rank | None) -> int:
    """Where in tables in the order of their ids the page behind that place begins."""
    return bisect_right(tables, after[1], key=lambda table: table.id) if after else 0


def write_cursor(key: Rank, search: str, source_type: str | None) -> str:
    """An opaque cursor: go on behind this place of this search."""
    place = compact([*key, _digest(search), source_type])
    return base64.urlsafe_b64encode(place.encode()).decode("ascii").rstrip("=")


def read_cursor(cursor: str, search: str, source_type: str | None) -> Rank | None:
    """The place that a cursor stands for; None for none. Raises `invalid_cursor` for one of another search."""
    if not cursor:
        return None
    try:
        if len(cursor) > MAX_CURSOR_CHARS:
            raise ValueError
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        rank, table_id, searched, filtered = parts
        if (
            [searched, filtered] != [_digest(search), source_type]
            or not isinstance(rank, int)
            or not isinstance(table_id, str)
        ):
            raise ValueError
    except (ValueError, TypeError, RecursionError, binascii.Error):
        raise AgnesError(
            "invalid_cursor",
            "That cursor is not one of this search.",
            "Call `catalog` without cursor, with the same search, and page from its next_cursor.",
        ) from None
    return rank, table_id


def _digest(search: str) -> str:
    """A search in a cursor: however long it was, short."""
    return hashlib.sha256(search.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def catalog_entry(table: Table, known: Known | None) -> CatalogEntry:
    """What the catalog says of a table; where nothing is known of it yet, less, and `metadata_as_of` says so."""
    entry = CatalogEntry(
        id=table.id,
        name=clean(table.name, 200) or table.id,
        description=clean(table.description or (known.description if known else ""), MAX_DESCRIPTION_CHARS),
        source_type=table.source_type,
        query_mode=table.query_mode,
        sql_flavor=table.dialect,
        primary_key=(known.primary_key if known else []) or table.primary_key,
        fetch_via=_fetch_via(table),
        metadata_as_of=known.as_of.replace(microsecond=0) if known else None,
    )
    if known is not None:
        entry.entity_type, entry.rows, entry.size_bytes = known.entity_type, known.rows, known.size_bytes
        entry.partition_by, entry.clustered_by = known.partition_by, known.clustered_by
        entry.where_examples = known.where_examples
    return entry


def _fetch_via(table: Table) -> str:
    if table.query_mode == "remote":
        return f"estimate, then scan or fetch with table_id='{table.id}', select=[…], where='…'"
    return f"free: query with SQL over {table.id}, or scan with table_id='{table.id}'"
