"""`catalog`, `schema`, `describe`, `sample`, `usage`: what there is, for free."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agnes_mcp.cli.completion import complete_table
from agnes_mcp.cli.options import Config, Json, wrong
from agnes_mcp.cli.output import cost_in_words, print_json, print_pairs, print_rows, say, size_in_words
from agnes_mcp.cli.running import agree, names_of, run, shown_progress
from agnes_mcp.cli.words import counted, for_shell, moment_in_words

if TYPE_CHECKING:
    from agnes_mcp.answers.models import (
        CatalogAnswer,
        DescribeAnswer,
        RowsAnswer,
        SampleAnswer,
        SchemaAnswer,
        UsageAnswer,
    )
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal, SourceType

TableId = Annotated[str, typer.Argument(help="The table's id.", autocompletion=complete_table)]
#: What a shell waits for the datasets to be listed; the process is gone before the next question.
_LISTED_WITHIN_S = 15.0
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a costly call.")]


def register(app: typer.Typer) -> None:
    for command in (catalog, schema, describe, sample, usage):
        app.command()(command)


def catalog(
    search: Annotated[str, typer.Argument(help="Words of ids, names, descriptions and columns.")] = "",
    source_type: Annotated[str, typer.Option("--source-type", help="bigquery, local or attached.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most tables to show.")] = 50,
    cursor: Annotated[str, typer.Option(help="The next_cursor of the page before.")] = "",
    refresh: Annotated[bool, typer.Option("--refresh", help="Read what is known of the tables again.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the tables: id, where it lives, rows, size, what one row is."""
    kinds: dict[str, SourceType | None] = {"": None, "bigquery": "bigquery", "local": "local", "attached": "attached"}
    if source_type not in kinds:
        raise wrong(f"--source-type {source_type!r} is none.", "It is bigquery, local or attached.")

    async def work(gateway: Gateway, me: Principal) -> CatalogAnswer:
        kind = kinds[source_type]
        await gateway.catalog.settle(_LISTED_WITHIN_S)
        return await gateway.catalog.browse(
            me, search=search, source_type=kind, limit=limit, cursor=cursor, refresh=refresh
        )

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    rows = [
        [
            entry.id,
            entry.source_type,
            entry.query_mode,
            entry.sql_flavor,
            entry.rows,
            _size(entry.size_bytes),
            entry.description or entry.name,
        ]
        for entry in answer.tables
    ]
    print_rows(["ID", "SOURCE", "MODE", "FLAVOR", "ROWS", "SIZE", "NAME"], rows, empty="(no tables)")
    if answer.next_cursor:
        say(f"{counted(answer.total, 'table')} in all; the next page: --cursor {answer.next_cursor}")
    if answer.note:
        say(for_shell(answer.note))


def schema(table_id: TableId, config: Config = None, as_json: Json = False) -> None:
    """Show a table's columns, partitioning, sizes, and how its dialect writes literals."""

    async def work(gateway: Gateway, me: Principal) -> SchemaAnswer:
        return await gateway.catalog.columns(me, table_id)

    answer = run(config, work)
    if as_json:
        print_json(answer)
    else:
        print_schema(answer)


def print_schema(answer: SchemaAnswer) -> None:
    print_pairs(
        [
            ("Table", answer.table_id),
            ("Description", answer.description),
            ("Kind", f"{answer.entity_type}, {answer.source_type}, WHERE in {answer.sql_flavor}"),
            ("Rows", f"{answer.rows:,}" if answer.rows is not None else None),
            ("Size", size_in_words(answer.size_bytes) if answer.size_bytes is not None else None),
            ("Changed", moment_in_words(answer.modified)),
            ("Partition", _partitioning(answer)),
            ("Clustered by", ", ".join(answer.clustered_by)),
            ("Primary key", ", ".join(answer.primary_key)),
        ]
    )
    typer.echo("")
    print_rows(["COLUMN", "TYPE", "MODE", "DESCRIPTION"], list(_columns(answer.columns)), empty="(no columns)")
    for literal, example in answer.where_dialect_hints.items():
        say(f"{literal}: {example}")
    if answer.note:
        say(for_shell(answer.note))


def describe(
    table_id: TableId,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100, help="Rows to show.")] = 5,
    profile: Annotated[
        bool, typer.Option("--profile", help="Nulls, distinct values, range of each column; may bill.")
    ] = False,
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a table's columns and some of its rows; with --profile what its values are like."""

    async def work(gateway: Gateway, me: Principal) -> DescribeAnswer:
        quote = await gateway.descriptions.price_describe(me, table_id, rows, profile)
        consent = await agree(quote, yes)
        with shown_progress(table_id) as report:
            return await gateway.descriptions.describe(me, table_id, rows, profile, report, consent)

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    print_schema(answer.table_schema)
    typer.echo("")
    print_answer_rows(answer.sample)
    if answer.profile is not None:
        typer.echo("")
        found = [[c.name, c.nulls, c.approx_distinct, c.min, c.max] for c in answer.profile.columns]
        print_rows(["COLUMN", "NULLS", "DISTINCT ~", "MIN", "MAX"], found, empty="(no columns)")


def sample(
    table_id: TableId,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100, help="Rows to show.")] = 5,
    select: Annotated[str, typer.Option("--select", help="Columns, with commas between.")] = "",
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show some rows of a table, free wherever its source can give them free."""

    async def work(gateway: Gateway, me: Principal) -> SampleAnswer:
        columns = names_of(select)
        consent = await agree(await gateway.descriptions.price_sample(me, table_id, rows, columns), yes)
        return await gateway.descriptions.sample(me, table_id, rows, columns, consent)

    answer = run(config, work)
    if as_json:
        print_json(answer)
    else:
        print_answer_rows(answer)


def usage(config: Config = None, as_json: Json = False) -> None:
    """Show what was billed today, what is left, the limits, and how BigQuery is doing."""

    async def work(gateway: Gateway, me: Principal) -> UsageAnswer:
        return await gateway.usage.today(me)

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    left = answer.quota
    print_pairs(
        [
            ("You are", answer.principal),
            ("Billed today", f"{size_in_words(left.daily_bytes_used)} of {size_in_words(left.daily_bytes_limit)}"),
            ("Left today", size_in_words(left.daily_bytes_left)),
            ("Running", f"{left.running_scans} of {counted(left.max_concurrent_scans, 'scan')}"),
            ("Starts anew", moment_in_words(left.resets_at)),
            ("One statement", f"at most {size_in_words(answer.max_scan_bytes)}"),
            ("Asks above", size_in_words(answer.confirm_above_bytes)),
            ("Tables", answer.tables_visible),
            ("BigQuery", _bigquery(answer.bigquery)),
            *((f"Source {alias}", ", ".join(_told(state))) for alias, state in answer.attached.items()),
            ("Version", answer.version),
        ]
    )


def print_answer_rows(answer: RowsAnswer) -> None:
    """Rows on standard output; beside them how many, what they cost, and what to know."""
    print_rows(answer.columns, answer.rows)
    cost = (
        f", billed {size_in_words(answer.bytes_billed)} ({cost_in_words(answer.bytes_billed, answer.cost_usd)})"
        if answer.bytes_billed
        else ""
    )
    say(f"{counted(answer.row_count, 'row')}{' and more' if answer.truncated or answer.more_rows else ''}{cost}")
    if answer.note:
        say(for_shell(answer.note))


def _partitioning(answer: SchemaAnswer) -> str | None:
    partition = answer.partition
    if partition is None:
        return None
    required = (
        f", and a filter on {' and '.join(['it', *partition.also])} is required" if partition.filter_required else ""
    )
    return f"{partition.column or 'ingestion time'} by {partition.type}{required}"


def _columns(columns: list[Any], above: str = "") -> list[list[Any]]:
    rows = []
    for column in columns:
        name = f"{above}{column.name}"
        rows.append([name, column.type, column.mode, column.description])
        rows += _columns(column.fields, f"{name}.")
    return rows


def _bigquery(health: dict[str, Any]) -> str:
    return "not configured" if health == {"configured": False} else ", ".join(_told(health))


def _told(known: dict[str, Any], above: str = "") -> Iterator[str]:
    """Each thing that is known, as "token mode auto"; JSON says true and false, people yes and no."""
    for key, value in known.items():
        name = f"{above}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            yield from _told(value, f"{name} ")
        elif isinstance(value, bool):
            yield f"{name} {'yes' if value else 'no'}"
        elif isinstance(value, list):
            yield f"{name} {'; '.join(map(str, value)) or 'none'}"
        elif value is not None:
            yield f"{name} {value}"


def _size(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else size_in_words(size_bytes)
