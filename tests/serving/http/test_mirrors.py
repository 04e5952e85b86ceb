"""A mirror of a real server: what a token may read, as the bytes that the manifest names, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from serving.served import Served, serve, token_of, user, write_instance
from support.agnes import extract, parquet

from agnes_mcp.calls.call import Call
from agnes_mcp.extracts.mirroring import Mirror, SyncAnswer, SyncFailed
from agnes_mcp.models import Principal

ROWS = "SELECT i AS id, repeat('x', 50) || i AS note FROM range(20_000) AS r(i)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirrored")
    parquet(folder / "files" / "orders.parquet", ROWS)
    (folder / "files" / "prices.csv").write_text("id,price\n1,2.5\n2,3\n")
    parquet(folder / "agnes" / "extracts" / "shop" / "data" / "people.parquet")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Served]:
    tables: list[dict[str, Any]] = [
        {"id": "orders", "path": str(folder / "files" / "orders.parquet")},
        {"id": "prices", "path": str(folder / "files" / "prices.csv")},
        {"id": "secret", "path": str(folder / "files" / "orders.parquet")},
        {"id": "web_sessions", "source_type": "bigquery", "bucket": "my_dataset"},
    ]
    config = write_instance(
        folder / "server" / "instance.yaml",
        tables=tables,
        data_source={
            "agnes": {"data_dir": str(folder / "agnes")},
            "bigquery": {"project": "my-project", "api_endpoint": "http://127.0.0.1:9"},
        },
        access={"users": [user("ana", ["orders", "prices", "web_sessions", "people", "late"]), user("eve", [])]},
    )
    with serve(config) as running:
        yield running


def sync(served: Served, into: Path, name: str = "ana") -> SyncAnswer:
    return Mirror(served.url, token_of(name), into).run(Call("sync", Principal("me"), timeout_s=60))


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_what_the_manifest_names_is_what_is_served(served: Served) -> None:
    tables = served.get("/manifest", token_of("ana")).json()["tables"]
    assert {name: (entry["query_mode"], entry["rows"]) for name, entry in tables.items()} == {
        "orders": ("local", 20_000),
        "people": ("local", 1),
        "prices": ("local", 2),
        "web_sessions": ("remote", None),
    }
    assert tables["web_sessions"]["hash"] == ""
    for name in ("orders", "people", "prices"):
        answer = served.get(f"/tables/{name}.parquet", token_of("ana"))
        assert answer.headers["etag"] == f'"{tables[name]["hash"]}"'
        assert (md5(answer.content), len(answer.content)) == (tables[name]["hash"], tables[name]["size_bytes"])


def test_a_range_belongs_to_the_file_it_was_begun_with(served: Served, folder: Path) -> None:
    whole = (folder / "files" / "orders.parquet").read_bytes()
    tag = f'"{md5(whole)}"'
    part = served.get("/tables/orders.parquet", token_of("ana"), headers={"Range": "bytes=100-", "If-Range": tag})
    assert (part.status_code, part.content) == (206, whole[100:])
    other = served.get("/tables/orders.parquet", token_of("ana"), headers={"Range": "bytes=100-", "If-Range": '"x"'})
    assert (other.status_code, other.content) == (200, whole)
    beyond = served.get("/tables/orders.parquet", token_of("ana"), headers={"Range": f"bytes={len(whole)}-"})
    assert beyond.status_code == 416
    head = served.request("HEAD", "/tables/orders.parquet", token_of("ana"))
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole)))


@pytest.mark.parametrize("name", ["secret", "gone", "web_sessions"])
def test_what_may_not_be_read_is_not_there(served: Served, name: str) -> None:
    answer = served.get(f"/tables/{name}.parquet", token_of("ana"))
    assert (answer.status_code, answer.json()["kind"]) == (404, "table_not_found")


@pytest.mark.parametrize(
    "path", ["/tables/orders", "/tables/..%2f..%2fetc%2fpasswd", "/tables/a%0a.parquet", "/tables/"]
)
def test_other_names_are_no_files(served: Served, path: str) -> None:
    assert served.get(path, token_of("ana")).status_code == 404


@pytest.mark.parametrize("path", ["/manifest", "/tables/orders.parquet"])
def test_a_token_is_needed_and_never_in_the_address(served: Served, path: str) -> None:
    without, wrong = served.get(path), served.get(path, "agnes_wrong")
    assert (without.status_code, wrong.status_code) == (401, 401)
    assert without.headers["www-authenticate"] == 'Bearer realm="agnes"'
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    assert "Authorization: Bearer TOKEN" in without.json()["hint"]
    assert served.get(f"{path}?token={token_of('ana')}").status_code == 401
    assert served.request("POST", path, token_of("ana")).status_code in (401, 405)


def test_whoever_may_read_nothing_sees_nothing(served: Served) -> None:
    assert served.get("/manifest", token_of("eve")).json()["tables"] == {}
    assert served.get("/tables/orders.parquet", token_of("eve")).status_code == 404


def test_a_mirror_holds_the_same_rows_and_is_served_in_turn(served: Served, folder: Path, tmp_path: Path) -> None:
    into = tmp_path / "extracts" / "upstream" / "data"
    answer = sync(served, into)
    assert (answer.downloaded, answer.skipped_remote, answer.errors) == (
        ["orders", "people", "prices"],
        ["web_sessions"],
        [],
    )
    assert (into / "orders.parquet").read_bytes() == (folder / "files" / "orders.parquet").read_bytes()
    assert duckdb.sql(f"SELECT sum(price) FROM '{into / 'prices.parquet'}'").fetchall() == [(5.5,)]
    assert sync(served, into).skipped == ["orders", "people", "prices"]
    again = write_instance(
        tmp_path / "second" / "instance.yaml",
        data_source={"agnes": {"data_dir": str(tmp_path)}},
        access={"users": [user("ana", "*")]},
    )
    with serve(again) as second:
        assert sorted(second.get("/manifest", token_of("ana")).json()["tables"]) == ["orders", "people", "prices"]
        assert sync(second, tmp_path / "third").errors == []
    assert (tmp_path / "third" / "orders.parquet").read_bytes() == (into / "orders.parquet").read_bytes()


def test_extracts_come_and_go_without_a_restart(served: Served, folder: Path) -> None:
    shop = folder / "agnes" / "extracts" / "later"

    def tables() -> dict[str, Any]:
        found: dict[str, Any] = served.get("/manifest", token_of("ana")).json()["tables"]
        return found

    assert "late" not in tables()
    extract(shop, {"late": "local"}, "CREATE TABLE late AS SELECT 1 AS id")
    first = tables()["late"]
    extract(shop, {"late": "local"}, "CREATE TABLE late AS SELECT i AS id FROM range(9) r(i)")
    second = tables()["late"]
    assert (first["rows"], second["rows"], first["hash"] != second["hash"]) == (1, 9, True)
    (shop / "extract.duckdb").unlink()
    assert "late" not in tables()
    assert served.get("/tables/late.parquet", token_of("ana")).status_code == 404


def test_a_table_that_keeps_changing_never_arrives_mixed(served: Served, folder: Path, tmp_path: Path) -> None:
    source = folder / "files" / "orders.parquet"
    versions = [parquet(tmp_path / f"{n}.parquet", f"{ROWS} WHERE i % 7 <> {n}").read_bytes() for n in range(4)]
    known = {md5(content) for content in (*versions, source.read_bytes())}
    over = threading.Event()

    def replace() -> None:
        turn = 0
        while not over.wait(0.002):
            building = source.with_suffix(".tmp")
            building.write_bytes(versions[turn % len(versions)])
            building.replace(source)
            turn += 1

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(15):
            answer = sync(served, tmp_path / "mirror")
            assert [error.table for error in answer.errors] in ([], ["orders"])
            if (tmp_path / "mirror" / "orders.parquet").exists():
                assert md5((tmp_path / "mirror" / "orders.parquet").read_bytes()) in known
    finally:
        over.set()
        writer.join()
    assert sync(served, tmp_path / "mirror").errors == []
    assert (tmp_path / "mirror" / "orders.parquet").read_bytes() == source.read_bytes()


def test_a_token_that_is_not_known_ends_the_run(served: Served, tmp_path: Path) -> None:
    with pytest.raises(SyncFailed, match="401"):
        Mirror(served.url, "agnes_wrong", tmp_path / "mirror").run(Call("sync", Principal("me")))
    assert not (tmp_path / "mirror").exists()


def test_every_line_of_the_audit_has_the_callers_address(served: Served, folder: Path) -> None:
    served.get("/manifest", token_of("ana"))
    lines = (folder / "server" / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    assert lines
    assert {json.loads(line)["client"] for line in lines} == {"127.0.0.1"}
