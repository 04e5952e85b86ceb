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
    a condition with constants narrows, `filters` those conditions as they stand over the table alone; `as_of` is the
    moment of the past that it is read as of, "" the present."""

    place: Place
    alias: str
    columns: set[str] = field(default_factory=set)
    conditions: set[str] = field(default_factory=set)
    filters: list[str] = field(default_factory=list)
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

    def columns_of(self, table_id: str) -> tuple[str, ...]:
        """The columns of a table that the answer depends on, by name."""
        return tuple(sorted({name for use in self.uses if use.place.table_id == table_id for name in use.columns}))

    def alone(self, place: Place) -> str:
        """A statement of what this one reads of one table: its columns, narrowed by what narrows every use of it."""
        uses = [use for use in self.uses if use.place.path == place.path]
        names = [f"`{name}`" for name in self.columns_of(place.table_id)]
        filters = [" AND ".join(f"({text})" for text in use.filters) for use in uses]
        narrowed = [" OR ".join(f"({text})" for text in filters)] if all(filters) else []
        narrowed += [place.schema.always] if place.schema and place.schema.always else []
        where = f" WHERE {' AND '.join(f'({text})' for text in narrowed)}" if narrowed else ""
        return f"SELECT {', '.join(names) or 'COUNT(*)'} FROM `{place.path}`{where}"  # noqa: S608 - names of the schema
