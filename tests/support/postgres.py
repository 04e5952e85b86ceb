"""A PostgreSQL server of Debian's packages, in a folder of its own, on a Unix socket: not on the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode


@dataclass(frozen=True)
class Postgres:
    folder: Path
    programs: Path

    def url(self, schema: str = "public", **more: str) -> str:
        """Tables are made in that schema, which has to be there."""
        options = f"-csearch_path={schema}"
        return "postgresql:///postgres?" + urlencode(
            {"host": str(self.folder), "user": "agnes", "options": options, **more}, quote_via=quote
        )

    def control(self, *arguments: str) -> None:
        subprocess.run(
            [*as_nobody(), str(self.programs / "pg_ctl"), "-D", str(self.folder / "data"), "-w", *arguments],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def start(self) -> None:
        self.control("-l", str(self.folder / "log"), "-o", f"-c listen_addresses='' -k {self.folder}", "start")

    def stop(self) -> None:
        self.control("-m", "immediate", "stop")


def as_nobody() -> list[str]:
    """The server refuses to be run by root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


@contextmanager
def serve_postgres(programs: Path) -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # the path of a socket has to be short
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    server = Postgres(folder, programs)
    try:
        subprocess.run(
            [
                *as_nobody(), str(programs / "initdb"), "-U", "agnes", "--auth=trust", "--no-sync", "-D",
                str(folder / "data"),
            ],
            check=True, capture_output=True, timeout=60, cwd="/",
        )  # fmt: skip
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
