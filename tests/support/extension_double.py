"""The process of a source behind an extension, with a DuckDB file in the extension's place.

python -I -B extension_double.py MEMORY_BYTES THREADS
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import duckdb

from agnes_mcp.calls.processes.child import Channel, main
from agnes_mcp.sources.extensions.job import Attached as Job
from agnes_mcp.sources.extensions.statements import Attach, AttachStatements
from agnes_mcp.sql.names import identifier, literal

COMMAND = ("-I", "-B", str(Path(__file__).resolve()))


class FileStatements(AttachStatements):
    """The url is a DuckDB file. `fault` is what happens when it is loaded, attached or read: `attach:abort`."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def load(self, extension: str) -> list[list[str]]:
        return [[f"SELECT {literal(self.fault)}", *(["LOAD nowhere"] if self.fault == "load:raise" else [])]]

    def secret(self, source: Attach) -> tuple[str, list[str]]:
        return ("CREATE TABLE memory.main.secret AS SELECT ? AS token", []) if source.token_env else ("", [])

    def attach(self, source: Attach) -> str:
        return f"ATTACH {literal(source.url)} AS {identifier(source.alias)} (READ_ONLY)"


class Double(Job):
    def answer(self, question: dict[str, Any], channel: Channel) -> bool:
        self._fault = str(question["load"][0][0]).partition("'")[2].rstrip("'")
        return super().answer(question, channel)

    def open_instance(self, question: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        self._misbehave("load")
        return super().open_instance(question)

    def _attach(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> None:
        self._misbehave("attach")
        super()._attach(connection, question, channel)

    def _read(self, connection: duckdb.DuckDBPyConnection, question: dict[str, Any], channel: Channel) -> None:
        if question["sql"]:
            self._misbehave("read")
        super()._read(connection, question, channel)

    def _misbehave(self, phase: str) -> None:
        at, _, fault = self._fault.partition(":")
        if at != phase:
            return
        if fault == "abort":
            os.abort()
        if fault == "stall":
            threading.Event().wait(3600)
        raise duckdb.IOException("Connection to 'secret-host' failed: password 'canary-token' was refused")


if __name__ == "__main__":
    main({"attached": Double}, networked=True)
