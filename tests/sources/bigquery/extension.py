"""A real file of DuckDB's `bigquery` extension in the real process: `make test-extension`.

What it can be asked without BigQuery: that it loads, takes a token and attaches without a request; and that what it
hangs on, a REST endpoint that is closed or silent, ends with the call and its process. `AGNES_BIGQUERY_EXTENSION` names
the file.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from support.bigquery import call
from support.metadata_server import MetadataServer, closed_port
from support.waiting import soon, wait_until

from agnes_mcp.calls.call import cancelled
from agnes_mcp.config.settings import BigQuerySettings
from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Column
from agnes_mcp.sources.bigquery.attached import Attached, Unserved
from agnes_mcp.sources.bigquery.extension_sql import ExtensionStatements
from agnes_mcp.sources.bigquery.names import TablePath
from agnes_mcp.sources.bigquery.tokens import TokenSource

FILE = os.environ.get("AGNES_TEST_EXTENSION", "")
pytestmark = pytest.mark.skipif(not FILE, reason="AGNES_TEST_EXTENSION names no file of the extension")

ORDERS = TablePath("my-project", "my_dataset", "orders")
COLUMNS = [Column(name="id", type="INT64")]


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Somebody who accepts, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def attached_to(endpoint: str | None) -> Attached:
    settings = BigQuerySettings(project="my-project", api_endpoint=endpoint)
    return Attached(ExtensionStatements(settings, FILE), TokenSource("metadata"), memory_bytes=3 * 2**30, threads=2)


def test_it_loads_takes_the_token_and_attaches_without_a_request(metadata: MetadataServer, endpoint: str) -> None:
    attached = attached_to(endpoint)
    with soon():
        attached.attach([("my-project", "my_dataset"), ("my-project", "other")], call())
    assert attached.state()["state"] == "attached"
    assert attached.state()["version"] not in ("", "unknown")
    assert metadata.token_requests == 1
    attached.close()


def test_a_silent_endpoint_ends_with_the_deadline(metadata: MetadataServer, endpoint: str) -> None:
    attached = attached_to(endpoint)
    with soon(), pytest.raises(AgnesError) as caught:
        list(attached.batches(ORDERS, COLUMNS, 8, call(timeout_s=10)))
    assert caught.value.kind == "timeout"
    attached.close()


def test_a_closed_port_is_given_up_before_the_first_row(metadata: MetadataServer) -> None:
    with closed_port() as port:
        attached = attached_to(f"http://127.0.0.1:{port}")
        attached.stall_timeout_s = 5.0
        with soon(), pytest.raises(Unserved):
            list(attached.batches(ORDERS, COLUMNS, 8, call(timeout_s=None)))
    attached.close()


def test_cancelling_ends_it(metadata: MetadataServer, endpoint: str) -> None:
    attached, on, kinds = attached_to(endpoint), call(timeout_s=None), list[str]()

    def read() -> None:
        try:
            list(attached.batches(ORDERS, COLUMNS, 8, on))
        except AgnesError as error:
            kinds.append(error.kind)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: attached.state()["state"] == "attached")  # the one that stands by is; so is the one that reads
    with soon():
        on.stop(cancelled())
        thread.join()
    assert kinds == ["cancelled"]
    attached.close()
