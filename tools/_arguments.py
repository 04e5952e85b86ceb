"""The arguments that several tools share, with what an agent is told of them.

Free text is plain `str`: the SDK parses every other string parameter as JSON first. null counts as not given.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from agnes_mcp.models import Aggregate

from ._answers import MOST_LISTED, empty_for_null, listed

EMPTY_FOR_NULL = BeforeValidator(empty_for_null)
LISTED = BeforeValidator(listed)

MAX_TEXT_CHARS = 16_384
Text = Annotated[str, EMPTY_FOR_NULL, Field(max_length=MAX_TEXT_CHARS)]
OptionalTableId = Annotated[
    str,
    EMPTY_FOR_NULL,
    Field(description="Table id from catalog; left out with sql", max_length=256, examples=["orders"]),
]
Sql = Annotated[
    str,
    EMPTY_FOR_NULL,
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
    LISTED,
    Field(description="Columns; name only those you need. Dotted paths reach STRUCT fields", max_length=MOST_LISTED),
]
Where = Annotated[
    str,
    EMPTY_FOR_NULL,
    Field(
        description="One condition in the table's sql_flavor, without the word WHERE; no aggregates, no subqueries",
        max_length=MAX_TEXT_CHARS,
        examples=["event_date >= DATE '2026-01-01' AND country = 'CZ'"],
    ),
]
GroupBy = Annotated[
    list[ColumnName] | None,
    LISTED,
    Field(description="Columns to group by; without aggregates: DISTINCT", max_length=100),
]
Aggregates = Annotated[
    list[Aggregate] | None,
    LISTED,
    Field(
        description='As [{"function":"count"},{"function":"sum","column":"amount"}]; count_if counts a true BOOL',
        max_length=100,
    ),
]
OrderBy = Annotated[
    list[Annotated[str, Field(max_length=300 + len(" DESC NULLS FIRST"))]] | None,
    LISTED,
    Field(description="'column [DESC] [NULLS FIRST|LAST]', of the answer's columns", max_length=100),
]
SampleRows = Annotated[int, Field(ge=1, le=100, description="Rows")]
Limit = Annotated[int | None, Field(ge=1, description="Most rows; does not lower the price")]
AnswerLimit = Annotated[int | None, Field(ge=1, description="Most rows; 1000 unless given; does not lower the price")]
Keep = Annotated[
    str,
    EMPTY_FOR_NULL,
    Field(description="Keep the rows, all unless limit is given, as a snapshot of this name", max_length=256),
]
SnapshotName = Annotated[
    str,
    EMPTY_FOR_NULL,
    Field(description="Name of the snapshot, [a-z_][a-z0-9_]*; say what it holds", max_length=256),
]
RequiredSnapshotName = Annotated[str, Field(description="Name of a snapshot from snapshot_list", max_length=256)]
