"""Google's REST client, to which what a job's resource gives as null is as if it were not there.

Google's own takes `statistics: null`, or a null in it, for an object, and breaks with a `TypeError`.
"""

from __future__ import annotations

from typing import Any

from google.api_core import exceptions as api
from google.cloud import bigquery

#: What of a resource is an object with members.
_OBJECTS = ("configuration", "jobReference", "statistics", "status")
_NAMELESS = "The answer about a job does not say of which one it is."


class RestClient(bigquery.Client):
    def _call_api(self, *args: Any, **kwargs: Any) -> Any:
        return _read(super()._call_api(*args, **kwargs))


def _read(answer: Any) -> Any:
    """The answer to any request, and what it holds of a job as `_job`. Rows have nulls, and are left alone."""
    if not isinstance(answer, dict):
        return answer
    if answer.get("kind") == "bigquery#job":
        return _job(answer)
    return {**answer, "job": _job(answer["job"])} if isinstance(answer.get("job"), dict) else answer


def _job(resource: dict[str, Any]) -> dict[str, Any]:
    """Raises `BadGateway` for one that does not say which job it is of."""
    given: dict[str, Any] = _without_nulls(resource)
    for name in _OBJECTS:
        if not isinstance(given.get(name, {}), dict):
            del given[name]
    if "jobReference" not in given:
        raise api.BadGateway(_NAMELESS)  # type: ignore[no-untyped-call]
    for within in (given.get("statistics", {}), given.get("configuration", {})):
        if not isinstance(within.get("query", {}), dict):
            del within["query"]
    given.setdefault("configuration", {}).setdefault("query", {})  # every job of ours is a query
    return given


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value if each is not None] if isinstance(value, list) else value
