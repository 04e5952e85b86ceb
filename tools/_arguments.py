"""The arguments that several tools share, with what an agent is told of them.

Free text is plain `str`: the SDK parses every other string parameter as JSON first. null counts as not given.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from agnes_mcp.models import Aggregate


def empty_for_null(value: Any) -> Any:
    return "" if value is None else value


MAX_TEXT_CHARS = 16_384
Text = Annotated[str, BeforeValidator(empty_for_null), Field(max_length=MAX_TEXT_CHARS)]
OptionalTableId = Annotated[
    str,
    BeforeValidator(empty_for_null),
    Field(description="Table id from catalog; left out with sql", max_length=256, examples=["orders"]),
]
Sql = Annotated[
    str,
    BeforeValidator(empty_for_null),
    Field(
        description="One SELECT in GoogleSQL over remote tables by id, instead of table_id and its arguments",
        max_length=MAX_TEXT_CHARS,
        examples=["SELECT u.country, COUNT(*) FROM orders o JOIN users u USING (user_id) GROUP BY 1"],
    ),
]
TableId = Annotated[str, Field(description="Table id from catalog", max_length=256, examples=["orders"])]
ColumnName = Annotated[str, Field(max_length=300)]
Select = Annotated[
    list[ColumnName] | None,
    Field(
        description="Columns to return; name only those you need. Dotted paths reach STRUCT fields", max_length=2_000
    ),
]
Where = Annotated[
    str,
    BeforeValidator(empty_for_null),
    Field(
        description="One Boolean condition in the table's sql_flavor, without the word WHERE. No subqueries",
        max_length=MAX_TEXT_CHARS,
        examples=["event_date >= DATE '2026-01-01' AND country = 'CZ'"],
    ),
]
GroupBy = Annotated[list[ColumnName] | None, Field(description="Columns to group by", max_length=100)]
Aggregates = Annotated[
    list[Aggregate] | None,
    Field(description='e.g. [{"function":"count"},{"function":"sum","column":"amount"}]', max_length=100),
]
OrderBy = Annotated[
    list[ColumnName] | None, Field(description="'column' or 'column DESC', of the answer's columns", max_length=100)
]
SampleRows = Annotated[int, Field(ge=1, le=100, description="Rows")]
Limit = Annotated[int | None, Field(ge=1, description="Most rows to return; does not lower the price")]
SnapshotName = Annotated[
    str,
    BeforeValidator(empty_for_null),
    Field(description="Name of the snapshot, [a-z_][a-z0-9_]*; say what it holds", max_length=256),
]
RequiredSnapshotName = Annotated[str, Field(description="Name of a snapshot from snapshot_list", max_length=256)]
