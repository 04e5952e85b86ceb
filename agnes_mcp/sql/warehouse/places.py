"""What a statement is read against, and what is known of it once it is admitted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from agnes_mcp.models import TableSchema


@dataclass(frozen=True)
class Place:
    """Where a table of the catalog is. `remote` False: not in BigQuery, and of its columns nothing is known here.

    `table` may end in `*` where the catalog registers a family of shards; their pseudo-columns stand in `schema`.
    """

    table_id: str
    project: str = ""
    dataset: str = ""
    table: str = ""
    schema: TableSchema | None = None
    remote: bool = True

    @property
    def path(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"


class Names(Protocol):
    """The tables that one principal may read now."""

    def find(self, path: tuple[str, ...]) -> Place | None:
        """The place that `id`, `dataset.table` or `project.dataset.table` stands for. None where there is no such
        table and where this principal may not read it, alike. Case counts in datasets and tables."""

    def nearest(self, name: str) -> list[str]:
        """Up to three ids that `name` may be a misspelling of, of tables that this principal may read."""


@dataclass
class Use:
    """One table in one FROM. `columns` are the top-level columns that the answer depends on, `conditions` those that
    a condition with constants narrows, `as_of` whether it is read as it was in the past."""

    place: Place
    alias: str
    columns: set[str] = field(default_factory=set)
    conditions: set[str] = field(default_factory=set)
    whole: bool = False  # every column, because a `*` or the row itself reaches the answer
    as_of: str = ""


@dataclass(frozen=True)
class Admitted:
    """A statement that passed every gate.

    `sql` is what runs: every table one backquoted place with an alias of its own, one spelling for one question.
    `limit` is its outermost LIMIT, None where it bounds nothing; `columns` are the names of the answer's columns, None
    where they depend on a table whose columns are not known here. `crosses` names pairs of relations that are joined
    without a condition. `changing`: the same text may answer differently over the same data (CURRENT_DATE, a sample, a
    moment relative to now).
    """

    sql: str
    uses: tuple[Use, ...]
    limit: int | None
    columns: tuple[str, ...] | None
    crosses: tuple[tuple[str, str], ...]
    changing: bool
    digest: str

    @property
    def tables(self) -> tuple[Place, ...]:
        """Each table once, by id."""
        unique = {use.place.path: use.place for use in self.uses}
        return tuple(sorted(unique.values(), key=lambda place: place.table_id))

    def columns_of(self, table_id: str) -> tuple[str, ...] | None:
        """The columns of a table that the answer depends on; None: all of them."""
        uses = [use for use in self.uses if use.place.table_id == table_id]
        if any(use.whole for use in uses):
            return None
        return tuple(sorted(set().union(*(use.columns for use in uses))))
