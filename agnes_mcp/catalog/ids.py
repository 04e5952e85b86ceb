"""The register of ids: which table of BigQuery an id means, from the day it was first given away.

An id outlives restarts and its table: whatever is created, dropped or renamed in a dataset, an id that somebody was
granted, or that a snapshot was fetched under, never comes to mean another table. Only the operator can make it so, by
an entry of `tables:`, and that is said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from agnes_mcp.errors import AgnesError

logger = logging.getLogger(__name__)

T = TypeVar("T")
FORMAT = 1
LOCK_WAIT_S = 10.0
MAX_ID_CHARS = 64
_HASH_CHARS = 6
_USABLE = re.compile(r"(?=_*[a-z0-9])[a-z0-9_]{1,64}")


class Moved(NamedTuple):
    """An id that the operator has made to mean another table."""

    table_id: str
    before: str
    now: str


class Ids:
    """Thread-safe, and safe beside other processes on the same file. Blocking.

    `places` is what the register holds, id → `project.dataset.table`; `moved` are the ids that an entry of `tables:`
    has pointed elsewhere, with their former places, for as long as the register is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._places: dict[str, str] = {}  # what the register of ids holds
        self._moved: dict[str, list[str]] = {}  # with them
        self._read = False

    @property
    def places(self) -> Mapping[str, str]:
        return self._places

    @property
    def moved(self) -> Mapping[str, list[str]]:
        return self._moved

    def read(self) -> Mapping[str, str]:
        """What the register holds on the disk now. Raises `storage_failed`."""
        self._load()
        return self._places

    def configure(self, entries: Mapping[str, str]) -> list[Moved]:
        """The operator's word, id → place; what of it points an id elsewhere. Raises `storage_failed`."""

        def change() -> list[Moved]:
            moved = [
                Moved(table_id, before, now)
                for table_id, now in entries.items()
                if (before := self._places.get(table_id)) is not None and before != now
            ]
            for each in moved:
                former = self._moved.setdefault(each.table_id, [])
                former += [each.before] * (each.before not in former)
            self._places |= entries
            return moved

        return self._change(change, wanted=any(self._places.get(k) != v for k, v in entries.items()) or not self._read)

    def give(self, places: Iterable[tuple[str, str, str]], taken: Iterable[str]) -> dict[tuple[str, str, str], str]:
        """An id for each of these tables, (project, dataset, table): the one it has, or a new one.

        `taken` are ids that no table of a dataset may get. Names that collide when they are first seen together are
        all qualified by their datasets; later only the newcomer is, also where those before it are: the plain name
        would be taken for one of them. Raises `storage_failed`.
        """
        wanted = list(places)

        def change() -> dict[tuple[str, str, str], str]:
            reserved = {*taken, *self._places}
            spoken_for = {table_id_of(place.rpartition(".")[2]) for place in self._places.values()}
            given = self.given(wanted)
            new = [place for place in wanted if place not in given]
            by_name: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
            for place in new:
                by_name[table_id_of(place[2])].append(place)
            for name, alike in sorted(by_name.items()):
                for place in sorted(alike) if len(alike) > 1 else alike:
                    plain = name if len(alike) == 1 and name not in reserved and name not in spoken_for else ""
                    given[place] = plain or _qualified(place, reserved)
                    reserved.add(given[place])
                    self._places[given[place]] = ".".join(place)
            return given

        unknown = {".".join(place) for place in wanted} - set(self._places.values())
        return self._change(change, wanted=bool(unknown) or not self._read)

    def _change(self, change: Callable[[], T], *, wanted: bool) -> T:
        """Run `change` over the register as it is on the disk, and write what came of it."""
        with self._lock:
            if not wanted:
                return change()
            from filelock import FileLock, Timeout

            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with FileLock(self._path.with_suffix(".lock"), timeout=LOCK_WAIT_S):
                    self._load()
                    before = (dict(self._places), {key: list(kept) for key, kept in self._moved.items()})
                    made = change()
                    if (self._places, self._moved) != before:
                        self._write_or_restore(*before)
                    return made
            except Timeout:
                raise _failed("another process does not let go of it") from None
            except OSError as error:
                raise _failed(error.strerror or type(error).__name__) from None

    def given(self, places: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], str]:
        """Those of them that have an id already, as last read; asks no disk."""
        known = {place: table_id for table_id, place in self._places.items()}
        return {place: known[".".join(place)] for place in places if ".".join(place) in known}

    def _write_or_restore(self, places: dict[str, str], moved: dict[str, list[str]]) -> None:
        """What was not written is not so: another process, or the next start, would give the id to another table."""
        try:
            self._write()
        except BaseException:
            self._places, self._moved = places, moved
            raise

    def _load(self) -> None:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            places, moved = content["ids"], content["moved"]
            if content["format"] != FORMAT or not _are_places(places, moved):
                raise ValueError(content["format"])
        except FileNotFoundError:
            self._read = True
            return
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # To begin anew would let ids mean other tables, which is what the register is there to prevent.
            raise _failed("it is damaged, or of a newer version; restore it from a backup") from None
        self._places, self._moved, self._read = places, moved, True

    def _write(self) -> None:
        content = {"format": FORMAT, "ids": dict(sorted(self._places.items())), "moved": self._moved}
        descriptor, name = tempfile.mkstemp(prefix=".ids-", dir=self._path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(content, separators=(",\n", ": ")) + "\n")  # an id a line; `indent` is far slower
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def _are_places(places: object, moved: object) -> bool:
    """Whether these are id → place, and id → former places."""
    if not isinstance(places, dict) or not isinstance(moved, dict):
        return False
    former = [place for each in moved.values() if isinstance(each, list) for place in each]
    lists = all(isinstance(each, list) for each in moved.values())
    return lists and all(isinstance(place, str) for place in (*places.values(), *former))


def table_id_of(name: str) -> str:
    """A usable id of a table's own name, in whatever script: small letters, digits and `_`."""
    if _USABLE.fullmatch(name):  # as almost all are, of tens of thousands
        return name
    plain = name[:-1].rstrip("_- ") if name.endswith("*") else name  # of shards what they have in common
    plain = plain.strip()
    if not plain.isascii():
        from anyascii import anyascii

        plain = anyascii(plain)
    usable = re.sub(r"[^a-z0-9_]", "_", plain.lower())[:MAX_ID_CHARS]
    return usable if usable.strip("_") else f"table_{_digest(name)}"


def _qualified(place: tuple[str, str, str], reserved: set[str]) -> str:
    _, dataset, table = place
    plain = table_id_of(f"{dataset}_{table}")
    if plain not in reserved:
        return plain
    return f"{plain[: MAX_ID_CHARS - _HASH_CHARS - 1]}_{_digest('.'.join(place))}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARS]


def _failed(reason: str) -> AgnesError:
    return AgnesError(
        "storage_failed",
        f"The register of ids (ids.json in data_dir) cannot be used: {reason}.",
        "Tables of datasets are not served without it. Whoever keeps this instance has to look at data_dir.",
    )
