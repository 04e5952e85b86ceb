"""`instance.yaml` and the environment, made into `Settings`.

The file is found through `--config`, `AGNES_CONFIG`, `./instance.yaml`, `~/.agnes/instance.yaml`; with none of them the
demo instance is served. Every key can also be set in the environment: `AGNES_` and the path with `__` between its
parts, so that `AGNES_API__SCAN__MAX_LIMIT=1000` is `api.scan.max_limit`. The environment wins.
`0` is zero, never a default.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agnes_mcp.config.bigquery import BigQuerySettings
from agnes_mcp.config.sections import (
    ApiSettings,
    CsvSettings,
    DataSources,
    EngineSettings,
    QuotaSettings,
    ScanSettings,
    ServerSettings,
)
from agnes_mcp.config.storage import AuditSettings, SnapshotSettings
from agnes_mcp.config.types import (
    GIB,
    Bytes,
    CallerName,
    Count,
    DatasetGrant,
    DatasetId,
    HttpsUrl,
    LocationId,
    LongText,
    Names,
    ProjectId,
    Section,
    Sha256,
    ShortText,
    SourceTable,
    TableId,
    expanded,
    is_bigquery_table_id,
    is_loopback,
)
from agnes_mcp.models import QueryMode

__all__ = [
    "GIB",
    "AccessSettings",
    "ApiSettings",
    "AuditSettings",
    "BigQuerySettings",
    "DataSources",
    "EngineSettings",
    "GroupSettings",
    "OidcSettings",
    "QuotaSettings",
    "ScanSettings",
    "ServerSettings",
    "Settings",
    "SnapshotSettings",
    "TableSettings",
    "UserSettings",
    "is_loopback",
    "schema_of_settings",
]


class TableSettings(Section):
    """One table that is served."""

    id: TableId = Field(description="The name by which agents call it: lower-case letters, digits and `_`, at most 64.")
    name: str = Field(default="", description="A title for people; not given: the id.")
    description: str = Field(
        default="", description="What one row is, for agents; not given: BigQuery's own description."
    )
    source_type: Literal["bigquery", "local"] = Field(
        default="local", description="Files of this machine, or BigQuery."
    )
    query_mode: QueryMode | None = Field(
        default=None, description="`remote` for BigQuery, `local` for files; may be left out."
    )
    project: ProjectId | None = Field(
        default=None, description="BigQuery: the table's project, where it is not `data_source.bigquery.project`."
    )
    location: LocationId | Literal[""] = Field(
        default="", description="BigQuery: where its jobs run, as in `EU`; not given: where BigQuery says that it is."
    )
    bucket: DatasetId | Literal[""] = Field(default="", description="BigQuery: the dataset. Needed.")
    source_table: SourceTable = Field(
        default="",
        description="The table's name in the dataset (`events_*`: all whose names begin so, as one table with "
        "`_TABLE_SUFFIX`), or inside the DuckDB file; not given: the id. Of a workbook: the sheet; not given: the "
        "first that is shown.",
    )
    path: str = Field(
        default="",
        description="Local: Parquet, CSV, JSON or Arrow files as a file, a glob or a folder (also hive-partitioned), a "
        "workbook (`source_table` names the sheet), or a DuckDB file; relative to instance.yaml. Needed.",
    )
    source_schema: ShortText = Field(
        default="main", description="Local: the schema of `source_table` in a DuckDB file."
    )
    csv: CsvSettings | None = Field(default=None, description="Local: how its CSV files are to be read.")
    hive: Literal["auto"] | bool = Field(
        default="auto",
        description="Local: whether folders like `year=2026` are columns; `auto`: where all files lie in such ones.",
    )
    primary_key: Names = Field(
        default_factory=list, description="Columns that identify a row; one may be written without brackets."
    )

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
        if self.source_table and not is_bigquery_table_id(self.source_table):
            raise ValueError(
                "`source_table` should be a table's name as BigQuery allows it: letters, digits, `_`, `-` and spaces; "
                "behind the prefix of sharded tables a `*`, as in `events_*`"
            )
        if self.query_mode == "local":
            raise ValueError("query_mode `local` needs source_type `local`")


class UserSettings(Section):
    """Who may call over HTTP, and what they may read and spend."""

    name: CallerName = Field(description="The caller: as the audit, quotas and the JWT's claim name it.")
    token_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the bearer token (`agnes-mcp token new`); not given: only a JWT identifies it.",
    )
    tables: list[TableId | DatasetGrant] | Literal["*"] = Field(
        default_factory=list,
        description="Tables it may read, by id; `my_dataset.*` for a dataset, with tables to come; or "
        '"*" for every one; not given: none.',
    )
    expires: date | None = Field(
        default=None, description="The last day, in UTC, on which it may call, as in 2027-01-31; null: for good."
    )
    max_daily_bytes: Bytes | None = Field(
        default=None, description="Instead of `api.scan.max_daily_bytes_per_user`; 0 leaves only what is free."
    )
    max_concurrent: Count | None = Field(
        default=None, description="Instead of `api.scan.max_concurrent_per_user`; 0 allows no scan."
    )
    groups: Names = Field(
        default_factory=list,
        description="Of `access.groups`, by name: their tables too, and their budgets beside its own.",
    )
    admin: bool = Field(
        default=False,
        description="Whether the operator's page shows it everybody's calls and budgets; grants no table.",
    )


class GroupSettings(Section):
    """Callers who are granted tables together, and who may share a budget beside their own."""

    name: CallerName = Field(description="The group, as users name it.")
    tables: list[TableId | DatasetGrant] | Literal["*"] = Field(
        default_factory=list,
        description='Tables that its members may read beside their own: ids, datasets as `my_dataset.*`, or "*".',
    )
    max_daily_bytes: Bytes | None = Field(
        default=None,
        description="Bytes that its members together may be billed from 00:00 UTC on; null: any number; 0 leaves only "
        "what is free.",
    )
    admin: bool = Field(default=False, description="Whether its members are administrators, as `admin` of a user says.")


class OidcSettings(Section):
    """Whose JWTs are accepted. Their `principal_claim` must also be the name of one of `access.users`."""

    issuer: HttpsUrl = Field(description="The `iss` of the tokens, exactly.")
    audience: LongText = Field(description="The `aud` that names this server; a token for another one is refused.")
    jwks_uri: HttpsUrl = Field(description="Where the provider publishes its public keys.")
    principal_claim: ShortText = Field(
        default="email", description="The claim that names the caller; an `email` that is not verified is refused."
    )


class AccessSettings(Section):
    groups: list[GroupSettings] = Field(default_factory=list)
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

    @field_validator("groups")
    @classmethod
    def _groups_differ(cls, groups: list[GroupSettings]) -> list[GroupSettings]:
        twice = _first_repeated([group.name for group in groups])
        if twice:
            raise ValueError(f"the group {twice!r} is listed twice")
        return groups

    @model_validator(mode="after")
    def _groups_are_there(self) -> AccessSettings:
        known = {group.name for group in self.groups}
        for user in self.users:
            unknown = [name for name in user.groups if name not in known]
            if unknown:
                raise ValueError(f"the user {user.name!r} is in the group {unknown[0]!r}, which is not in `groups`")
        return self


class Settings(BaseSettings):
    """Everything an instance can be told. See `docs/reference/configuration.md`."""

    model_config = SettingsConfigDict(
        env_prefix="AGNES_",
        env_nested_delimiter="__",
        extra="forbid",
        validate_default=True,
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(
        default=Path("~/.agnes"), description="Snapshots, the audit and the demo's tables; relative to instance.yaml."
    )
    data_source: DataSources = Field(default_factory=DataSources)
    api: ApiSettings = Field(default_factory=ApiSettings)
    quota: QuotaSettings = Field(default_factory=QuotaSettings)
    snapshots: SnapshotSettings = Field(default_factory=SnapshotSettings)
    audit: AuditSettings = Field(default_factory=AuditSettings)
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
        return Path(os.path.abspath(expanded(folder)))

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
