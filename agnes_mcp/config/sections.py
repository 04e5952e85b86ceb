"""The sections of `instance.yaml` that are keys and defaults only. Each key says what it means; see `config`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from agnes_mcp.config.bigquery import BigQuerySettings
from agnes_mcp.config.types import (
    GIB,
    AnswerChars,
    Bytes,
    Count,
    CsvType,
    EngineBytes,
    HttpUrl,
    Number,
    Percent,
    Port,
    PositiveCount,
    PositiveSeconds,
    QuotaStoreName,
    Seconds,
    Section,
    Sha256,
    ShortText,
    WorkerBytes,
    expanded,
)


class AgnesSettings(Section):
    """An Agnes data directory whose extracts are served as tables, as they are on the disk at each call."""

    data_dir: Path = Field(
        description="The folder that holds `extracts/*/extract.duckdb` and `extracts/*/data/*.parquet`; relative to "
        "instance.yaml. The files are read and never changed."
    )

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, folder: Path) -> Path:
        return Path(os.path.abspath(expanded(folder)))


class DataSources(Section):
    bigquery: BigQuerySettings | None = None
    agnes: AgnesSettings | None = None


class ScanSettings(Section):
    """What one call, and one caller a day, may read and bill."""

    max_limit: Count = Field(
        default=10_000_000, description="Most rows that a call's `limit` may ask for; 0 refuses any."
    )
    max_result_bytes: Bytes = Field(
        default=2 * GIB, description="Most bytes of rows that one call reads back; beyond it a `fetch` keeps a part."
    )
    max_scan_bytes: Bytes = Field(
        default=50 * GIB, description="Most bytes that one statement may scan; 0 leaves only what scans nothing."
    )
    confirm_above_bytes: Bytes = Field(
        default=5 * GIB,
        description="Above this a person is asked first, where the client can ask; 0 asks before any bill.",
    )
    max_concurrent_per_user: Count = Field(
        default=5, description="Scans of one caller at once; 0 allows no scan, free or not."
    )
    queue_seconds: Seconds = Field(
        default=15, description="How long a call beyond that waits, in order of arrival; 0 refuses it at once."
    )
    max_daily_bytes_per_user: Bytes = Field(
        default=50 * GIB,
        description="Bytes that one caller may be billed from 00:00 UTC on; 0 leaves only what is free.",
    )
    bq_cost_per_tb_usd: Number = Field(
        default=6.25,
        description="Price per TiB in the answers; the default is BigQuery's on-demand list price in the US "
        "multi-region. Set what your contract says. It is shown only: caps count bytes.",
    )
    bq_storage_read_cost_per_tb_usd: Number = Field(
        default=1.1,
        description="The same for whole columns, read without a job: the list price of Storage Read in the US.",
    )
    unknown_price_cap_bytes: Bytes = Field(
        default=0,
        description="Most bytes that a statement may bill whose price BigQuery cannot tell (federated sources, row "
        "access policies); 0: it never runs.",
    )
    confirm_window_seconds: Seconds = Field(
        default=3600,
        description="What a caller bills unasked in so long is one sum for `confirm_above_bytes`; 0: each call alone.",
    )
    request_timeout_seconds: Seconds = Field(
        default=300, description="How long a call that reads rows may take; 0 stops each of them at once."
    )


class ApiSettings(Section):
    max_result_chars: AnswerChars = Field(
        default=40_000, description="Most characters of one answer, about four to a token; at least 1,000."
    )
    catalog_cache_ttl_seconds: Seconds = Field(
        default=300, description="How long the catalog's metadata is used before it is read again; 0: not at all."
    )
    schema_cache_ttl_seconds: Seconds = Field(default=3600, description="How long a schema is kept; 0: not at all.")
    sample_cache_ttl_seconds: Seconds = Field(default=3600, description="How long a sample is kept; 0: not at all.")
    scan: ScanSettings = Field(default_factory=ScanSettings)


class CsvSettings(Section):
    """How a CSV is read where guessing is not enough. What is not given is found out from the file, all of it."""

    delimiter: str | None = Field(default=None, min_length=1, max_length=4, description="What separates the fields.")
    header: bool | None = Field(default=None, description="Whether the first line holds the columns' names.")
    null_values: list[str] | None = Field(default=None, description="Texts that mean null, as in `[NA, '-']`.")
    encoding: Literal["utf-8", "utf-16", "latin-1"] | None = Field(default=None, description="How the text is encoded.")
    types: dict[str, CsvType] | None = Field(
        default=None, description="DuckDB's types of columns, as in `{zip: VARCHAR}`; others are found out."
    )
    decimal: Literal[".", ","] | None = Field(default=None, description="The decimal mark.")
    dateformat: str | None = Field(default=None, max_length=100, description="How dates are written, as in `%d.%m.%Y`.")
    timestampformat: str | None = Field(
        default=None, max_length=100, description="How timestamps are written, as in `%d.%m.%Y %H:%M`."
    )
    sample_size: int | None = Field(
        default=None, ge=-1, description="Rows from which types are found out; -1, as where it is not given: all."
    )
    ignore_errors: bool | None = Field(default=None, description="Leave out lines that do not fit.")
    quote: str | None = Field(default=None, max_length=1, description="What stands around a text; empty: nothing.")
    escape: str | None = Field(default=None, max_length=1, description="What stands before a quote within a text.")
    comment: str | None = Field(default=None, max_length=1, description="What begins a line that is no row.")
    skip: Count | None = Field(default=None, description="Lines before the header, or the first row.")
    null_padding: bool | None = Field(default=None, description="Fill lines that are too short with nulls.")


class QuotaSettings(Section):
    """Where the day's bills are counted, and budgets beside each caller's own."""

    store: QuotaStoreName = Field(
        default="file",
        description="`file`: in `data_dir`, for every process on it; it has to be a disk of this machine. `process`: "
        "each process for itself. A URL, as in `postgresql://user@host/database`: for every replica; needs "
        "`pip install 'agnes-data-mcp[postgres]'`.",
        repr=False,  # it may hold a password
    )
    max_daily_bytes_per_project: Bytes | None = Field(
        default=None,
        description="Bytes that all callers together may bill to the billing project from 00:00 UTC on; null: any "
        "number; 0 leaves only what is free.",
    )
    warn_at_percent: Percent = Field(
        default=80, description="From this share of a budget on, answers and the log warn; 100: only once it is gone."
    )


class EngineSettings(Section):
    """The shared DuckDB connection, the worker threads around it, and the processes of `query`."""

    memory_limit_bytes: EngineBytes = Field(
        default=2 * GIB,
        description="Memory of the shared DuckDB connection; it spills to disk beyond. At least 64 MiB.",
    )
    threads: PositiveCount = Field(
        default=2, description="DuckDB's threads, in the shared connection and in each query."
    )
    workers: PositiveCount = Field(
        default=8,
        description="Blocking calls that run at once; others wait, and callers share turns fairly.",
    )
    query_workers: PositiveCount = Field(
        default=2,
        description="Processes for `query` and for conditions without a bound; one more for whom a caller with more "
        "than a share keeps waiting. With 1 there are no shares: a caller waits until another's query has ended.",
    )
    query_memory_bytes: WorkerBytes = Field(
        default=GIB, description="Memory that one query may use in its process; nothing spills. At least 128 MiB."
    )
    query_timeout_seconds: Seconds = Field(
        default=60,
        description="How long one query may take, waiting included; then its process is killed. 0 stops each.",
    )


class ServerSettings(Section):
    """Serving over HTTP. Hosts and origins are those of loopback and of `public_url`, and what is listed here."""

    host: ShortText = Field(
        default="127.0.0.1",
        description="Address to listen on. Beyond loopback it needs users, and `public_url` or hosts.",
    )
    port: Port = Field(default=8787, description="Port to listen on; 0 is any free one.")
    public_url: HttpUrl | None = Field(
        default=None, description="How clients reach this server, without `/mcp`; not given: host and port."
    )
    allowed_hosts: list[str] = Field(
        default_factory=list, description="Further Host headers that are answered, as `name` or `name:*`."
    )
    allowed_origins: list[str] = Field(
        default_factory=list, description="Further origins whose pages may call, as in `https://app.example.com`."
    )
    max_body_bytes: PositiveCount = Field(default=2**20, description="Most bytes of one request's body.")
    body_timeout_seconds: PositiveSeconds = Field(
        default=10, description="How long a request's body may take to arrive."
    )
    head_timeout_seconds: PositiveSeconds = Field(
        default=10, description="How long the head of a request may take to arrive; then its connection is closed."
    )
    max_connections: PositiveCount = Field(
        default=2000,
        description="Open connections; fewer where the system allows fewer files. At most half of them may be without "
        "a complete request; nobody has more requests under way than are left for others.",
    )
    max_sessions: PositiveCount = Field(
        default=1000,
        description="Open sessions, on each of the two transports. Where all are taken, a caller with less than an "
        "equal share gets one of the caller who holds most.",
    )
    session_idle_seconds: PositiveSeconds = Field(
        default=1800, description="A streamable HTTP session that nothing was heard of for so long is ended."
    )
    max_calls_per_minute_per_user: Count | None = Field(
        default=600,
        description="Calls of one caller in a minute; null: any number; 0: none. The OS user is not limited.",
    )
    metrics_token_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the token that reads `/metrics` where users are configured; not given: nobody.",
    )
