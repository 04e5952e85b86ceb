"""The rules by dialect."""

from __future__ import annotations

from agnes_mcp.models import Dialect
from agnes_mcp.sql.predicate.bigquery import BIGQUERY
from agnes_mcp.sql.predicate.duckdb import DUCKDB
from agnes_mcp.sql.predicate.rules import Rules

#: What each dialect allows.
RULES: dict[Dialect, Rules] = {"bigquery": BIGQUERY, "duckdb": DUCKDB}
