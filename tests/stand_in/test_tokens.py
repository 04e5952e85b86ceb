"""Bearer tokens: required, accepted, expired while in use, over REST and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from google.api_core.exceptions import Unauthenticated, Unauthorized
from google.auth.credentials import Credentials
from google.cloud.bigquery_storage_v1 import types
from support.bigquery_backend import Client, StorageClient, open_session, rest_client, storage_client

from agnes_mcp.stand_in import StandIn


class Issued(Credentials):
    """Credentials that take the next token of a list at each refresh."""

    def __init__(self, *tokens: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth
        self._coming = list(tokens)
        self.refreshes = 0

    def refresh(self, request: object) -> None:
        self.refreshes += 1
        self.token = self._coming.pop(0)


@pytest.fixture
def guarded() -> Iterator[StandIn]:
    with StandIn(require_token=True) as stand_in:
        stand_in.create_table("my_dataset", "t", "id INT64", rows=[{"id": 1}])
        yield stand_in


def test_a_missing_token_is_refused_in_googles_envelope(guarded: StandIn) -> None:
    answer = requests.get(f"{guarded.api_endpoint}/bigquery/v2/projects/my-project/datasets", timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["status"]) == (401, "UNAUTHENTICATED")
    assert error["message"].startswith("Request is missing required authentication credential.")
    assert error["errors"][0] == {
        "message": "Invalid Credentials",
        "domain": "global",
        "reason": "authError",
        "location": "Authorization",
        "locationType": "header",
    }
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_accepted_token_passes_and_is_seen(guarded: StandIn) -> None:
    guarded.tokens.accept("good")
    with rest_client(guarded.api_endpoint, credentials=Issued("good")) as client:
        assert client.get_table("my_dataset.t").num_rows == 1
    assert guarded.tokens.seen == ["good"]
    assert guarded.requests.named("tables.get")[0].token == "good"


def test_a_prefix_accepts_every_token_that_begins_so(guarded: StandIn) -> None:
    guarded.tokens.accept_prefix("test-")
    with rest_client(guarded.api_endpoint, credentials=Issued("test-1")) as client:
        assert client.get_table("my_dataset.t").num_rows == 1


def test_the_rest_client_refreshes_an_expired_token_by_itself(guarded: StandIn) -> None:
    guarded.tokens.accept("first")
    guarded.tokens.accept("second")
    credentials = Issued("first", "second")
    with rest_client(guarded.api_endpoint, credentials=credentials) as client:
        client.get_table("my_dataset.t")
        guarded.tokens.expire("first")
        assert client.get_table("my_dataset.t").num_rows == 1
    assert (credentials.refreshes, guarded.tokens.seen) == (2, ["first", "first", "second"])


def test_a_token_that_stays_refused_is_an_error(guarded: StandIn) -> None:
    refused = pytest.raises(Unauthorized, match="invalid authentication credentials")
    with rest_client(guarded.api_endpoint, credentials=Issued(*["bad"] * 5)) as client, refused:
        client.get_table("my_dataset.t")
    assert guarded.requests.named("tables.get")[-1].status == 401


def test_expiring_all_refuses_every_token(guarded: StandIn) -> None:
    guarded.tokens.accept("one")
    guarded.tokens.accept_prefix("test-")
    guarded.tokens.expire_all()
    for token in ("one", "test-1"):
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{guarded.api_endpoint}/bigquery/v2/projects/my-project/datasets"
        assert requests.get(url, headers=headers, timeout=60).status_code == 401


def test_without_the_demand_a_token_may_still_expire(bq: StandIn, client: Client) -> None:
    assert client.get_table("my_dataset.things").num_rows == 3
    bq.tokens.expire("old")
    with rest_client(bq.api_endpoint, credentials=Issued(*["old"] * 5)) as late, pytest.raises(Unauthorized):
        late.get_table("my_dataset.things")


def test_grpc_needs_the_token_in_metadata(guarded: StandIn) -> None:
    guarded.tokens.accept("good")
    table = "projects/my-project/datasets/my_dataset/tables/t"
    with storage_client(guarded.grpc_target) as client:
        with pytest.raises(Unauthenticated, match="missing required authentication credential"):
            open_session(client, "my_dataset.t")
        request = {
            "parent": "projects/my-project",
            "read_session": types.ReadSession(table=table, data_format=types.DataFormat.ARROW),
        }
        metadata = [("authorization", "Bearer good")]
        session = client.create_read_session(**request, metadata=metadata, timeout=60)
        assert count_rows(client, session, metadata) == 1
        guarded.tokens.expire("good")
        with pytest.raises(Unauthenticated, match="invalid authentication credentials"):
            count_rows(client, session, metadata)


def count_rows(client: StorageClient, session: types.ReadSession, metadata: list[tuple[str, str]]) -> int:
    responses = client.read_rows(session.streams[0].name, metadata=metadata, timeout=60)
    return sum(response.row_count for response in responses)
