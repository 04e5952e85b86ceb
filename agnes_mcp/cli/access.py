"""`token new|add|list|revoke`: who may call over HTTP, kept in instance.yaml with its comments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from agnes_mcp.cli.completion import known_tables
from agnes_mcp.cli.options import Config, Json, instance_file, read_settings, wrong
from agnes_mcp.cli.output import print_json, print_rows, say
from agnes_mcp.errors import AgnesError, nearest

tokens = typer.Typer(no_args_is_help=True, help="Bearer tokens for callers over HTTP.")

Name = Annotated[str, typer.Argument(help="Who will use it, e.g. ana@example.com.")]
Tables = Annotated[
    str, typer.Option("--tables", help='Ids of the tables it may read, with commas between; "*" is every table.')
]
Datasets = Annotated[
    str, typer.Option("--datasets", help="Datasets it may read whole, with commas between; tables to come as well.")
]
Expires = Annotated[str | None, typer.Option("--expires", metavar="DATE", help="Its last day, as in 2027-01-31.")]


def register(app: typer.Typer) -> None:
    app.add_typer(tokens, name="token")


@tokens.command("new")
def new(
    name: Name,
    tables: Annotated[list[str] | None, typer.Option("--table", help="A table it may read; several times.")] = None,
) -> None:
    """Make a bearer token, and print it once together with the lines for instance.yaml."""
    from agnes_mcp.access.grants import digest_token, generate_token

    token = generate_token()
    granted = json.dumps(tables, ensure_ascii=False) if tables else '[]  # or "*"'
    lines = (
        f"  users:\n    - name: {json.dumps(name)}\n      token_sha256: {digest_token(token)}\n      tables: {granted}"
    )
    typer.echo(f"Token, shown only now: {token}\n\nFor instance.yaml:\n\naccess:\n{lines}")


@tokens.command("add")
def add(
    name: Name, tables: Tables = "", datasets: Datasets = "", expires: Expires = None, config: Config = None
) -> None:
    """Make a bearer token and write its user into instance.yaml. Only the token goes to standard output, once."""
    from agnes_mcp.access.grants import digest_token, generate_token
    from agnes_mcp.config.editing import append, editing, entry_of, section
    from agnes_mcp.config.settings import UserSettings

    token = generate_token()
    entry: dict[str, Any] = {"name": name, "token_sha256": digest_token(token), "tables": _granted(tables, datasets)}
    if expires is not None:
        entry["expires"] = _day(expires)
    _check(UserSettings, entry)
    with editing(instance_file(config)) as document:
        users = section(section(document, "access", dict), "users", list)
        known = entry_of(users, "name", name)
        if known is None:
            append(users, entry)
        elif known.get("token_sha256"):
            raise wrong(f"{name} has a token already.", "Revoke it first: `agnes-mcp token revoke`, or choose a name.")
        else:
            known.update(entry)
    for warning in (*_unknown(entry["tables"], config), *_over(entry)):
        say(f"Warning: {warning}")
    say(f"{name} may read {_in_words(entry['tables'])}. The token, shown only now:")
    typer.echo(token)


@tokens.command("list")
def list_users(config: Config = None, as_json: Json = False) -> None:
    """Show who may call over HTTP, which tables they may read, and until when."""
    users = [_shown(entry) for entry in _users(config) if isinstance(entry, dict)]
    if as_json:
        print_json(users)
    else:
        rows = [[user["name"], _in_words(user["tables"]), user["expires"] or "never", user["state"]] for user in users]
        print_rows(["NAME", "TABLES", "EXPIRES", "STATE"], rows, empty="(no users)")


@tokens.command("revoke")
def revoke(name: Name, config: Config = None) -> None:
    """Take a user's token away. A running server refuses it from the next call on."""
    from agnes_mcp.config.editing import editing, entry_of, remove, section

    with editing(instance_file(config)) as document:
        access = section(document, "access", dict)
        users = section(access, "users", list)
        known = entry_of(users, "name", name)
        if known is None:
            raise wrong(f"There is no user {name!r}.", "`agnes-mcp token list` shows those there are.")
        if len(users) == 1:
            # without any user, a server on this machine's own address lets everybody in
            known.pop("token_sha256", None)
            known["tables"] = []
        else:
            remove(access, "users", known)
    say(f"{name} may not call any more.")


def _users(config: str | None) -> list[Any]:
    from agnes_mcp.config.loading import read_mapping

    access = read_mapping(instance_file(config)).get("access") or {}
    users = access.get("users") if isinstance(access, dict) else None
    return users if isinstance(users, list) else []


def _shown(entry: dict[str, Any]) -> dict[str, Any]:
    expires = entry.get("expires")
    over = isinstance(expires, date) and expires < datetime.now(UTC).date()
    state = "expired" if over else "has a token" if entry.get("token_sha256") else "no token"
    tables = entry.get("tables") or []
    return {"name": entry.get("name"), "tables": tables, "expires": str(expires) if expires else None, "state": state}


def _granted(tables: str, datasets: str) -> list[str] | str:
    """As `tables` of a user says it: a dataset is its name with `.*`, which may be typed along."""
    named, whole = ([part.strip() for part in text.split(",") if part.strip()] for text in (tables, datasets))
    if "*" in named:
        if len(named) + len(whole) > 1:
            raise wrong('"*" is every table already.', 'Give --tables "*" alone, or ids and datasets without it.')
        return "*"
    return [*named, *(f"{dataset.removesuffix('.*')}.*" for dataset in whole)]


def _unknown(granted: list[str] | str, config: str | None) -> Iterator[str]:
    """What is granted and not there, which may be meant: tables to come can be granted. From files alone."""
    try:
        _, settings = read_settings(config)
        tables, datasets = known_tables(settings)
    except AgnesError:  # an instance that cannot be served is doctor's to tell
        return
    for name in granted if isinstance(granted, list) else ():
        dataset, whole = name.removesuffix(".*"), name.endswith(".*")
        kind, known = ("dataset", datasets) if whole else ("table", tables)
        wanted = dataset.rpartition(".")[2]
        if wanted in known:
            continue
        close = nearest(wanted, sorted(known))
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        yield f"no {kind} {wanted!r} is known here yet{meant}; it is granted for when there is one."


def _over(entry: dict[str, Any]) -> Iterator[str]:
    if "expires" in entry and entry["expires"] < datetime.now(UTC).date():
        yield f"{entry['expires']} is over, so this token is refused."


def _in_words(tables: Any) -> str:
    return "every table" if tables == "*" else ", ".join(map(str, tables)) or "no table"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong(f"--expires {text!r} is no date.", "Write it as in 2027-01-31.") from None


def _check(model: Any, entry: dict[str, Any]) -> None:
    """Raises `invalid_argument` where the settings would not take this entry."""
    from pydantic import ValidationError

    from agnes_mcp.config.complaints import complaint_of

    try:
        model.model_validate(entry)
    except ValidationError as error:
        raise wrong(complaint_of(error, model)[0], "Nothing was written; correct it and try again.") from None
