"""`chart`: rows as a picture in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agnes_mcp.cli.completion import complete_snapshot, complete_table
from agnes_mcp.cli.files import file_at, write_content
from agnes_mcp.cli.looking import Yes
from agnes_mcp.cli.options import Config, Json, wrong
from agnes_mcp.cli.output import print_json, say, size_in_words
from agnes_mcp.cli.running import agree, run, shown_progress, text_of

if TYPE_CHECKING:
    from agnes_mcp.charts.palette import Theme
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal
    from agnes_mcp.operations.chart import Exported

#: By the file's ending.
_FORMS = {".png": "png", ".svg": "svg", ".html": "html", ".htm": "html"}
_MARKS = "bar, line, area, point, histogram, heatmap, box or map"

Mark = Annotated[str, typer.Argument(help=f"{_MARKS.capitalize()}.")]
Out = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to: .png, .svg or .html.")]
Sql = Annotated[str, typer.Option("--sql", help="Draw the rows of this SELECT, as in query; -, @file as well.")]
Snapshot = Annotated[
    str, typer.Option("--snapshot", help="Draw the rows of this snapshot.", autocompletion=complete_snapshot)
]
Table = Annotated[str, typer.Option("--table", help="Draw an aggregate of this table.", autocompletion=complete_table)]
Where = Annotated[str, typer.Option("--where", help="A predicate that narrows --table; -, @file as well.")]
X = Annotated[str, typer.Option("--x", help="A column, or as in month(day); longitude on a map.")]
Y = Annotated[str, typer.Option("--y", help="A column, or as in sum(amount), count(); latitude on a map.")]
Color = Annotated[str, typer.Option("--color", help="What colours tell apart, written as --x and --y.")]
Size = Annotated[str, typer.Option("--size", help="What sizes say, written as --x and --y.")]
Title = Annotated[str, typer.Option("--title", help="Not given: made of what is drawn.")]
Dark = Annotated[bool, typer.Option("--dark", help="On a dark background.")]


def register(app: typer.Typer) -> None:
    app.command()(chart)


def chart(
    mark: Mark,
    output: Out,
    x: X = "",
    y: Y = "",
    color: Color = "",
    size: Size = "",
    sql: Sql = "",
    snapshot: Snapshot = "",
    table: Table = "",
    where: Where = "",
    title: Title = "",
    dark: Dark = False,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Draw the rows of a SELECT, of a snapshot, or an aggregate of a table, which may cost and then asks first."""
    form, path = _FORMS.get(output.suffix.lower()), file_at(output)
    if form is None:
        raise wrong(f"{output.name} says no format that is drawn.", "End it with .png, .svg or .html.")
    channels = [x, y, color, size, title]
    read = [text_of(sql).strip(), snapshot, table, text_of(where).strip()]

    async def work(gateway: Gateway, me: Principal) -> Exported:
        from agnes_mcp.charts.encodings import ChartRequest
        from agnes_mcp.operations.chart import ChartSource

        source, request = ChartSource(*read), ChartRequest(_mark(mark), *channels)
        theme: Theme = "dark" if dark else "light"
        consent = await agree(await gateway.charts.price_chart(me, source, request), yes)
        with shown_progress("chart") as report:
            return await gateway.charts.export(me, source, request, form, theme, report, consent)

    drawn = run(config, work)
    write_content(path, drawn.content)
    if as_json:
        print_json(drawn.answer)
        return
    for line in drawn.answer.words:
        say(line)
    billed = f", billed {size_in_words(drawn.answer.bytes_billed)}" if drawn.answer.bytes_billed else ""
    say(f"{drawn.answer.title}: {path}, {size_in_words(len(drawn.content))}{billed}")


def _mark(text: str) -> Any:
    from agnes_mcp.charts.encodings import MARKS

    if text not in MARKS:
        raise wrong(f"{text!r} is no kind of picture.", f"There are {_MARKS}.")
    return text
