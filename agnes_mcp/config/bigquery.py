"""How BigQuery is reached: its section of `instance.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from agnes_mcp.config.types import DatasetId, HostName, ProjectId, Scope, Section, ServiceAccount


class BigQuerySettings(Section):
    """Where BigQuery's tables are, who pays, and how this server proves who it is."""

    project: ProjectId = Field(description="Project that holds the tables.")
    billing_project: ProjectId | None = Field(
        default=None, description="Project in which jobs run and which pays; not given: `project`."
    )
    location: str = Field(default="US", description="Where jobs run over tables that do not say where they are.")
    auth: Literal["auto", "metadata", "adc"] = Field(
        default="auto",
        description="Where access tokens come from: the GCE metadata server (`metadata`), Application Default "
        "Credentials (`adc`), or the first and then the second (`auto`); in `auto` a file that "
        "GOOGLE_APPLICATION_CREDENTIALS names comes first, and alone.",
    )
    impersonate: ServiceAccount | None = Field(
        default=None,
        description="A service account to act for, with the found credentials; it needs their permission. Accounts "
        "before it, with commas, are delegates: each may act for the next one.",
    )
    scopes: list[Scope] = Field(
        default_factory=list,
        description="Scopes beside cloud-platform's, as in `https://www.googleapis.com/auth/drive.readonly` for tables "
        "over Sheets.",
    )
    universe_domain: HostName = Field(
        default="googleapis.com", description="The domain of a sovereign or private cloud."
    )
    api_endpoint: str | None = Field(
        default=None,
        description="Another address of BigQuery's REST API: a private endpoint, or a stand-in. Plain http only to "
        "this machine; then `auto` looks for no credential unless `GCE_METADATA_HOST` is set.",
    )
    storage_endpoint: str | None = Field(
        default=None,
        description="Another `host:port` of the Storage Read API; `grpc://` is plaintext, to this machine only.",
    )
    attach: Literal["auto", "eager", "lazy", "off"] = Field(
        default="auto",
        description="When DuckDB's `bigquery` extension is attached, in a process of its own: in the background at "
        "start (`eager`), at the first read that takes it (`lazy`), never (`off`); `auto` is eager where the token is "
        "the metadata server's and no `storage_endpoint` is set, else off.",
    )
    direct_reads: Literal["stream", "attached"] = Field(
        default="stream",
        description="How whole columns of a base table are read: as Google's Storage Read stream on the shared DuckDB "
        "connection (`stream`), or through the attached extension (`attached`), whose rows come in no order; what it "
        "cannot give comes as the stream. The rows and the bill are the same.",
    )
    legacy_wrap_views: bool = Field(
        default=False,
        description="In extracts, make each view, materialized or external table a query over all of it, as older "
        "extracts had it; otherwise it is listed there without a view.",
    )
    datasets: list[DatasetId] = Field(
        default_factory=list, description="Datasets of `project` of which every table is served, beside `tables`."
    )
    discovery_requests_per_second: float = Field(
        default=10,
        gt=0,
        le=1000,
        description="How many remote tables a second are asked for their columns and sizes in the background, by all "
        "processes of a data directory together; free.",
    )

    @model_validator(mode="after")
    def _check_ways(self) -> BigQuerySettings:
        if self.direct_reads == "attached" and self.attach == "off":
            raise ValueError("direct_reads is `attached`, and attach is `off`")
        return self

    @property
    def billed_project(self) -> str:
        return self.billing_project or self.project
