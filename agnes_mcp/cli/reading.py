"""`estimate`, `scan`, `fetch`, `query`: prices and rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agnes_mcp.cli.completion import complete_snapshot, complete_table
from agnes_mcp.cli.files import Export, export_snapshot, write_answer
from agnes_mcp.cli.looking import Yes, print_answer_rows
from agnes_mcp.cli.options import Config, Json, wrong
from agnes_mcp.cli.output import cost_in_words, print_json, print_pairs, say, size_in_words
from agnes_mcp.cli.running import agree, names_of, run, shown_progress, text_of
from agnes_mcp.cli.words import counted, for_shell

if TYPE_CHECKING:
    from agnes_mcp.answers.models import EstimateAnswer, FetchAnswer, QueryAnswer, ScanAnswer
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal, ScanRequest

#: A person's terminal scrolls; an agent's context does not.
PERSONS_CHARS = 50_000_000

Table = Annotated[str, typer.Argument(help="The table's id; none with --sql.", autocompletion=complete_table)]
Sql = Annotated[
    str, typer.Option("--sql", help="In place of a table: one GoogleSQL SELECT over remote ones; -, @file as well.")
]
Select = Annotated[str, typer.Option("--select", help="Columns, with commas between.")]
Where = Annotated[
    str, typer.Option("--where", help="A predicate in the table's dialect; - is standard input, @file a file.")
]
GroupBy = Annotated[str, typer.Option("--group-by", help="Columns, with commas between.")]
Aggregates = Annotated[
    list[str] | None,
    typer.Option("--aggregate", help="As in count, sum:amount or avg:amount:mean; several times."),
]
OrderBy = Annotated[str, typer.Option("--order-by", help="Columns, each with ASC or DESC if need be.")]
Limit = Annotated[int | None, typer.Option("--limit", min=0, help="Most rows; of an answer 1000 unless given.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all rows to this CSV file.")]
Parquet = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write all rows to this Parquet file.")]
Force = Annotated[bool, typer.Option("--force", help="Pay again for rows that are here, or replace the snapshot.")]


def register(app: typer.Typer) -> None:
    for command in (estimate, scan, fetch, query):
        app.command()(command)


def estimate(
    table_id: Table = "",
    sql: Sql = "",
    select: Select = "",
    where: Where = "",
    group_by: GroupBy = "",
    aggregates: Aggregates = None,
    order_by: OrderBy = "",
    limit: Limit = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what a scan would cost, and whether it would run. Free."""
    request = _request(table_id, sql, select, where, group_by, aggregates, order_by, _answered(limit))

    async def work(gateway: Gateway, me: Principal) -> EstimateAnswer:
        return await gateway.scans.estimate(me, request)

    answer = run(config, work)
    if as_json:
        print_json(answer)
    else:
        _print_estimate(answer)


def scan(
    table_id: Table = "",
    sql: Sql = "",
    select: Select = "",
    where: Where = "",
    group_by: GroupBy = "",
    aggregates: Aggregates = None,
    order_by: OrderBy = "",
    limit: Limit = None,
    csv: Csv = None,
    parquet: Parquet = None,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read rows or aggregates of one table. A costly scan asks first."""
    request = _request(table_id, sql, select, where, group_by, aggregates, order_by, _answered(limit))
    export = Export.of(csv, parquet)
    if export is not None:
        _fetch_into(config, request, export, yes)
        return

    async def work(gateway: Gateway, me: Principal) -> ScanAnswer:
        consent = await agree(await gateway.scans.price_scan(me, request), yes)
        with shown_progress(table_id or "sql") as report:
            return await gateway.scans.scan(me, request, report, consent, own_limit=limit is not None)

    answer = run(config, work, None if as_json else PERSONS_CHARS)
    if as_json:
        print_json(answer)
    else:
        print_answer_rows(answer)


def fetch(
    table_id: Table = "",
    sql: Sql = "",
    select: Select = "",
    where: Where = "",
    group_by: GroupBy = "",
    aggregates: Aggregates = None,
    order_by: OrderBy = "",
    limit: Limit = None,
    name: Annotated[
        str, typer.Option("--as", help="What to call the snapshot.", autocompletion=complete_snapshot)
    ] = "",
    estimate: Annotated[bool, typer.Option("--estimate", help="Only show the price.")] = False,
    no_estimate: Annotated[bool, typer.Option("--no-estimate", help="Do not show the price first.")] = False,
    force: Force = False,
    csv: Csv = None,
    parquet: Parquet = None,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Read rows into a snapshot, to be queried free as often as needed. A costly fetch asks first."""
    request = _request(table_id, sql, select, where, group_by, aggregates, order_by, limit)
    export = Export.of(csv, parquet)

    async def work(gateway: Gateway, me: Principal) -> FetchAnswer:
        if estimate:
            return await gateway.fetches.fetch(me, request, name=name, estimate_only=True)
        if not (no_estimate or as_json):
            _print_estimate(await gateway.scans.estimate(me, request), stderr=True)
        consent = await agree(await gateway.fetches.price_fetch(me, request, name, force), yes)
        with shown_progress(table_id or "sql") as report:
            answer = await gateway.fetches.fetch(
                me, request, name=name, force=force, on_progress=report, consent=consent
            )
        if export is not None and answer.snapshot is not None:
            await export_snapshot(gateway, me, answer.snapshot.name, export)
        return answer

    answer = run(config, work)
    if as_json:
        print_json(answer)
    elif answer.estimate is not None:
        _print_estimate(answer.estimate)
    else:
        _print_fetched(answer)


def query(
    sql: Annotated[str, typer.Argument(help="One DuckDB SELECT; - is standard input, @file a file.")],
    limit: Limit = None,
    csv: Csv = None,
    parquet: Parquet = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask one read-only DuckDB SELECT over local tables and snapshots. Always free."""
    export = Export.of(csv, parquet)
    text = text_of(sql)

    async def work(gateway: Gateway, me: Principal) -> QueryAnswer:
        return await gateway.queries.query(me, text, limit)

    answer = run(config, work, None if as_json else PERSONS_CHARS)
    if export is not None:
        write_answer(answer, export)
        more = "; there are more, raise --limit" if answer.truncated or answer.more_rows else ""
        say(f"{counted(answer.row_count, 'row')} in {export.path}{more}")
    elif as_json:
        print_json(answer)
    else:
        print_answer_rows(answer)


def _fetch_into(config: str | None, request: ScanRequest, export: Export, yes: bool) -> None:
    """A scan whose rows go to a file: through a snapshot, which has their types, and no longer."""

    async def work(gateway: Gateway, me: Principal) -> FetchAnswer:
        import secrets

        name = f"export_{secrets.token_hex(6)}"
        consent = await agree(await gateway.fetches.price_fetch(me, request, name, True), yes)
        with shown_progress(request.table_id or "sql") as report:
            answer = await gateway.fetches.fetch(
                me, request, name=name, force=True, on_progress=report, consent=consent
            )
        try:
            await export_snapshot(gateway, me, name, export)
        finally:
            await gateway.snapshots.remove(me, name)
        return answer

    answer = run(config, work)
    rows = answer.snapshot.rows if answer.snapshot else 0
    billed = f"billed {size_in_words(answer.bytes_billed)} ({cost_in_words(answer.bytes_billed, answer.cost_usd)})"
    say(f"{counted(rows or 0, 'row')} in {export.path}, {billed}")


def _request(
    table_id: str,
    sql: str,
    select: str,
    where: str,
    group_by: str,
    aggregates: list[str] | None,
    order_by: str,
    limit: int | None,
) -> ScanRequest:
    from agnes_mcp.models import ScanRequest

    if not table_id and not sql:
        raise wrong("There is nothing to read.", "Name a table, as `agnes-mcp catalog` lists them, or give --sql.")
    return ScanRequest(
        table_id=table_id,
        select=names_of(select),
        where=text_of(where).strip(),
        group_by=names_of(group_by),
        aggregates=[_aggregate(text) for text in aggregates] if aggregates else None,
        order_by=names_of(order_by),
        limit=limit,
        googlesql=text_of(sql).strip(),
    )


def _answered(limit: int | None) -> int:
    """How many rows an answer has at most."""
    from agnes_mcp.answers.rows import DEFAULT_ROWS

    return DEFAULT_ROWS if limit is None else limit


def _aggregate(text: str) -> Any:
    from agnes_mcp.models import Aggregate

    function, _, rest = text.partition(":")
    column, _, alias = rest.partition(":")
    return Aggregate(function=function, column=column or None, alias=alias or None)


def _print_estimate(answer: EstimateAnswer, stderr: bool = False) -> None:
    pairs = [
        ("Scans", size_in_words(answer.estimated_scan_bytes)),
        ("Costs", cost_in_words(answer.estimated_scan_bytes, answer.bq_cost_estimate_usd)),
        ("Rows", f"about {answer.estimated_result_rows:,}" if answer.estimated_result_rows is not None else None),
        (
            "Result",
            f"about {size_in_words(answer.estimated_result_bytes)}"
            if answer.estimated_result_bytes is not None
            else None,
        ),
        ("Verdict", answer.verdict.replace("_", " ")),
        ("Left today", size_in_words(answer.quota.daily_bytes_left)),
        ("Statement", answer.sql),
    ]
    if stderr:
        say(f"Scans {pairs[0][1]}, costs {pairs[1][1]}, {answer.verdict.replace('_', ' ')}.")
    else:
        print_pairs(pairs)
    for advice in answer.advice:
        say(for_shell(advice))


def _print_fetched(answer: FetchAnswer) -> None:
    kept = answer.snapshot
    assert kept is not None  # noqa: S101 - only an estimate has none
    print_pairs(
        [
            ("Snapshot", kept.name),
            ("Rows", f"{kept.rows:,}" if kept.rows is not None else None),
            ("Size", size_in_words(kept.bytes_local)),
            ("Billed", f"{size_in_words(answer.bytes_billed)} ({cost_in_words(answer.bytes_billed, answer.cost_usd)})"),
        ]
    )
    for warning in answer.warnings:
        say(for_shell(warning))
    say(for_shell(answer.next_step))
