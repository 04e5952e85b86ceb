"""Commands as a shell runs them: the console script's own function, its streams and its exit code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.instances import ORDERS, PEOPLE, write

from agnes_mcp.cli import main
from agnes_mcp.stand_in import StandIn


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working folder of the test's own, and no setting of the machine that runs it."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("AGNES_") and not name.startswith("AGNES_TEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `agnes-mcp` with these arguments in this process."""

    def run(*arguments: str | Path) -> Ran:
        monkeypatch.setattr("sys.argv", ["agnes-mcp", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


SESSIONS = """
    SELECT 's' || i AS session_id, i AS amount, repeat('x', 200) AS padding, DATE '2026-01-01' AS day
    FROM range(5000) AS r(i)"""


@pytest.fixture(scope="session")
def bq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    file = write(tmp_path_factory.mktemp("bq"), "sessions.parquet", SESSIONS)
    with StandIn(project="my-project") as stand_in:
        stand_in.create_table("my_dataset", "sessions", parquet=file)
        yield stand_in


@pytest.fixture
def shop(home: Path, bq: StandIn, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance.yaml in the working folder: two local tables and one of BigQuery."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.delenv(name, raising=False)
    write(home, "orders.parquet", ORDERS)
    write(home, "people.parquet", PEOPLE)
    file = home / "instance.yaml"
    file.write_text(
        f"""\
data_dir: ./state
data_source:
  bigquery:
    project: my-project
    api_endpoint: {bq.api_endpoint}
    storage_endpoint: grpc://{bq.grpc_target}
tables:
  - {{id: orders, path: orders.parquet, description: Orders of the shop}}
  - {{id: people, path: people.parquet}}
  - {{id: sessions, source_type: bigquery, bucket: my_dataset}}
"""
    )
    return file
