"""`snapshot list|show|refresh|drop|prune|path|export` and `disk-info`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp.cli.completion import complete_snapshot
from agnes_mcp.cli.files import Export, export_snapshot
from agnes_mcp.cli.looking import Yes
from agnes_mcp.cli.options import Config, Json, wrong
from agnes_mcp.cli.output import cost_in_words, print_json, print_pairs, print_rows, say, size_in_words
from agnes_mcp.cli.running import agree, run, shown_progress, text_of
from agnes_mcp.cli.words import counted, for_shell, moment_in_words
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import AgnesError

if TYPE_CHECKING:
    from agnes_mcp.answers.models import SnapshotDropAnswer, SnapshotEntry, SnapshotListAnswer, SnapshotRefreshAnswer
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal
    from agnes_mcp.snapshots.models import DiskUsage, SnapshotPrune

snapshots = typer.Typer(no_args_is_help=True, help="What was fetched and is kept here.")

Name = Annotated[str, typer.Argument(help="The snapshot's name.", autocompletion=complete_snapshot)]
_WHERE_CHARS = 40


def register(app: typer.Typer) -> None:
    app.add_typer(snapshots, name="snapshot")
    app.command("disk-info")(disk_info)


@snapshots.command("list")
def list_all(config: Config = None, as_json: Json = False) -> None:
    """Show your snapshots."""

    async def work(gateway: Gateway, me: Principal) -> SnapshotListAnswer:
        return await gateway.snapshots.entries(me)

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    rows = [
        [
            kept.name,
            kept.rows,
            size_in_words(kept.bytes_local),
            age_in_words(kept.fetched_at),
            kept.table_id,
            kept.where[:_WHERE_CHARS],
        ]
        for kept in answer.snapshots
    ]
    print_rows(["NAME", "ROWS", "SIZE", "AGE", "TABLE", "WHERE"], rows, empty="(no snapshots)")
    for kept in answer.snapshots:
        if kept.damaged:
            say(f"{kept.name} is damaged: {kept.damaged}. Fetch it again with --force, or drop it.")
    if answer.note:
        say(for_shell(answer.note))


@snapshots.command("show")
def show(name: Name, config: Config = None, as_json: Json = False) -> None:
    """Show all that is known of one snapshot."""

    async def work(gateway: Gateway, me: Principal) -> SnapshotEntry:
        return await gateway.snapshots.entry(me, name)

    kept = run(config, work)
    if as_json:
        print_json(kept)
        return
    print_pairs(
        [
            ("Snapshot", kept.name),
            ("Table", kept.table_id),
            ("Columns", ", ".join(kept.select or [])),
            ("Where", kept.where),
            ("Rows", f"{kept.rows:,}" if kept.rows is not None else None),
            ("Size", size_in_words(kept.bytes_local)),
            ("Fetched", f"{age_in_words(kept.fetched_at)} ago" if kept.fetched_at else None),
            ("As of", moment_in_words(kept.effective_as_of)),
            ("Expires", moment_in_words(kept.expires_at)),
            ("Billed", size_in_words(kept.bytes_billed) if kept.bytes_billed is not None else None),
            ("Complete", None if kept.damaged else "yes" if kept.complete else "no, its limit was reached"),
            ("Damaged", kept.damaged),
            ("Statement", kept.sql),
        ]
    )


@snapshots.command("refresh")
def refresh(
    name: Name,
    where: Annotated[str, typer.Option("--where", help="Another predicate; - is standard input, @file a file.")] = "",
    yes: Yes = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Run a snapshot's request again. A costly one asks first."""
    predicate = text_of(where).strip()

    async def work(gateway: Gateway, me: Principal) -> SnapshotRefreshAnswer:
        consent = await agree(await gateway.fetches.price_refresh(me, name, predicate), yes)
        with shown_progress(name) as report:
            return await gateway.fetches.refresh(me, name, predicate, report, consent)

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    delta = answer.rows_new - answer.rows_old if answer.rows_old is not None else None
    print_pairs(
        [
            (
                "Rows",
                f"{_number(answer.rows_old)} → {answer.rows_new:,}{f' ({delta:+,})' if delta is not None else ''}",
            ),
            ("Size", f"{size_in_words(answer.bytes_local_old)} → {size_in_words(answer.bytes_local_new)}"),
            ("As of", _from_to(answer.effective_as_of_old, answer.effective_as_of_new)),
            ("Billed", f"{size_in_words(answer.bytes_billed)} ({cost_in_words(answer.bytes_billed, answer.cost_usd)})"),
            ("identical", "yes" if answer.identical else "no"),
        ]
    )
    for warning in answer.warnings:
        say(for_shell(warning))


@snapshots.command("drop")
def drop(name: Name, config: Config = None, as_json: Json = False) -> None:
    """Remove one snapshot."""

    async def work(gateway: Gateway, me: Principal) -> SnapshotDropAnswer:
        return await gateway.snapshots.remove(me, name)

    answer = run(config, work)
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"Dropped {answer.dropped}")


@snapshots.command("prune")
def prune(
    older_than: Annotated[str | None, typer.Option("--older-than", metavar="AGE", help="As in 7d, 12h or 30m.")] = None,
    larger_than: Annotated[str | None, typer.Option("--larger-than", metavar="SIZE", help="As in 500m or 2g.")] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Those whose time is over.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove the snapshots that meet every filter that is given."""

    async def work(gateway: Gateway, me: Principal) -> SnapshotPrune:
        return await gateway.snapshots.clear_out(
            me, older_than=older_than, larger_than=larger_than, expired=expired, dry_run=dry_run
        )

    answer = run(config, work)
    if as_json:
        print_json(answer)
        return
    if not answer.dropped:
        typer.echo("(no matches)")
    for gone in answer.dropped:
        typer.echo(f"{'Would drop' if answer.dry_run else 'Dropped'} {gone.name} ({size_in_words(gone.bytes_local)})")
    if answer.busy:
        say(f"Being written, and so kept: {', '.join(answer.busy)}")


@snapshots.command("path")
def path(name: Name, config: Config = None) -> None:
    """Print where a snapshot's Parquet file is, verified, for other programs to read."""

    async def work(gateway: Gateway, me: Principal) -> Path | None:
        return await gateway.snapshots.file_of(me, name)

    found = run(config, work)
    if found is None:
        raise AgnesError(
            "snapshot_not_found", f"There is no snapshot {name!r}.", "`snapshot list` shows those there are."
        )
    typer.echo(str(found))


@snapshots.command("export")
def export(
    name: Name,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="The CSV file to write.")] = None,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="The Parquet file to write.")
    ] = None,
    config: Config = None,
) -> None:
    """Write a snapshot's rows to a file of your own."""
    wanted = Export.of(csv, parquet)
    if wanted is None:
        raise wrong("There is no file to write.", "Give --csv FILE or --parquet FILE.")

    async def work(gateway: Gateway, me: Principal) -> None:
        await export_snapshot(gateway, me, name, wanted)

    run(config, work)
    say(f"{name} is in {wanted.path}.")


def disk_info(config: Config = None, as_json: Json = False) -> None:
    """Show what snapshots take on the disk, and what is free."""

    async def work(gateway: Gateway, me: Principal) -> tuple[DiskUsage, Path]:
        return await gateway.snapshots.disk_space(me), gateway.settings.data_dir

    answer, data_dir = run(config, work)
    if as_json:
        print_json(answer)
        return
    print_pairs(
        [
            ("Snapshots dir", str(data_dir / expanded(answer.snapshots_dir))),
            (
                "Used by Agnes",
                f"{size_in_words(answer.used_bytes)} across {counted(answer.snapshot_count, 'snapshot')}"
                + (f", {counted(answer.chart_count, 'chart')}" if answer.chart_count else ""),
            ),
            ("Free disk", size_in_words(answer.free_bytes)),
            ("Configured cap", f"{answer.quota_gb:g} GB"),
            ("Retention", answer.retention or "off: snapshots stay until they are dropped"),
        ]
    )


def age_in_words(moment: datetime | None) -> str:
    """`3d`, `5h`, `12m`; `?` where the time is not known."""
    if moment is None:
        return "?"
    minutes = max(0, int((datetime.now(UTC) - moment).total_seconds() // 60))
    return f"{minutes // 1440}d" if minutes >= 1440 else f"{minutes // 60}h" if minutes >= 60 else f"{minutes}m"


def _from_to(old: datetime | None, new: datetime | None) -> str:
    """To the second: a refresh may follow at once."""
    return " → ".join(
        "?" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for moment in (old, new)
    )


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
