"""The catalog over which the corpora of statements are written, and a principal who may read a part of it."""

from __future__ import annotations

import re
from pathlib import Path

from agnes_mcp.errors import nearest
from agnes_mcp.models import Column, Partition, TableSchema
from agnes_mcp.sql.warehouse import Place
from support.predicates import unescape

CORPORA = Path(__file__).parent.parent / "fixtures" / "sql"
PROJECT = "my-project"
_COLUMN = re.compile(r"(\w[\w -]*?) ([A-Z0-9]+)(?:\{(.*)\})?(\[\])?")


def columns(spec: str) -> list[Column]:
    """`a INT64, b STRING[], c RECORD{d STRING}` as columns."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(f"{spec},"):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(spec[start:position].strip())
            start = position + 1
    return [_column(part) for part in parts]


def _column(part: str) -> Column:
    match = _COLUMN.fullmatch(part)
    assert match, part
    name, kind, fields, repeated = match.groups()
    inner = columns(fields) if fields else []
    return Column(name=name, type=kind, mode="REPEATED" if repeated else "NULLABLE", fields=inner)


def place(
    table_id: str,
    dataset: str,
    table: str,
    spec: str,
    *,
    partition: Partition | None = None,
    clustered_by: tuple[str, ...] = (),
    pseudo: str = "",
) -> Place:
    schema = TableSchema(
        table_id=table_id,
        columns=columns(spec),
        pseudo_columns=columns(pseudo) if pseudo else [],
        partition=partition,
        clustered_by=list(clustered_by),
    )
    return Place(table_id, PROJECT, dataset, table, schema)


#: What the principal of the corpora may read. `events` is a family of shards, `hits` is partitioned by ingestion.
GRANTED = [
    place(
        "sessions",
        "my_dataset",
        "web_sessions_v",
        "session_id STRING, user_id INT64, Country_Code STRING, platform STRING, event_date DATE, "
        "started_at TIMESTAMP, local_at DATETIME, at_time TIME, amount NUMERIC, score FLOAT64, is_paid BOOL, "
        "payload JSON, raw BYTES, "
        "tags STRING[], device RECORD{os STRING, browser RECORD{name STRING, version INT64}, langs STRING[]}, "
        "items RECORD{sku STRING, price NUMERIC, qty INT64, labels STRING[]}[], order INT64, page views INT64, "
        "štítek STRING, place GEOGRAPHY",
        partition=Partition(column="event_date", filter_required=True),
        clustered_by=("Country_Code", "platform"),
    ),
    place(
        "orders",
        "shop",
        "orders",
        "order_id INT64, user_id INT64, status STRING, total NUMERIC, discount FLOAT64, created_at TIMESTAMP, "
        "created_on DATE, lines RECORD{product_id INT64, qty INT64, price NUMERIC}[], note STRING",
        partition=Partition(column="created_at"),
        clustered_by=("user_id",),
    ),
    place(
        "users", "shop", "Users", "user_id INT64, email STRING, name STRING, country STRING, signed_up DATE, vip BOOL"
    ),
    place("products", "shop", "products", "product_id INT64, name STRING, category STRING, price NUMERIC"),
    place(
        "quarterly",
        "shop",
        "quarterly_sales",
        "product STRING, region STRING, quarter STRING, sales INT64, q1 INT64, q2 INT64, q3 INT64, q4 INT64",
    ),
    place(
        "events",
        "logs",
        "events_*",
        "event_name STRING, user_id INT64, event_ts TIMESTAMP, params RECORD{key STRING, value STRING}[]",
        pseudo="_TABLE_SUFFIX STRING",
    ),
    place(
        "hits",
        "logs",
        "hits",
        "url STRING, user_id INT64, ms INT64",
        partition=Partition(),
        pseudo="_PARTITIONTIME TIMESTAMP, _PARTITIONDATE DATE",
    ),
]
#: What there is beside it, for somebody else.
WITHHELD = [
    place("salaries", "hr", "salaries", "user_id INT64, salary NUMERIC"),
    place("tokens", "secrets", "tokens", "token STRING"),
]
#: Local tables and snapshots of the same instance.
LOCAL = [Place("weather", remote=False), Place("budget", remote=False)]


class PrincipalNames:
    """The names of one principal, by id and by place."""

    def __init__(self, places: list[Place]) -> None:
        self._ids = {p.table_id: p for p in places}
        self._paths = {(p.dataset, p.table): p for p in places if p.remote}

    def find(self, path: tuple[str, ...]) -> Place | None:
        if len(path) == 1:
            return self._ids.get(path[0])
        found = self._paths.get((path[-2], path[-1]))
        return found if len(path) == 2 or (len(path) == 3 and path[0] == PROJECT) else None

    def nearest(self, name: str) -> list[str]:
        return nearest(name, list(self._ids))


NAMES = PrincipalNames([*GRANTED, *LOCAL])


def accepted() -> list[str]:
    lines = (CORPORA / "accepted.sql").read_text(encoding="utf-8").split("\n")
    return [unescape(line) for line in lines if line and not line.startswith("-- ")]


def rejected() -> list[tuple[str, str]]:
    """Pairs of kind and statement."""
    lines = (CORPORA / "rejected.sql").read_text(encoding="utf-8").split("\n")
    pairs = [line.split("\t", 1) for line in lines if line and not line.startswith("-- ")]
    return [(kind, unescape(text)) for kind, text in pairs]
