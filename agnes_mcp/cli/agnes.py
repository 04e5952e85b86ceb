"""`extract`, `rebuild`, `manifest`, `sync`: an Agnes directory, written, put together, described and mirrored."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agnes_mcp.cli.options import CommandError, Config, Json, read_settings, wrong
from agnes_mcp.cli.output import console, print_json, print_rows, say, size_in_words
from agnes_mcp.cli.running import EXIT_INTERRUPTED, run, run_over, shown_progress
from agnes_mcp.cli.words import counted
from agnes_mcp.config.types import expanded
from agnes_mcp.errors import EXIT_AUTH, EXIT_VALIDATION, AgnesError

if TYPE_CHECKING:
    from agnes_mcp.config.settings import Settings
    from agnes_mcp.extracts.mirroring import Arrival, SyncAnswer
    from agnes_mcp.extracts.published import Manifest
    from agnes_mcp.extracts.rebuilding import RebuildAnswer
    from agnes_mcp.extracts.writing import ExtractAnswer
    from agnes_mcp.gateway import Gateway
    from agnes_mcp.models import Principal

_TOKEN_VARIABLE = "AGNES_TOKEN"  # noqa: S105 - a variable's name
#: Something was not done, and what was done stays.
EXIT_PARTIAL = 1
#: What ends a run before anything is touched.
_WHOLE_RUN = {"<config>": EXIT_VALIDATION, "<auth>": EXIT_AUTH}


def register(app: typer.Typer) -> None:
    for command in (extract, rebuild, manifest, sync):
        app.command()(command)


def extract(config: Config = None, as_json: Json = False) -> None:
    """Write extracts/bigquery/extract.duckdb: a view for each table of BigQuery that can have one. Bills nothing."""
    from agnes_mcp.gateway import Gateway

    _, settings = read_settings(config)
    bigquery = settings.data_source.bigquery
    if bigquery is None:
        raise wrong("BigQuery is not configured.", "Set data_source.bigquery.project in instance.yaml.")

    async def work(gateway: Gateway, me: Principal) -> ExtractAnswer:
        from agnes_mcp.extracts.writing import ExtractAnswer, ExtractWriter

        timeout_s = settings.api.scan.request_timeout_seconds
        with shown_progress("extract") as report:
            async with gateway.calls.open("extract", me, timeout_s=timeout_s, on_progress=report) as call:

                def write() -> ExtractAnswer:
                    if bigquery.datasets:
                        gateway.tables.list_datasets(call)
                    tables = [table for table in gateway.registry.by_id.values() if table.source_type == "bigquery"]
                    if not tables:
                        return ExtractAnswer()
                    return ExtractWriter(bigquery).write(agnes_root(settings), tables, call)

                return await gateway.calls.run(call, write)

    answer = run_over(Gateway(settings), work)
    if as_json:
        print_json(answer, defaults=True)
    else:
        _tell_extract(answer)
    if answer.errors:
        raise typer.Exit(_WHOLE_RUN.get(answer.errors[0].table, EXIT_PARTIAL))


def _tell_extract(answer: ExtractAnswer) -> None:
    if not answer.tables_registered and not answer.errors:
        say("Warning: there is no table of BigQuery to extract, and nothing was written.")
        return
    for problem in answer.errors:
        say(f"{problem.table}: {problem.error}")
    typer.echo(f"{counted(answer.tables_registered, 'table')} registered, {answer.views:,} with a view")


def rebuild(
    source: Annotated[str, typer.Argument(help="Show the tables of this source only; all are put together.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Put the extracts together into analytics/server.duckdb: one view for each of their tables."""
    from agnes_mcp.gateway import Gateway

    _, settings = read_settings(config)

    async def work(gateway: Gateway, me: Principal) -> RebuildAnswer:
        from agnes_mcp.extracts.rebuilding import Rebuilder

        async with gateway.calls.open("rebuild", me, timeout_s=settings.api.scan.request_timeout_seconds) as call:
            rebuilder = Rebuilder(agnes_root(settings), _token_of(settings))
            return await gateway.calls.run(call, lambda: rebuilder.run(call))

    for told in ("rebuilding", "directory"):  # what they log is said below, once
        logging.getLogger(f"agnes_mcp.extracts.{told}").addHandler(logging.NullHandler())
    answer = run_over(Gateway(settings), work)
    shown = {name: tables for name, tables in answer.sources.items() if source in ("", name)}
    if source and source not in {*answer.sources, *(problem.source for problem in answer.problems)}:
        say(f"There is no source {source!r} with tables; there are {', '.join(answer.sources) or 'none'}.")
    if as_json:
        print_json(answer.model_copy(update={"sources": shown}), defaults=True)
    else:
        rows = [[name, len(tables), ", ".join(tables)] for name, tables in shown.items()]
        print_rows(["SOURCE", "TABLES", "NAMES"], rows, empty="(no tables)")
        for problem in answer.problems:
            say(f"{problem.source}{f'.{problem.table}' if problem.table else ''}: {problem.reason}")
    if answer.problems:
        raise typer.Exit(EXIT_PARTIAL)


def _token_of(settings: Settings) -> Callable[[], str]:
    """A token of this run's own, from where the settings say; without any, from the metadata server and so on."""

    def token() -> str:
        from agnes_mcp.sources.bigquery.clients import Clients
        from agnes_mcp.sources.bigquery.tokens import TokenSource

        bigquery = settings.data_source.bigquery
        return (Clients(bigquery).tokens if bigquery else TokenSource()).token()

    return token


def manifest(config: Config = None, as_json: Json = False) -> None:
    """Show what a mirror of this instance would hold: hash, time, size and rows of each table."""

    async def work(gateway: Gateway, me: Principal) -> Manifest:
        return await gateway.manifests.manifest(me)

    answer = run(config, work)
    if as_json:
        print_json(answer, defaults=True)
        return
    rows = [
        [
            name,
            entry.query_mode,
            entry.rows,
            size_in_words(entry.size_bytes) if entry.size_bytes is not None else None,
            entry.hash,
        ]
        for name, entry in answer.tables.items()
    ]
    print_rows(["ID", "MODE", "ROWS", "SIZE", "HASH"], rows, empty="(no tables)")


def sync(
    url: Annotated[str, typer.Option("--from", metavar="URL", help="The server, as in https://data.example.com.")],
    token_env: Annotated[str, typer.Option("--token-env", help="The variable that holds its token.")] = _TOKEN_VARIABLE,
    into: Annotated[Path | None, typer.Option("--into", metavar="DIR", help="Another folder for the files.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be downloaded.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Mirror the local tables of another agnes-mcp as files here. Exits 1 when anything failed."""
    from agnes_mcp.access.grants import os_user
    from agnes_mcp.calls.call import Call
    from agnes_mcp.extracts.mirroring import Mirror, SyncFailed, checked_url

    try:
        server = checked_url(url)
    except ValueError as error:
        raise wrong(f"--from {url!r} will not do: {error}.", "See `agnes-mcp sync --help`.") from None
    folder, unserved = _folder_for(server, into, config)
    try:
        mirror = Mirror(server, _token_in(token_env), folder)
    except ValueError as error:
        raise wrong(f"The variable of --token-env will not do: {error}.", "Copy the token anew.") from None
    try:
        with _ended_at_once_by_ctrl_c(), _arrivals() as arrived:
            answer = mirror.run(Call("sync", os_user()), dry_run=dry_run, on_arrival=arrived)
    except SyncFailed as error:
        raise CommandError(str(error), error.hint, EXIT_PARTIAL) from None
    except AgnesError as error:
        raise CommandError(error.message, "Free space, or name another folder with --into.", EXIT_PARTIAL) from None
    _tell_sync(answer, as_json, dry_run)
    if unserved and answer.downloaded and not dry_run:
        say(unserved)
    if answer.errors:
        raise typer.Exit(EXIT_PARTIAL)


def _folder_for(server: str, into: Path | None, config: str | None) -> tuple[Path, str]:
    """Where the files go, and what has to be done for them to be served; "" is nothing."""
    from agnes_mcp.extracts.mirroring import folder_name
    from agnes_mcp.snapshots.folder import display_path

    if into is not None:
        return Path(expanded(into)), ""
    _, settings = read_settings(config)
    root = agnes_root(settings)
    line = f"To serve them from here, instance.yaml needs: data_source: {{agnes: {{data_dir: {display_path(root)}}}}}"
    return root / "extracts" / folder_name(server) / "data", "" if settings.data_source.agnes else line


def _token_in(variable: str) -> str:
    """A server on this machine may need none; a variable that was named is meant. What it is called is not repeated:
    it may be the token itself, by mistake."""
    if variable not in os.environ and variable != _TOKEN_VARIABLE:
        raise wrong("The variable that --token-env names is not set.", "Name one that holds the token, and export it.")
    return os.environ.get(variable, "")


def _tell_sync(answer: SyncAnswer, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json(answer, defaults=True)
        return
    if answer.skipped_remote:
        say(answer.remote_line())
    for error in answer.errors:
        say(f"{error.table}: {error.error}")
    typer.echo(f"{'Would download' if dry_run else 'Downloaded'}: {len(answer.downloaded)}")
    typer.echo(f"Skipped (unchanged): {len(answer.skipped)}")
    typer.echo(f"Skipped (remote-mode): {len(answer.skipped_remote)}")
    typer.echo(f"Failed: {len(answer.errors)}")


@contextmanager
def _ended_at_once_by_ctrl_c() -> Iterator[None]:
    """A mirror may be killed at any moment, so it is: KeyboardInterrupt, which comes wherever the program just is,
    would be lost in a library that goes on without it."""
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: object) -> None:
        shown = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # the bars have hidden the cursor
        os.write(2, f"{shown}Error: Stopped. Hint: What arrived is kept: sync again to go on.\n".encode())
        os._exit(EXIT_INTERRUPTED)

    with suppress(ValueError):  # in another thread, which no signal interrupts
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, before)


@contextmanager
def _arrivals() -> Iterator[Callable[[Arrival], None]]:
    """A bar for each table that arrives, with bytes and rate; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def arrived(arrival: Arrival) -> None:
            if arrival.table not in tasks:
                tasks[arrival.table] = bars.add_task(arrival.table, total=arrival.total)
            bars.update(tasks[arrival.table], completed=arrival.done, total=arrival.total)  # type: ignore[arg-type]

        yield arrived


def agnes_root(settings: Settings) -> Path:
    """The Agnes directory: the one that is served, or else the instance's own data directory."""
    agnes = settings.data_source.agnes
    return agnes.data_dir if agnes else settings.data_dir
