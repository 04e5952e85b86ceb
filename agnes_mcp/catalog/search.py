"""Searching, ordering and paging the catalog, and what it says of one table."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import unicodedata
from bisect import bisect_right
from collections import OrderedDict
from itertools import zip_longest
from operator import is_
from typing import NamedTuple

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
_BLOCK_TABLES = 64
_GRAM_BYTES = 4
_MARKS = 16_381  # a prime, so that all bytes of a gram tell


class _Block(NamedTuple):
    """A few tables, what is known of each, and what is searched of them. `marks`: which texts of `_GRAM_BYTES` bytes
    there may be in it, so that most blocks need not be looked at."""

    known: list[Known | None]
    texts: list[str]
    marks: bytearray


class Finder:
    """Searches lists of tables by what is known of them. For worker threads, by several at once.

    What is searched of a list is kept until the list is another; once something has become known, of that alone is it
    made anew.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        # `_KEPT_LISTS`, oldest out; true of the very same list at the same count of changes alone.
        self._kept: OrderedDict[int, tuple[list[Table], int, list[_Block]]] = OrderedDict()

    def find(self, tables: list[Table], wanted: str) -> list[tuple[Rank, Table]]:
        """The tables in which every word of `wanted`, which is folded, is found; best first, each with its place.

        There is a word at least.
        """
        words = sorted(set(wanted.split()), key=len, reverse=True)
        marks = {gram % _MARKS for word in words for gram in _grams(word)}
        ranked: list[tuple[Rank, Table]] = []
        for number, block in enumerate(self._blocks(tables)):
            if not all(map(block.marks.__getitem__, marks)):
                continue
            for at, text in enumerate(block.texts, start=number * _BLOCK_TABLES):
                if all(word in text for word in words):
                    ranked.append(((_score(tables[at], text, wanted, words), tables[at].id), tables[at]))
        return sorted(ranked, key=lambda pair: pair[0])

    def _blocks(self, tables: list[Table]) -> list[_Block]:
        changes = self._index.changes
        kept = self._kept.get(id(tables))
        before = kept[2] if kept is not None and kept[0] is tables else []
        if before and kept is not None and kept[1] == changes:
            return before
        starts = range(0, len(tables), _BLOCK_TABLES)
        blocks = [self._block(tables[start : start + _BLOCK_TABLES], old) for start, old in zip_longest(starts, before)]
        self._kept[id(tables)] = (tables, changes, blocks)
        while len(self._kept) > _KEPT_LISTS:
            self._kept.popitem(last=False)
        return blocks

    def _block(self, tables: list[Table], old: _Block | None) -> _Block:
        known = [self._index.get(table) for table in tables]
        if old is not None and all(map(is_, known, old.known)):
            return old
        texts = [_text_of(*each) for each in zip(tables, known, strict=True)]
        marks = bytearray(_MARKS)
        for gram in _grams("\n".join(texts)):
            marks[gram % _MARKS] = 1
        return _Block(known, texts, marks)


def folded(text: str) -> str:
    """Text as it is compared: without regard to case, or to how a character is composed."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def _grams(text: str) -> set[int]:
    """Every run of `_GRAM_BYTES` bytes in it, as a number; none of a shorter text."""
    given = text.encode("utf-8", "surrogatepass")
    found: set[int] = set()
    for offset in range(min(_GRAM_BYTES, max(0, len(given) - _GRAM_BYTES + 1))):
        whole = (len(given) - offset) // _GRAM_BYTES * _GRAM_BYTES
        found.update(memoryview(given)[offset : offset + whole].cast("I"))
    return found


def _text_of(table: Table, known: Known | None) -> str:
    """Four folded lines: id and name, descriptions, columns, the columns' descriptions."""
    lines = [f"{table.id} {table.name}", table.description, "", ""]
    if known is not None:
        lines[1:] = [f"{table.description} {known.description}", known.columns, known.column_descriptions]
    return "\n".join(folded(line.replace("\n", " ")) for line in lines)


def _score(table: Table, text: str, wanted: str, words: list[str]) -> int:
    """0 is the best match; every word is found somewhere in it."""
    if wanted in (table.id, folded(table.name)):
        return 0
    places = text.split("\n", 3)
    for rank, place in enumerate(places, start=1):
        if all(word in place for word in words):
            return rank
    return 5


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
