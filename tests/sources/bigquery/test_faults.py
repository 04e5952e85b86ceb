"""What BigQuery, the network and Google's libraries can do to a call, and what is made of it."""

# google-auth and google-api-core annotate only a part of themselves:
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import inspect
import socket
import threading
import traceback
from collections.abc import Callable

import grpc
import pyarrow as pa
import pytest
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from support.bigquery import ORDERS, call, read_all, statement
from support.metadata_server import MetadataServer, closed_port
from support.waiting import soon

from agnes_mcp.calls.call import cancelled
from agnes_mcp.errors import KINDS, AgnesError
from agnes_mcp.sources.bigquery.errors import FOREIGN, Complaint, as_error, read_complaint, translate
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

FILTERED = statement(ORDERS, ["id"], "WHERE country = 'CZ'")
PLAIN = statement(ORDERS, ["id"])


def schema_error(source: BigQuerySource, timeout_s: float = 60) -> AgnesError:
    with pytest.raises(AgnesError) as caught:
        source.schema(ORDERS, call(timeout_s=timeout_s))
    return caught.value


# Tokens that BigQuery refuses


@pytest.fixture
def guarded(bq: StandIn, metadata: MetadataServer) -> MetadataServer:
    """A stand-in that wants the tokens of the metadata server."""
    bq.tokens.required = True
    bq.tokens.accept_prefix("ya29.canary-")
    return metadata


@pytest.fixture
def guarded_source(guarded: MetadataServer, open_source: Callable[..., BigQuerySource]) -> BigQuerySource:
    return open_source()


def test_one_token_serves_rest_and_storage_read(
    guarded_source: BigQuerySource, guarded: MetadataServer, bq: StandIn
) -> None:
    read_all(guarded_source, ORDERS, FILTERED)
    read_all(guarded_source, ORDERS, PLAIN)
    assert guarded.token_requests == 1
    assert {request.token for request in bq.requests} == {"ya29.canary-1"}


@pytest.mark.parametrize("asked", [PLAIN, FILTERED], ids=["direct read", "query job"])
def test_a_token_that_expires_between_two_requests_is_replaced_once(
    guarded_source: BigQuerySource, guarded: MetadataServer, bq: StandIn, asked: object
) -> None:
    guarded_source.schema(ORDERS, call())
    bq.tokens.expire("ya29.canary-1")
    rows, _ = read_all(guarded_source, ORDERS, asked)  # type: ignore[arg-type] # a Statement
    assert rows.num_rows in (500, 1000)
    assert guarded.token_requests == 2


def test_a_token_that_expires_just_before_the_rows_is_replaced_once(
    guarded_source: BigQuerySource, guarded: MetadataServer, bq: StandIn
) -> None:
    """gRPC does not refresh by itself."""
    schema = guarded_source.schema(ORDERS, call())
    price = guarded_source.price(ORDERS, schema, PLAIN, call())
    with guarded_source.read(ORDERS, schema, PLAIN, price, call()) as reading:
        assert len(reading.schema) == 1  # the session is open
        bq.tokens.expire("ya29.canary-1")
        assert sum(batch.num_rows for batch in reading) == 1000
    assert guarded.token_requests == 2


def test_a_token_that_is_never_accepted_costs_one_refresh_and_one_retry(
    guarded_source: BigQuerySource, guarded: MetadataServer, bq: StandIn
) -> None:
    bq.faults.add(Fault("tables.get", status=401, times=None))
    error = schema_error(guarded_source)
    assert error.kind == "auth_failed"
    assert guarded.token_requests == 2
    assert len(bq.requests.named("tables.get")) == 2


def test_storage_read_that_never_accepts_a_token_is_auth_failed(
    guarded_source: BigQuerySource, guarded: MetadataServer, bq: StandIn
) -> None:
    bq.faults.add(Fault("CreateReadSession", grpc_code="UNAUTHENTICATED", times=None))
    with pytest.raises(AgnesError) as caught:
        read_all(guarded_source, ORDERS, PLAIN)
    assert caught.value.kind == "auth_failed"
    assert len(bq.requests.named("CreateReadSession")) == 2
    assert guarded.token_requests == 2


def test_a_hundred_callers_share_one_token(guarded_source: BigQuerySource, guarded: MetadataServer) -> None:
    barrier, schemas = threading.Barrier(100), []

    def ask() -> None:
        barrier.wait(60)
        schemas.append(guarded_source.schema(ORDERS, call()))

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(schemas) == 100
    assert guarded.token_requests == 1


def test_no_token_without_a_metadata_server_is_one_bounded_error(
    guarded_source: BigQuerySource, guarded: MetadataServer
) -> None:
    guarded.stop()
    with soon():
        error = schema_error(guarded_source)
    assert error.kind == "auth_failed"
    assert "metadata server unreachable" in error.message
    guarded.start_again()
    assert guarded_source.schema(ORDERS, call()).rows == 1000


def test_no_token_in_any_error_chain_or_log(
    guarded_source: BigQuerySource, bq: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for status in (400, 401, 403, 404, 500):
        bq.faults.add(Fault("tables.get", status=status, message="Bearer ya29.canary-1 was refused", times=4))
        error = schema_error(guarded_source)
        assert "canary" not in "".join(traceback.format_exception(error)) + repr(error.details) + error.hint
        assert error.__cause__ is None
        assert error.__context__ is None
        bq.faults.clear()
    assert "canary" not in caplog.text
    assert "canary" not in str(guarded_source.health())


def test_a_stand_in_is_asked_without_any_token_where_no_metadata_server_is_named(
    open_source: Callable[..., BigQuerySource], bq: StandIn
) -> None:
    source = open_source()
    read_all(source, ORDERS, PLAIN)
    assert {request.token for request in bq.requests} == {""}
    assert source.health()["token"]["mode"] == "anonymous"


CLEAR = [
    {"api_endpoint": "http://bigquery.example"},
    {"api_endpoint": "https://bigquery.example", "storage_endpoint": "grpc://bigquery.example:443"},
]


@pytest.mark.parametrize("given", CLEAR)
def test_a_token_never_travels_in_the_clear_to_another_machine(
    open_source: Callable[..., BigQuerySource], given: dict[str, str], metadata: MetadataServer
) -> None:
    assert schema_error(open_source(**given)).kind == "config_invalid"
    assert metadata.requests == []


# Refusals


REST_FAULTS = [
    (400, "invalid", "bq_bad_request", 1),
    (401, "authError", "auth_failed", 1),
    (403, "accessDenied", "bq_forbidden", 1),
    (403, "quotaExceeded", "bq_rate_limited", 1),
    (403, "rateLimitExceeded", "bq_rate_limited", 4),
    (403, "responseTooLarge", "bq_response_too_large", 1),
    (404, "notFound", "bq_not_found", 1),
    (409, "duplicate", "bq_upstream_error", 1),
    (412, "conditionNotMet", "bq_bad_request", 1),
    (429, "rateLimitExceeded", "bq_rate_limited", 4),
    (500, "internalError", "bq_upstream_error", 4),
    (501, "notImplemented", "bq_upstream_error", 1),
    (502, "badGateway", "bq_upstream_error", 4),
    (503, "backendError", "bq_upstream_error", 4),
    (504, "backendError", "bq_upstream_error", 4),
]


@pytest.mark.parametrize(("status", "reason", "kind", "tries"), REST_FAULTS)
def test_every_refusal_has_its_kind_and_only_passing_ones_are_tried_again(
    source: BigQuerySource, bq: StandIn, status: int, reason: str, kind: str, tries: int
) -> None:
    message = "The whole story, " + "however long, " * 60
    bq.faults.add(Fault("tables.get", status=status, reason=reason, message=message, times=None))
    error = schema_error(source)
    assert error.kind == kind
    if status != 401:  # BigQuery itself shortens that one
        assert message.strip() in error.message
    assert error.hint
    assert len(bq.requests.named("tables.get")) == tries


REFUSED = [
    (
        "Access Denied: Project my-project: User does not have bigquery.jobs.create permission in project my-project.",
        "cross_project_forbidden",
        {"permission": "bigquery.jobs.create", "project": "my-project"},
        "billing_project",
    ),
    (
        "Access Denied: Table my-project:my_dataset.orders: Permission bigquery.tables.getData denied on table "
        "my-project:my_dataset.orders (or it may not exist).",
        "bq_forbidden",
        {"permission": "bigquery.tables.getData", "table": "my-project:my_dataset.orders"},
        "the permission bigquery.tables.getData on my-project:my_dataset.orders",
    ),
    (
        "Caller does not have required permission to use project other-project. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role",
        "cross_project_forbidden",
        {"project": "other-project"},
        "billing_project",
    ),
    ("Access Denied: you shall not pass", "bq_forbidden", {}, "the role BigQuery Data Viewer on this table"),
]


@pytest.mark.parametrize(("message", "kind", "details", "hint"), REFUSED)
def test_a_refusal_names_permission_and_project_and_who_can_help(
    source: BigQuerySource, bq: StandIn, message: str, kind: str, details: dict[str, str], hint: str
) -> None:
    bq.faults.add(Fault("tables.get", status=403, message=message))
    error = schema_error(source)
    assert error.kind == kind
    assert details.items() <= error.details.items()
    assert hint in error.hint


BAD_REQUESTS = [
    ("Unrecognized name: contry; Did you mean country? at [1:42]", "names as `schema` shows"),
    ("Syntax error: Unexpected keyword ORDER at [1:8]", "another alias"),
    ('Table "x" must be qualified with a dataset (e.g. dataset.table).', "no table in WHERE"),
    ("No matching signature for operator = for argument types: INT64, STRING at [1:9]", "its own type"),
    ('Could not cast literal "x" to type DATE at [1:5]', "its own type"),
    ("Function not found: NOSUCH at [1:5]", "GoogleSQL"),
    ("Cannot query over table 'p.d.t' without a filter over column(s) 'day'", "partition column"),
    ("Resources exceeded during query execution", "ORDER BY"),
    ("Something else entirely", "as the message says"),
]


@pytest.mark.parametrize(("message", "hint"), BAD_REQUESTS)
def test_the_hint_fits_what_bigquery_complains_about(message: str, hint: str) -> None:
    error = as_error(Complaint(400, "invalidQuery", message))
    assert error.kind == "bq_bad_request"
    assert hint in error.hint
    if "[1:" in message:
        assert error.details["line"] == 1
        assert error.details["column"] == int(message.split("[1:")[1].split("]")[0])


def test_a_long_retry_after_is_told_instead_of_waited_for(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(Fault("tables.get", status=429, headers={"Retry-After": "3600"}, times=None))
    with soon():
        error = schema_error(source)
    assert error.kind == "bq_rate_limited"
    assert error.details["retry_after_seconds"] == 3600


def test_waiting_to_try_again_ends_when_the_call_is_stopped(source: BigQuerySource, bq: StandIn) -> None:
    bq.faults.add(Fault("tables.get", status=503, headers={"Retry-After": "9"}, times=None))
    on = call()
    threading.Timer(0.3, on.stop, [cancelled()]).start()
    with pytest.raises(AgnesError) as caught:
        source.schema(ORDERS, on)
    assert caught.value.kind == "cancelled"
    assert len(bq.requests.named("tables.get")) == 1


# The connection


@pytest.mark.parametrize("reset", ["before", "body"])
def test_a_connection_that_is_cut_is_tried_again(source: BigQuerySource, bq: StandIn, reset: str) -> None:
    bq.faults.add(Fault("tables.get", reset=reset))
    assert source.schema(ORDERS, call()).rows == 1000
    bq.faults.add(Fault("tables.get", reset=reset, times=None))
    error = schema_error(source)
    assert error.kind == "bq_upstream_error"


def test_a_refused_connection_is_unreachable(open_source: Callable[..., BigQuerySource]) -> None:
    with closed_port() as port:
        error = schema_error(open_source(api_endpoint=f"http://127.0.0.1:{port}"))
    assert error.kind == "bq_unreachable"
    assert "api_endpoint" in error.hint


def test_a_server_that_says_nothing_is_bounded_by_the_deadline(open_source: Callable[..., BigQuerySource]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = open_source(api_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with soon():
            error = schema_error(source, timeout_s=1)
    assert error.kind == "timeout"


def test_a_server_that_says_nothing_is_unreachable_in_the_end(
    open_source: Callable[..., BigQuerySource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agnes_mcp.sources.bigquery.requests.REQUEST_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = schema_error(open_source(api_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert error.kind == "bq_unreachable"
    assert "no answer in time" in error.message


def test_an_answer_that_is_not_json_is_an_upstream_error(open_source: Callable[..., BigQuerySource]) -> None:
    with MetadataServer() as server:
        server.reply.body, server.reply.content_type = b"<html>Sign in to the hotel</html>", "text/html"
        error = schema_error(open_source(api_endpoint=f"http://{server.host}"))
    assert error.kind == "bq_upstream_error"


# Google's exceptions


def exceptions_of(module: object) -> list[type[Exception]]:
    found = vars(module).values()
    return sorted(
        {c for c in found if inspect.isclass(c) and issubclass(c, Exception) and c.__module__ == module.__name__},  # type: ignore[attr-defined] # a module
        key=lambda c: c.__name__,
    )


# Only for the asynchronous REST transport, which is not used.
NOT_RAISED = {api.AsyncRestUnsupportedParameterError}


def made(kind: type[Exception]) -> Exception:
    if issubclass(kind, api.RetryError):
        return kind("Timeout of 1s exceeded", api.ServiceUnavailable("busy"))
    return kind("something happened")


@pytest.mark.parametrize("kind", exceptions_of(api), ids=lambda kind: str(kind.__name__))
def test_every_exception_of_api_core_is_translated(kind: type[Exception]) -> None:
    error = translate(made(kind), "reading rows")
    assert error.kind in KINDS
    assert error.kind.startswith("bq_") or error.kind in ("auth_failed", "cancelled", "cross_project_forbidden")
    assert error.hint
    assert kind in NOT_RAISED or issubclass(kind, FOREIGN)


@pytest.mark.parametrize("kind", exceptions_of(auth), ids=lambda kind: str(kind.__name__))
def test_every_exception_of_google_auth_is_translated(kind: type[Exception]) -> None:
    reauth = issubclass(kind, auth.ReauthFailError)  # takes only a message
    error = translate(kind("no token") if reauth else kind("no token", {"access_token": "ya29.canary-leak"}))
    assert error.kind == "auth_failed"
    assert "canary" not in str(error)
    assert issubclass(kind, FOREIGN)


def test_every_grpc_status_is_translated() -> None:
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        error = translate(api.from_grpc_status(code, "something happened"))
        assert error.kind in KINDS, code


OTHERS = [
    (requests.ConnectionError("Connection aborted."), "bq_upstream_error"),
    (requests.ConnectionError("[Errno 111] Connection refused"), "bq_unreachable"),
    (requests.Timeout("late"), "bq_unreachable"),
    (requests.exceptions.SSLError("bad certificate"), "bq_unreachable"),
    (requests.exceptions.ChunkedEncodingError("cut"), "bq_upstream_error"),
    (urllib3.exceptions.ProtocolError("cut"), "bq_upstream_error"),
    (pa.lib.ArrowInvalid("not a record batch"), "bq_upstream_error"),
    (ConnectionRefusedError(111, "refused"), "bq_unreachable"),
    (ConnectionResetError(104, "reset"), "bq_upstream_error"),
    (TimeoutError(), "bq_unreachable"),
]


@pytest.mark.parametrize(("error", "kind"), OTHERS, ids=lambda value: str(value)[:40])
def test_what_a_connection_raises_is_translated(error: Exception, kind: str) -> None:
    assert isinstance(error, FOREIGN)
    assert translate(error).kind == kind


def test_bigquerys_own_message_is_taken_not_the_librarys_wrapping() -> None:
    error = api.from_http_status(
        400,
        "POST https://bigquery.example/jobs?prettyPrint=false: Bad",
        errors=[{"reason": "invalid", "message": "Why"}],
    )
    assert read_complaint(error).message == "Why"
    assert read_complaint(api.BadRequest("GET https://bigquery.example/x: Only this")).message == "Only this"


def test_health_says_what_went_wrong_last_without_a_network(source: BigQuerySource, bq: StandIn) -> None:
    assert "last_error" not in source.health()
    bq.faults.add(Fault("tables.get", status=404))
    schema_error(source)
    requests_before = len(bq.requests)
    assert source.health()["last_error"] == "bq_not_found"
    assert len(bq.requests) == requests_before
