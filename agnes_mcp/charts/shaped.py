"""What a picture is made of, once its rows have been shaped for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agnes_mcp.charts import moments
from agnes_mcp.charts.encodings import Channel, Mark

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Shaped:
    """What is drawn.

    `drawn` has a column per channel; `measure` names the channel that is measured ("" on scatter plots and maps);
    `units` are the stretches of time, `widths` the bins, `orders` the categories of channels; `rows` came in.
    """

    mark: Mark
    channels: dict[str, Channel]
    drawn: pa.Table
    rows: int
    measure: str = ""
    units: dict[str, str] = field(default_factory=dict)
    widths: dict[str, float] = field(default_factory=dict)
    orders: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def values(self) -> list[dict[str, Any]]:
        """The rows as JSON: moments as milliseconds since 1970 in UTC."""
        import pyarrow as pa

        names = [*self.drawn.column_names, *self.ends()]
        columns = [*self.drawn.columns, *self.ends().values()]
        plain = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in columns]
        rows = pa.table(plain, names).to_pylist()
        return [{name: value for name, value in row.items() if value is not None} for row in rows]

    def ends(self) -> dict[str, Any]:
        """Where the bins and stretches of channels end: `x_end`, `y_end`."""
        import pyarrow.compute as pc

        if self.mark not in ("bar", "histogram", "heatmap"):
            return {}
        ends = {f"{name}_end": moments.ends(self.drawn.column(name), unit) for name, unit in self.units.items()}
        return ends | {f"{name}_end": pc.add(self.drawn.column(name), width) for name, width in self.widths.items()}

    def dimensions(self) -> list[str]:
        return [name for name, channel in self.channels.items() if channel.aggregate is None and name != self.measure]

    def note(self, *notes: str) -> None:
        self.notes += [note for note in notes if note]
