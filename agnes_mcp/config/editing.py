"""Changes to an `instance.yaml` that leave the rest of it, comments included, as its owner wrote it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agnes_mcp.errors import AgnesError, ConfigError

_FIX = "Correct the file by hand, then try again."


@contextmanager
def editing(path: Path) -> Iterator[dict[str, Any]]:
    """The file's mapping, to be changed in place; written back whole at the end, unless the block raises.

    Raises `config_invalid` where the file is no mapping or what was made of it cannot be read back, and
    `storage_failed` where it cannot be written or somebody else changed it meanwhile.
    """
    target = Path(os.path.realpath(path))
    before = _read(target)
    document, indents = _parse(_unmarked(before), path.name)
    yield document
    text = _render(document, indents)
    _parse(text, path.name)
    if _read(target) != before:
        raise AgnesError("storage_failed", f"{path.name} was changed meanwhile.", "Nothing was written; try again.")
    replace_file(target, _marked_as(before, text), "Nothing was changed; look at its folder.")


def section(document: dict[str, Any], key: str, kind: type) -> Any:
    """The mapping or list under that key; an empty one where there is none yet. Raises `config_invalid`."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    found = document.get(key)
    if found is None:
        found = document[key] = CommentedMap() if kind is dict else CommentedSeq()
    if not isinstance(found, kind):
        raise ConfigError(f"{key}: should be a {'mapping' if kind is dict else 'list'}.", _FIX, key)
    return found


def append(entries: Any, entry: dict[str, Any]) -> None:
    """Add an entry at the end of a list, lists within it on one line. What follows the list in the file still does."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    written = CommentedMap()
    for key, value in entry.items():
        written[key] = CommentedSeq(map(_as_text, value)) if isinstance(value, list) else _as_text(value)
        if isinstance(value, list):
            written[key].fa.set_flow_style()
    last = entries[-1] if entries else None
    entries.append(written)
    if last is not None:
        _put_behind(written, _taken_from(entries, last))


def is_plain(text: str) -> bool:
    """Whether both readers of the file, of an older and a newer YAML, take it for this text without quotes.

    `no` and `2024_01` are something else to the one, `1e5` to the other.
    """
    import yaml
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return bool(yaml.safe_load(text) == text and YAML(typ="safe", pure=True).load(text) == text)
    except (yaml.YAMLError, YAMLError, ValueError):  # a date that there is not, as in 2024-13-45
        return False


def _as_text(value: Any) -> Any:
    """In quotes where the reader of the file would take it for something else; the library that writes reads a newer
    YAML, in which fewer words mean anything."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    return DoubleQuotedScalarString(value) if isinstance(value, str) and not is_plain(value) else value


def remove(within: dict[str, Any], key: str, entry: dict[str, Any]) -> None:
    """Take an entry out of the list under that key. What follows the list in the file stays."""
    entries: Any = within[key]
    place = next(index for index, found in enumerate(entries) if found is entry)
    below = _taken_from(entries, entry) if place == len(entries) - 1 else ""
    if place and below:
        _put_behind(entries[place - 1], below)
    del entries[place]
    if not entries:
        entries.fa.set_flow_style()  # else a comment beside the key would stand before the brackets
        _put_beside(within, key, below)


def _put_beside(within: Any, key: str, below: str) -> None:
    """Let these comments follow an empty list, behind the one that stands beside it."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not below:
        return
    places = within.ca.items.setdefault(key, [None, None, None, None])
    if places[2] is None:
        places[2] = CommentToken(f"\n{below}", CommentMark(0), None)
    else:
        places[2].value = places[2].value.rstrip("\n") + f"\n{below}"


def _taken_from(entries: Any, last: Any) -> str:
    """Comments that follow a list. The library hangs them onto its last leaf, or where that is a flow list, its end."""
    ends = getattr(entries.ca, "end", None) or []
    below = "".join(token.value for token in ends if token is not None)
    entries.ca.end = []
    held = _last_comment(last)
    if held is not None:
        beside, newline, rest = held.value.partition("\n")
        if rest.strip():
            held.value = beside + newline
            below = rest + below
    return below


def _put_behind(last: Any, below: str) -> None:
    """Let these comments follow the entry that is last now."""
    from ruamel.yaml.error import CommentMark
    from ruamel.yaml.tokens import CommentToken

    if not below:
        return
    kept = _last_comment(last)
    if kept is not None:
        kept.value = kept.value.rstrip("\n") + f"\n{below}"
    else:
        node, key = _last_leaf(last)
        node.ca.items[key] = [None, None, CommentToken(f"\n{below}", CommentMark(0), None), None]


def _last_comment(node: Any) -> Any:
    from ruamel.yaml.tokens import CommentToken

    node, key = _last_leaf(node)
    return next((token for token in node.ca.items.get(key) or () if isinstance(token, CommentToken)), None)


def _last_leaf(node: Any) -> tuple[Any, Any]:
    """The innermost block at the end of a block, and the key of its last value."""
    from ruamel.yaml.comments import CommentedBase

    while True:
        key = list(node)[-1] if isinstance(node, dict) else len(node) - 1
        value = node[key]
        if not isinstance(value, CommentedBase) or not value or value.fa.flow_style() or key in node.ca.items:
            return node, key
        node = value


def entry_of(entries: list[Any], key: str, value: str) -> dict[str, Any] | None:
    """The mapping of a list whose `key` is `value`."""
    return next((entry for entry in entries if isinstance(entry, dict) and entry.get(key) == value), None)


def _parse(text: str, name: str) -> tuple[dict[str, Any], tuple[int, int]]:
    """The document, and how far its sequences and their dashes are indented."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.util import load_yaml_guess_indent

    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        document = yaml.load(text)
        _, indent, offset = load_yaml_guess_indent(text)
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"line {mark.line + 1}: " if mark else ""
        raise ConfigError(f"{name}: {where}is not YAML.", "Correct the YAML at that place.", name) from None
    if document is None:
        document = CommentedMap()
    if not isinstance(document, dict):
        raise ConfigError(f"{name}: should be a mapping of keys.", _FIX, name)
    return document, (indent or 4, offset if offset is not None else 2)


def _render(document: dict[str, Any], indents: tuple[int, int]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=max(indents[0], indents[1] + 2), offset=indents[1])
    written = io.StringIO()
    yaml.dump(document, written)
    return written.getvalue()


def _unmarked(text: str) -> str:
    """Without the marks that editors of some systems write: a byte order mark, carriage returns."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def _marked_as(before: str, text: str) -> str:
    """With those marks again, where the file had them."""
    if before.count("\r\n") * 2 > before.count("\n"):
        text = text.replace("\n", "\r\n")
    return f"\ufeff{text}" if before.startswith("\ufeff") else text


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {type(error).__name__}.", _FIX, path.name) from None


def replace_file(target: Path, text: str, advice: str, named: str = "", backup: Path | None = None) -> None:
    """Write `text` there, whole or not at all, with the mode of the file that it replaces; its folder is made.

    `named` is what the file is called to whoever reads the error; what is replaced is kept as `backup`, where one is
    given. Raises `storage_failed` with `advice`.
    """
    building = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        building.write_text(text, encoding="utf-8", newline="")
        if target.exists():
            if backup is not None:
                shutil.copy2(target, backup)
            shutil.copymode(target, building)
        building.replace(target)
    except OSError as error:
        building.unlink(missing_ok=True)
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise AgnesError("storage_failed", f"{named or target.name} could not be written ({reason}).", advice) from None
