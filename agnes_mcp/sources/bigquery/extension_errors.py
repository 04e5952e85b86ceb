"""What DuckDB's `bigquery` extension ends with, in BigQuery's terms: its words are not those of REST."""

from __future__ import annotations

import re

from agnes_mcp.errors import AgnesError
from agnes_mcp.sources.bigquery.errors import Complaint, as_error
from agnes_mcp.untrusted import redact, without_paths_in_prose

#: Why there is none, where the operator wants none.
OFF = "off: data_source.bigquery.attach"
REFUSED_TOKEN = re.compile(r"invalid authentication credentials|UNAUTHENTICATED|Authentication Failed", re.IGNORECASE)
#: The first that matches counts.
_STATUS_OF_TEXT = (
    (REFUSED_TOKEN, 401),
    (re.compile(r"PERMISSION_DENIED|Permission denied|Access Denied", re.IGNORECASE), 403),
    (re.compile(r"NOT_FOUND|Not found|does not exist|No such field", re.IGNORECASE), 404),
    (re.compile(r"RESOURCE_EXHAUSTED|rateLimitExceeded|quota", re.IGNORECASE), 429),
    (re.compile(r"INVALID_ARGUMENT", re.IGNORECASE), 400),
)


def first_line(text: str) -> str:
    """What may be shown of it."""
    return redact(without_paths_in_prose(text.split("\n", 1)[0]))


def complaint(text: str) -> AgnesError:
    status = next((status for pattern, status in _STATUS_OF_TEXT if pattern.search(text)), 503)
    return as_error(Complaint(status, "", first_line(text)), "reading rows through DuckDB's extension")


def other_types() -> AgnesError:
    return as_error(Complaint(503, "", "DuckDB's extension gave other types than announced"), "reading rows")


def other_rows(received: int, total: int) -> AgnesError:
    said = f"{received:,} of {total:,} rows arrived through DuckDB's extension"
    return as_error(Complaint(0, "connectionCut", said), "reading rows")


def stalled(timeout_s: float) -> AgnesError:
    said = f"DuckDB's extension sent nothing for {timeout_s:g} seconds"
    return as_error(Complaint(0, "connectionCut", said), "reading rows")


def out_of_memory() -> AgnesError:
    return as_error(Complaint(503, "", "DuckDB's extension took more memory than it may"), "reading rows")


def died(code: int) -> AgnesError:
    said = f"DuckDB's extension ended its process ({code})"
    return as_error(Complaint(0, "connectionCut", said), "reading rows", {"died": True})
