"""How a table's columns have changed since a snapshot was made."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column


@dataclass(frozen=True)
class TypeChange:
    column: str
    old: str
    new: str


@dataclass(frozen=True)
class Drift:
    """`dropped` and `changed` are of the columns that matter to the snapshot; `added` of all."""

    added: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    changed: list[TypeChange] = field(default_factory=list)

    def require_none_dropped(self, name: str) -> None:
        """`schema_drift`, naming the columns of snapshot `name` that are gone."""
        if self.dropped:
            gone = ", ".join(self.dropped[:10])
            raise AgnesError(
                "schema_drift",
                f"Snapshot {name!r} was not refreshed: its table no longer has {gone}.",
                "The snapshot is as it was. Look at the table's schema, then fetch what it has now under another name.",
                {"name": name, "dropped": self.dropped[:100]},
            )

    def warnings(self) -> list[str]:
        return [f"Column {c.column} was {c.old} and now is {c.new}." for c in self.changed]


def compare_columns(old: Sequence[Column], new: Sequence[Column], needed: Collection[str] | None = None) -> Drift:
    """What is different in `new`. With `needed` (names, in any case), other columns may go or change unnoticed."""
    before = {column.name.casefold(): column for column in old}
    after = {column.name.casefold(): column for column in new}
    matter = set(before) if needed is None else {name.casefold() for name in needed}
    changed = [
        TypeChange(column.name, _type_text(column), _type_text(after[key]))
        for key, column in before.items()
        if key in matter and key in after and _type_text(column) != _type_text(after[key])
    ]
    return Drift(
        added=[column.name for key, column in after.items() if key not in before],
        dropped=[column.name for key, column in before.items() if key in matter and key not in after],
        changed=changed,
    )


def _type_text(column: Column) -> str:
    """A type with all that is inside it: `REPEATED STRUCT<a INT64>`. NULLABLE and REQUIRED are the same here."""
    fields = ", ".join(f"{part.name} {_type_text(part)}" for part in column.fields)
    text = f"{column.type}<{fields}>" if fields else column.type
    return f"REPEATED {text}" if column.mode == "REPEATED" else text
