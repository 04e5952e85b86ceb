"""What a 403 is about, who can help, and whose names are told."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import requests
from google.api_core import exceptions as api
from support.bigquery import ORDERS, call, read_all, statement, table

from agnes_mcp.errors import AgnesError
from agnes_mcp.models import Price
from agnes_mcp.sources.bigquery.errors import Complaint, as_error, read_complaint
from agnes_mcp.sources.bigquery.refusals import Known
from agnes_mcp.sources.bigquery.source import BigQuerySource
from agnes_mcp.stand_in import Fault, StandIn

KNOWN = Known(frozenset({"my-project.my_dataset.my_table", "my-project.my_dataset.events_*"}), frozenset({"SSN", "id"}))
DENIED = "Access Denied: BigQuery BigQuery: "
TAGGED = DENIED + 'User does not have permission to access policy tag "High : ssn" on column '
ENABLE = "has not been used in project 123456789012 before or it is disabled. Enable it by visiting"
PERIMETER = "Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: k1lV-_Pz"

#: Reason, message, kind, a part of the hint, and details.
CASES: dict[str, tuple[str, str, str, str, dict[str, Any]]] = {
    "policy tag": (
        "accessDenied", TAGGED + "my-project.my_dataset.my_table.person.ssn.", "bq_forbidden",
        "protects 'person.ssn': leave it out", {"columns": ["person.ssn"]},
    ),
    "policy tags": (
        "accessDenied",
        f"{DENIED}User has neither fine-grained reader nor masked get permission to get data protected by policy tag "
        '"High : ssn" on columns my-project.my_dataset.my_table.ssn, my-project.my_dataset.my_table.id.',
        "bq_forbidden", "protects 'ssn', 'id'", {"columns": ["ssn", "id"]},
    ),
    "policy tag behind a view": (
        "accessDenied", TAGGED + "my-project.hr.people.ssn.", "bq_forbidden", "protects 'SSN'", {"columns": ["SSN"]},
    ),
    "policy tag on a column that the view calls otherwise": (
        "accessDenied", TAGGED + "my-project.hr.people.salary.", "bq_forbidden", "one after the other", {},
    ),
    "drive": (
        "accessDenied", f"{DENIED}Permission denied while getting Drive credentials.", "bq_forbidden", "scopes",
        {},
    ),
    "drive, as it globs": (
        "accessDenied", f"{DENIED}Permission denied while globbing file pattern.", "bq_forbidden", "Google Drive", {},
    ),
    "drive, without a token": (
        "accessDenied", f"{DENIED}No OAuth token with Google Drive scope was found.", "bq_forbidden", "scopes", {},
    ),
    "scopes": (
        "insufficientPermissions", "Request had insufficient authentication scopes.", "bq_forbidden",
        "roles are another matter", {},
    ),
    "scopes over gRPC": (
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "no", "bq_forbidden", "its access scopes", {},
    ),
    "bucket": (
        "accessDenied",
        f"{DENIED}bot@my-project.iam.gserviceaccount.com does not have storage.objects.list access to the bucket.",
        "bq_forbidden", "a bucket of Cloud Storage", {"permission": "storage.objects.list"},
    ),
    "key": ("accessDenied", "Cloud KMS key is not accessible: projects/p", "bq_forbidden", "Cloud KMS", {}),
    "connection": (
        "accessDenied", "User does not have bigquery.connections.use permission for connection my-connection.",
        "bq_forbidden", "through a connection", {"permission": "bigquery.connections.use"},
    ),
    "who pays for requests": (
        "USER_PROJECT_DENIED", "Caller does not have required permission to use project my-project.",
        "cross_project_forbidden", "BigQuery Job User", {"project": "my-project"},
    ),
    "tags on two columns": (
        "accessDenied",
        f"{DENIED}User does not have permission to access data protected by policy tag \"t\" on columns "
        "my-project.my_dataset.my_table.ssn and my-project.my_dataset.my_table.id.",
        "bq_forbidden", "protects 'ssn', 'id'", {"columns": ["ssn", "id"]},
    ),
    "bare columns": (
        "accessDenied", f"{DENIED}User does not have permission to access columns ssn, id protected by policy tags.",
        "bq_forbidden", "protects 'ssn', 'id'", {"columns": ["ssn", "id"]},
    ),
    "billing of a number": (
        "forbidden", "This API method requires billing to be enabled. Please enable billing on project #123456789.",
        "bq_forbidden", "enables billing", {},
    ),
    "not enabled": (
        "forbidden", "The project my-project has not enabled BigQuery.", "cross_project_forbidden",
        "The BigQuery API is disabled in project my-project", {"project": "my-project"},
    ),
    "table in its location": (
        "accessDenied",
        "Access Denied: Table my-project:my_dataset.my_table: User does not have permission to query table "
        "my-project:my_dataset.my_table, or perhaps it does not exist in location US.",
        "bq_forbidden", "on my-project:my_dataset.my_table", {"table": "my-project:my_dataset.my_table"},
    ),
    "billing": (
        "billingNotEnabled", f"{DENIED}Billing has not been enabled for this project.", "bq_forbidden",
        "enables billing", {},
    ),
    "billing account": (
        "", "The billing account for the owning project is disabled in state absent", "bq_forbidden", "enables billing",
        {},
    ),
    "api": (
        "accessNotConfigured", f"BigQuery API {ENABLE}", "cross_project_forbidden", "enable bigquery.googleapis.com",
        {},
    ),
    "storage api": (
        "", f"BigQuery Storage API {ENABLE}", "cross_project_forbidden", "enable bigquerystorage.googleapis.com", {},
    ),
    "perimeter": (
        "policyViolation", f"VPC Service Controls: {PERIMETER}", "bq_forbidden", "by the identifier k1lV-_Pz",
        {"vpc_identifier": "k1lV-_Pz"},
    ),
    "perimeter over gRPC": ("", PERIMETER, "bq_forbidden", "ingress or egress", {"vpc_identifier": "k1lV-_Pz"}),
    "dataset": (
        "accessDenied",
        "Access Denied: Dataset my-project:my_dataset: Permission bigquery.tables.list denied on dataset "
        "my-project:my_dataset (or it may not exist).",
        "bq_forbidden", "bigquery.tables.list on dataset my-project:my_dataset", {"permission": "bigquery.tables.list"},
    ),
    "jobs": (
        "accessDenied",
        "Access Denied: Project my-project: User does not have bigquery.jobs.create permission in project my-project.",
        "cross_project_forbidden", "BigQuery Job User", {"permission": "bigquery.jobs.create", "project": "my-project"},
    ),
    "table": (
        "accessDenied",
        "Access Denied: Table my-project:my_dataset.my_table: User does not have permission to query table "
        "my-project:my_dataset.my_table, or perhaps it does not exist.",
        "bq_forbidden", "on my-project:my_dataset.my_table", {"table": "my-project:my_dataset.my_table"},
    ),
    "table behind a view": (
        "accessDenied",
        "Access Denied: Table my-project:hr.people: User does not have permission to query table "
        "my-project:hr.people, or perhaps it does not exist.",
        "bq_forbidden", "authorises the view", {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_says_what_it_is_about_and_who_can_help(case: str) -> None:
    reason, message, kind, hint, details = CASES[case]
    error = as_error(Complaint(403, reason, message), "reading rows", {}, KNOWN)
    assert (error.kind, {**error.details, "reason": reason}) == (kind, {**error.details, **details, "reason": reason})
    assert hint in error.hint
    assert "hr" not in f"{error.message} {error.hint} {error.details}".replace(".", " ").split()


@pytest.mark.parametrize("shape", ["errors", "details", "both", "status alone"])
def test_a_reason_is_read_from_every_shape(shape: str) -> None:
    """The older shape has `errors`, the newer `details`; both come, and both name their own reason."""
    kind = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
    }
    content: dict[str, Any] = {"code": 403, "message": "No.", "status": "PERMISSION_DENIED"}
    if shape != "details":
        reason = "accessNotConfigured" if shape == "errors" else "forbidden"
        content["errors"] = [{"message": "No.", "domain": "global", "reason": reason}]
    if shape in ("details", "both"):
        content["details"] = [kind]
    raised = api.format_http_response_error(_response(content), "GET", "https://bigquery.example/x", {"error": content})
    error = as_error(read_complaint(raised), "", {}, KNOWN)
    assert ("is disabled" in error.hint) is (shape != "status alone")


def _response(content: dict[str, Any]) -> requests.Response:
    response = requests.Response()
    response.status_code = 403
    response._content = json.dumps({"error": content}).encode()
    response.request = requests.Request("GET", "https://bigquery.example/x").prepare()
    return response


def test_no_two_refusals_have_one_hint() -> None:
    told = {
        name: as_error(Complaint(403, reason, message), "", {}, KNOWN).hint
        for name, (reason, message, *_) in CASES.items()
        if name in ("policy tag", "drive", "billing", "api", "perimeter", "dataset", "jobs", "table")
    }
    assert len(set(told.values())) == 8


MISSING = {
    "Not found: Table my-project:my_dataset.my_table was not found in location US": "is registered here",
    "": "is registered here",
    "Not found: Dataset my-project:my_dataset was not found in location US": "no dataset of that name",
    "Not found: Project my-project": "no project of that name",
    "Not found: Job my-project:US.agnes_mcp_0123": "does not know the job",
    "Not found: Routine my-project:my_dataset.fn": "keeps the view",
    "Not found: Table my-project:hr.people was not found in location US": "keeps the view",
    "Not found: Dataset my-project:hr was not found in location US": "keeps the view",
}


@pytest.mark.parametrize("message", MISSING)
def test_the_next_step_fits_what_is_missing(message: str) -> None:
    error = as_error(Complaint(404, "notFound", message), "reading rows", {}, KNOWN)
    assert error.kind == "bq_not_found"
    assert MISSING[message] in error.hint


FOREIGN = {
    "Not found: Table my-project:hr.people was not found in location US": "Not found: another table was not found",
    "Not found: Dataset my-project:hr": "Not found: another dataset",
    "Access Denied: Table other-project:hr.people: no.": "Access Denied: another table: no.",
    "Access Denied: Table example.com:other:hr.people: no.": "Access Denied: another table: no.",
    "in view `other-project.hr.people_v`, as": "in another table, as",
    "Cannot query over table 'my-project.hr.people' without a filter": "over table 'another table'",
}
OWN = (
    "Not found: Table my-project:my_dataset.my_table was not found in location US",
    "Access Denied: Dataset my-project:my_dataset: no bigquery.tables.get on dataset my-project:my_dataset",
    "Cannot read my-project:my_dataset.events_20260101 now",
    "Unrecognized name: person.address.street at [1:42]",
    "Not found: Job my-project:US.agnes_mcp_0123",
    "See https://cloud.google.com/bigquery/docs/error-messages",
)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_names_that_were_not_asked_for_are_in_the_log_only(caplog: pytest.LogCaptureFixture, status: int) -> None:
    for message, shown in FOREIGN.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            error = as_error(Complaint(status, "", message), "reading rows", {}, KNOWN)
        said = f"{error.message} {error.hint} {error.details}"
        assert shown in said
        assert "people" not in said
        assert "people" in caplog.text or "hr" in caplog.text
    for message in OWN:
        assert message.rstrip(".") in as_error(Complaint(status, "", message), "", {}, KNOWN).message


def test_a_tagged_column_is_named_on_each_way(source: BigQuerySource, bq: StandIn) -> None:
    bq.catalog.table("my-project", "my_dataset", "orders").policy_tags = {"amount": "high"}
    schema = source.schema(ORDERS, call())
    ways = (
        lambda: source.preview(ORDERS, schema, ["id", "amount"], 3, call()),
        lambda: source.price(ORDERS, schema, statement(ORDERS, ["id"], "WHERE amount > 0"), call()),
        lambda: read_all(
            source, ORDERS, statement(ORDERS, ["amount"]), price=Price(scan_bytes=1, reserved_bytes=10**8)
        ),
    )
    for way in ways:
        with pytest.raises(AgnesError) as caught:
            way()
        assert (caught.value.kind, caught.value.details["columns"]) == ("bq_forbidden", ["amount"])
        assert "'amount': leave it out" in caught.value.hint
    free = source.preview(ORDERS, schema, ["id"], 3, call())
    assert free is not None
    assert free.num_rows == 3


def test_a_view_tells_nothing_of_what_it_reads(source: BigQuerySource, bq: StandIn) -> None:
    hidden = bq.create_table("hr", "people", "id INT64, salary INT64", rows=[{"id": 1, "salary": 2}])
    bq.create_view("my_dataset", "people_v", "SELECT id, salary AS pay FROM hr.people")
    view = table("people_v")
    schema = source.schema(view, call())
    asked = statement(view, ["id", "pay"])
    hidden.policy_tags = {"salary": "high"}
    for forbid in (False, True):
        hidden.forbidden = forbid
        with pytest.raises(AgnesError) as caught:
            source.price(view, schema, asked, call())
        said = f"{caught.value.message} {caught.value.hint} {caught.value.details}"
        assert caught.value.kind == "bq_forbidden"
        assert not {"hr.people", "salary"} & set(said.replace(":", ".").replace("'", " ").split())
        assert "hr.people" not in said


@pytest.mark.parametrize("reason", ["billingNotEnabled", "accessNotConfigured", "policyViolation"])
def test_a_project_that_may_do_nothing_is_told_apart(source: BigQuerySource, bq: StandIn, reason: str) -> None:
    bq.faults.add(Fault("tables.get", reason=reason, times=None))
    with pytest.raises(AgnesError) as caught:
        source.schema(ORDERS, call())
    expected = {"billingNotEnabled": "billing", "accessNotConfigured": "disabled", "policyViolation": "perimeter"}
    assert expected[reason] in caught.value.hint
