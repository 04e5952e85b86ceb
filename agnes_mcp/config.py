"""`instance.yaml` and the environment, made into `Settings`.

The file is found through `--config`, `AGNES_CONFIG`, `./instance.yaml`, `~/.agnes/instance.yaml`; with none of them the
demo instance is served. Every key can also be set in the environment: `AGNES_` and the path with `__` between its
parts, so that `AGNES_API__SCAN__MAX_LIMIT=1000` is `api.scan.max_limit`. The environment wins.
`0` is zero, never a default.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agnes_mcp.models import TABLE_ID_PATTERN, QueryMode, SourceType

GIB = 2**30


def _reject_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true or false")
    return value


def _list_of_names(value: object) -> object:
    return [value] if isinstance(value, str) else [] if value is None else value


Count = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0)]
Bytes = Annotated[int, BeforeValidator(_reject_bool), Field(ge=0)]
Seconds = Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False)]
TableId = Annotated[str, StringConstraints(pattern=rf"\A{TABLE_ID_PATTERN}\z")]
# What BigQuery allows in a project, dataset and table id; checked whole before any of them is put into a path or SQL.
ProjectId = Annotated[str, StringConstraints(pattern=r"\A([a-z0-9.\-]+:)?[a-z][a-z0-9\-]{4,28}[a-z0-9]\z")]
DatasetId = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9_]+\z", max_length=1024)]
Sha256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]


def _plain_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("should be an http or https URL without user, query and fragment")
    return value.rstrip("/")


def _secure_url(value: str) -> str:
    parts = urlsplit(_plain_url(value))
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("should be an https URL; plain http is for loopback only")
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


HttpUrl = Annotated[str, AfterValidator(_plain_url)]
HttpsUrl = Annotated[str, AfterValidator(_secure_url)]
BigQueryTableId = Annotated[str, StringConstraints(pattern=r"\A[\w\- ]+\z", max_length=1024)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BigQuerySettings(Section):
    project: ProjectId  # where the tables are
    billing_project: ProjectId | None = None  # who pays; None: `project`
    location: str = "US"
    auth: Literal["auto", "metadata", "adc"] = "auto"
    api_endpoint: str | None = None
    storage_endpoint: str | None = None
    legacy_wrap_views: bool = False  # an extract also gets a view over each BigQuery view
    datasets: list[DatasetId] = Field(default_factory=list)

    @property
    def billed_project(self) -> str:
        return self.billing_project or self.project


class DataSources(Section):
    bigquery: BigQuerySettings | None = None


class ScanSettings(Section):
    max_limit: Count = 10_000_000
    max_result_bytes: Bytes = 2 * GIB
    max_scan_bytes: Bytes = 50 * GIB
    confirm_above_bytes: Bytes = 5 * GIB
    max_concurrent_per_user: Count = 5
    max_daily_bytes_per_user: Bytes = 50 * GIB
    # BigQuery's on-demand list price per TiB in the US multi-region; set what your contract says.
    bq_cost_per_tb_usd: Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False)] = 6.25
    request_timeout_seconds: Seconds = 300


class ApiSettings(Section):
    max_result_chars: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1_000)] = 40_000
    catalog_cache_ttl_seconds: Seconds = 300
    schema_cache_ttl_seconds: Seconds = 3600
    sample_cache_ttl_seconds: Seconds = 3600
    scan: ScanSettings = Field(default_factory=ScanSettings)


class SnapshotSettings(Section):
    quota_gb: Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False)] = 10
    stale_warn_days: Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False)] = 7
    min_free_gb: Annotated[float, BeforeValidator(_reject_bool), Field(ge=0, allow_inf_nan=False)] = 1


class EngineSettings(Section):
    """The shared DuckDB connection and the workers around it."""

    memory_limit_bytes: Annotated[int, BeforeValidator(_reject_bool), Field(ge=64 * 2**20)] = 2 * GIB
    threads: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)] = 2
    workers: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)] = 8
    query_workers: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)] = 2
    query_memory_bytes: Annotated[int, BeforeValidator(_reject_bool), Field(ge=128 * 2**20)] = GIB
    query_timeout_seconds: Seconds = 60


class TableSettings(Section):
    id: TableId
    name: str = ""
    description: str = ""
    source_type: SourceType = "local"
    query_mode: QueryMode | None = None
    project: ProjectId | None = None
    bucket: DatasetId | Literal[""] = ""
    source_table: BigQueryTableId | Literal[""] = ""
    path: str = ""
    primary_key: Annotated[list[str], BeforeValidator(_list_of_names)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits_its_source(self) -> TableSettings:
        if self.source_type == "bigquery":
            self._check_bigquery()
        elif not self.path:
            raise ValueError("a local table needs `path`: a Parquet or CSV file, glob or folder, or a DuckDB file")
        elif self.query_mode == "remote":
            raise ValueError("query_mode `remote` needs source_type `bigquery`")
        return self

    def _check_bigquery(self) -> None:
        if self.path:
            raise ValueError("`path` belongs to local tables; a BigQuery table has `bucket` and `source_table`")
        if not self.bucket:
            raise ValueError("a BigQuery table needs `bucket`: its dataset")
        if self.query_mode == "local":
            raise ValueError("query_mode `local` needs source_type `local`")


class UserSettings(Section):
    name: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    token_sha256: Sha256 | None = None
    tables: list[TableId] | Literal["*"] = Field(default_factory=list)
    max_daily_bytes: Bytes | None = None
    max_concurrent: Count | None = None


class OidcSettings(Section):
    """Whose JWTs are accepted. Their `principal_claim` must also be the name of one of `access.users`."""

    issuer: HttpsUrl
    audience: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    jwks_uri: HttpsUrl
    principal_claim: Annotated[str, StringConstraints(min_length=1, max_length=128)] = "email"


class AccessSettings(Section):
    users: list[UserSettings] = Field(default_factory=list)
    oidc: OidcSettings | None = None

    @field_validator("users")
    @classmethod
    def _names_differ(cls, users: list[UserSettings]) -> list[UserSettings]:
        twice = _first_repeated([user.name for user in users])
        if twice:
            raise ValueError(f"the user {twice!r} is listed twice")
        if _first_repeated([user.token_sha256 for user in users if user.token_sha256]):
            raise ValueError("two users have the same token_sha256")
        return users


class ServerSettings(Section):
    """Serving over HTTP. Hosts and origins are those of loopback and of `public_url`, and what is listed here."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=255)] = "127.0.0.1"
    port: Annotated[int, BeforeValidator(_reject_bool), Field(ge=0, le=65535)] = 8787
    public_url: HttpUrl | None = None  # how clients reach this server, without /mcp; None: host and port
    allowed_hosts: list[str] = Field(default_factory=list)
    allowed_origins: list[str] = Field(default_factory=list)
    max_body_bytes: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)] = 2**20
    body_timeout_seconds: Annotated[float, BeforeValidator(_reject_bool), Field(gt=0, allow_inf_nan=False)] = 10
    max_sessions: Annotated[int, BeforeValidator(_reject_bool), Field(ge=1)] = 1000
    session_idle_seconds: Annotated[float, BeforeValidator(_reject_bool), Field(gt=0, allow_inf_nan=False)] = 1800
    max_calls_per_minute_per_user: Count | None = 600  # None: not limited; whoever runs the process is not limited
    metrics_token_sha256: Sha256 | None = None  # who may read /metrics where users are configured; None: nobody


class Settings(BaseSettings):
    """Everything an instance can be told. See `docs/reference/configuration.md`."""

    model_config = SettingsConfigDict(
        env_prefix="AGNES_",
        env_nested_delimiter="__",
        extra="forbid",
        validate_default=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Path("~/.agnes")
    data_source: DataSources = Field(default_factory=DataSources)
    api: ApiSettings = Field(default_factory=ApiSettings)
    snapshots: SnapshotSettings = Field(default_factory=SnapshotSettings)
    engine: EngineSettings = Field(default_factory=EngineSettings)
    tables: list[TableSettings] = Field(default_factory=list)
    access: AccessSettings = Field(default_factory=AccessSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, folder: Path) -> Path:
        return Path(os.path.abspath(folder.expanduser()))

    @field_validator("tables")
    @classmethod
    def _ids_differ(cls, tables: list[TableSettings]) -> list[TableSettings]:
        twice = _first_repeated([table.id for table in tables])
        if twice:
            raise ValueError(f"the id {twice!r} is used twice")
        return tables

    @model_validator(mode="after")
    def _sources_are_there(self) -> Settings:
        if self.data_source.bigquery is None and any(t.source_type == "bigquery" for t in self.tables):
            raise ValueError("a table has source_type `bigquery`, but data_source.bigquery.project is not set")
        return self


def _first_repeated(names: list[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def schema_of_settings() -> dict[str, Any]:
    """The JSON schema of `instance.yaml`, for editors and for the documentation."""
    return Settings.model_json_schema()
