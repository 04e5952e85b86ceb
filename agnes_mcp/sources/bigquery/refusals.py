"""What a 403 of BigQuery is about, and who can do what about it; and whose names a complaint may tell.

Texts are BigQuery's own: https://cloud.google.com/bigquery/docs/error-messages, …/docs/column-level-security,
https://cloud.google.com/vpc-service-controls/docs/troubleshooting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agnes_mcp.errors import AgnesError

#: Permissions on the project that runs the jobs, not on the data.
_TO_RUN = ("bigquery.jobs.create", "bigquery.readsessions.create", "serviceusage.services.use")
_SERVICES = ("bigquery", "serviceusage", "storage", "cloudkms", "datacatalog", "roles")
_PERMISSION = re.compile(rf"\b((?:{'|'.join(_SERVICES[:-1])})(?:\.(?!googleapis)[A-Za-z]+){{2}})\b")
_PROJECT = re.compile(r"\bproject[s]?[ /:'\"]+([a-z][a-z0-9-]{4,28}[a-z0-9])", re.IGNORECASE)
_TABLE = re.compile(r"\b(?:Table|Dataset|View) ([a-z][\w.:-]+[\w-])")
_TAGGED = re.compile(r"\b(?:on|access) columns? ((?:[^\s,;]+(?:, (?:and )?| and |$|(?=\W)))+)", re.IGNORECASE)
_AND = re.compile(r",\s*(?:and )?| and ")
_PERIMETER = re.compile(r"vpcServiceControlsUniqueIdentifier[=:]?\s*([\w-]+)")
_API = re.compile(r"(BigQuery[A-Za-z ]*) API", re.IGNORECASE)
#: A name with its project, in either spelling, and the word before it, which says what is named.
_QUALIFIED = re.compile(
    r"(?P<what>(?<![\w.])(?:table|dataset|view|columns?) |(?<![\w/.:@-]))"
    r"(?P<name>`?[a-z][a-z0-9.-]*[a-z0-9](?::[a-z][a-z0-9-]*)?`?[:.]`?[^\s'\"`,;()\[\]/]+`?)",
    re.IGNORECASE,
)
ANOTHER_TABLE, ANOTHER_DATASET, ANOTHER_COLUMN = "another table", "another dataset", "a column of another table"
_SAYING_LITTLE = frozenset({"", "forbidden", "insufficientPermissions", "badRequest"})
_KEEPER = "Whoever keeps this instance"
_ADMINISTRATOR = "hoever administers BigQuery"


class Known(NamedTuple):
    """What an error may name: places (`project.dataset.table`), and the columns of what was asked for."""

    places: frozenset[str]
    columns: frozenset[str] = frozenset()


NOTHING = Known(frozenset())


def asks_for_filter(message: str) -> bool:
    """Whether a statement was refused as it leaves out a filter that a table requires, as those are that find it."""
    return "without a filter over column" in message


def withhold(message: str, known: Known) -> str:
    """The message without the names of tables, datasets and columns that are not known to who asked."""
    places = {place.replace(":", ".") for place in known.places}
    columns = {column.casefold(): column for column in known.columns}
    return _QUALIFIED.sub(lambda found: _shown(found["what"], found["name"], places, columns), message)


def _shown(what: str, written: str, places: set[str], columns: Mapping[str, str]) -> str:
    bare = written.rstrip(".:")
    project, colon, _ = bare.replace("`", "").partition(":")
    dotted = bare.replace("`", "").replace(":", ".")
    parts = dotted.split(".")
    if not _is_place(what, parts, bool(colon), places) or _is_known(dotted, places):
        return what + written
    depth = len(parts) - (project.count(".") + 1 if colon and "." in project else 0)
    tail = written[len(bare) :]
    if depth > 3:
        return (f"{what}{columns[parts[-1].casefold()]}" if parts[-1].casefold() in columns else ANOTHER_COLUMN) + tail
    return (ANOTHER_TABLE if depth == 3 else ANOTHER_DATASET) + tail


def _is_place(what: str, parts: list[str], colon: bool, places: set[str]) -> bool:
    """Whether it names a table or dataset, and not a permission, a path of columns, or a job."""
    if parts[0].casefold() in _SERVICES or "googleapis" in parts:
        return False
    if colon:
        return parts[1] != "US" or bool(what)
    own_project = any(place.startswith(f"{parts[0]}.") for place in places)
    return len(parts) > 2 and ("-" in parts[0] or own_project or bool(what))


def _is_known(dotted: str, places: set[str]) -> bool:
    """Whether it is one of the places, its dataset, a column of it, or a shard."""
    return any(
        dotted == place
        or place.startswith(f"{dotted}.")
        or dotted.startswith(f"{place}.")
        or (place.endswith("*") and dotted.startswith(place[:-1]))
        for place in places
    )


def reason_of(named: object, in_details: str | None) -> str:
    """The reason of the older shape (`errors`), unless it says little and the newer one (`details`) more."""
    reason = str(named or "")
    return str(in_details or reason) if reason in _SAYING_LITTLE else reason


def explain(message: str, reason: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    """The kind of a refusal and the next step; what it is about goes into `found`: permission, project, table,
    columns, row_access_policies."""
    for name, pattern in (("permission", _PERMISSION), ("project", _PROJECT), ("table", _TABLE)):
        if (match := pattern.search(message)) and match[1] != "another":
            found[name] = match[1]
    folded = message.casefold()
    for recognises, told in _CASES:
        if recognises(folded, reason):
            return told(message, found, known)
    to_use = reason == "USER_PROJECT_DENIED" or "permission to use project" in folded
    if found.get("permission") in _TO_RUN or "serviceusage" in folded or to_use:
        return _no_jobs(found)
    return "bq_forbidden", _missing_permission(message, found)


def _no_jobs(found: Mapping[str, Any]) -> tuple[str, str]:
    where = f" in {found['project']!r}" if "project" in found else ""
    return "cross_project_forbidden", (
        f"This identity may not run jobs{where}. Set `data_source.bigquery.billing_project` to a project where it "
        "has the role BigQuery Job User; the data may stay in another project."
    )


def _missing_permission(message: str, found: Mapping[str, Any]) -> str:
    need = f"the permission {found['permission']}" if "permission" in found else "the role BigQuery Data Viewer"
    on = found.get("table") or (f"project {found['project']}" if "project" in found else "this table")
    if "table" not in found and any(name in message for name in (ANOTHER_TABLE, ANOTHER_DATASET)):
        on = "what this view reads (the server's log names it), or authorises the view there"
    return f"W{_ADMINISTRATOR} grants this server's identity {need} on {on}."


def _tagged(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    named = _TAGGED.search(message)
    columns = [
        column
        for written in _AND.split(named[1] if named else "")
        if (column := _column_of(written.strip("`'\". ").replace(":", "."), known))
    ]
    if not columns:
        return "bq_forbidden", (
            "A column that is read here is protected by a policy tag. Select other columns, one after the other if "
            "need be, and leave the protected one out of `where` too."
        )
    found["columns"] = list(dict.fromkeys(columns))
    listed = ", ".join(repr(column) for column in found["columns"][:5])
    return "bq_forbidden", (
        f"A policy tag protects {listed}: leave it out of `select`, `where`, `group_by` and `order_by`, and name the "
        f"other columns in `select`; or w{_ADMINISTRATOR} gives this server's identity the role Fine-Grained "
        "Reader."
    )


def _column_of(written: str, known: Known) -> str:
    """The column's name in one of `own`; a bare one stays; of another table's there is none to tell."""
    for place in known.places:
        if written.startswith(f"{place.replace(':', '.')}."):
            return written[len(place) + 1 :]
    return written if re.fullmatch(r"\w+", written) and written.casefold() not in ("a", "another") else ""


def _in_drive(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    return "bq_forbidden", (
        f"This table is a file in Google Drive. {_KEEPER} adds Drive's read-only scope (…/auth/drive.readonly) to "
        "`data_source.bigquery.scopes`, and the file is shared with this server's identity."
    )


def _too_narrow(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    return "bq_forbidden", (
        f"The token's scopes do not reach so far; roles are another matter. {_KEEPER} gives the machine the scope "
        "cloud-platform (its access scopes), logs in again with it, or adds what is missing to "
        "`data_source.bigquery.scopes`."
    )


def _beside_bigquery(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    """Permissions on what BigQuery itself reads for a table."""
    text = message.casefold()
    where = next(named for word, named in _BESIDE if word in text)
    need = found.get("permission", "the permission that is named")
    return "bq_forbidden", (
        f"This table is read from {where}: whoever administers that grants {need} on it to the identity that is named, "
        "or else to this server's."
    )


def _no_billing(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    return "bq_forbidden", (
        "Billing is disabled in the project that runs the jobs. Its owner enables billing for it; or whoever keeps "
        "this instance sets `data_source.bigquery.billing_project` to a project that has a billing account."
    )


def _no_api(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    api = named[1].strip() if (named := _API.search(message)) else "BigQuery"
    service = "bigquerystorage" if "storage" in api.casefold() else "bigquery"
    where = f" in project {found['project']}" if "project" in found else " in the project that runs the jobs"
    return "cross_project_forbidden", (
        f"The {api} API is disabled{where}. Its owner enables it (`gcloud services enable {service}.googleapis.com`) "
        "and waits a few minutes."
    )


def _outside_perimeter(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    if named := _PERIMETER.search(message):
        found["vpc_identifier"] = named[1]
    by = f" by the identifier {found['vpc_identifier']}" if "vpc_identifier" in found else ""
    return "bq_forbidden", (
        "A perimeter of VPC Service Controls keeps this server out; no permission on the data changes that. Whoever "
        f"administers the organisation finds the refusal{by} in the audit log, and lets this server's identity and "
        "network in with an ingress or egress rule."
    )


def _some_rows(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    found["row_access_policies"] = True
    return "bq_forbidden", (
        "Row access policies let this server's identity see some rows only, and those only by a query: `scan` reads "
        "them."
    )


def _of_dataset(message: str, found: dict[str, Any], known: Known) -> tuple[str, str]:
    need = found.get("permission", "bigquery.tables.list")
    dataset = str(found.get("table", ""))
    on = f"dataset {dataset}" if ":" in dataset or "." in dataset else "the dataset"
    return "bq_forbidden", (
        f"W{_ADMINISTRATOR} grants this server's identity the permission {need} on {on}, as the role BigQuery Data "
        "Viewer on the dataset has it."
    )


_BESIDE = (
    ("storage.objects", "a bucket of Cloud Storage"),
    ("kms", "encrypted storage, with a key of Cloud KMS"),
    ("bigquery.connections", "another source, through a connection"),
)
_Told = Callable[[str, dict[str, Any], Known], tuple[str, str]]
#: By the message in lower case and the reason; the first that matches counts.
_CASES: tuple[tuple[Callable[[str, str], bool], _Told], ...] = (
    (lambda text, reason: "policy tag" in text or "fine-grained reader" in text, _tagged),
    (lambda text, reason: "row access polic" in text, _some_rows),
    (
        lambda text, reason: (
            reason == "policyViolation"
            or "vpc service controls" in text
            or "vpcservicecontrols" in text
            or "prohibited by organization's policy" in text
        ),
        _outside_perimeter,
    ),
    (
        lambda text, reason: (
            reason in ("accessNotConfigured", "SERVICE_DISABLED")
            or "it is disabled" in text
            or "has not been used in project" in text
            or "has not enabled bigquery" in text
        ),
        _no_api,
    ),
    (
        lambda text, reason: (
            reason in ("billingNotEnabled", "BILLING_DISABLED")
            or "billing has not been enabled" in text
            or "billing to be enabled" in text
            or ("billing account" in text and ("disabled" in text or "closed" in text))
        ),
        _no_billing,
    ),
    (
        lambda text, reason: reason == "ACCESS_TOKEN_SCOPE_INSUFFICIENT" or "insufficient authentication scope" in text,
        _too_narrow,
    ),
    (lambda text, reason: any(word in text for word, _ in _BESIDE), _beside_bigquery),
    (lambda text, reason: "globbing file pattern" in text, _in_drive),
    (
        lambda text, reason: "drive" in text and ("credential" in text or "scope" in text or "permission" in text),
        _in_drive,
    ),
    (lambda text, reason: text.startswith("access denied: dataset "), _of_dataset),
)


def only_by_query(error: AgnesError) -> AgnesError:
    """Whole columns were priced as a direct read, at another rate than the query that gives these rows."""
    return AgnesError(
        "approval_outdated",
        "Row access policies let this server's identity read the table by a query only, which has another price.",
        "Call again: it is then priced, and read, as a query.",
        error.details,
    )
