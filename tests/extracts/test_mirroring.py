"""A mirror holds what the server holds, or what it held before: never anything else."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from filelock import FileLock
from support.agnes import parquet
from support.metadata_server import closed_port
from support.mirrored import TOKEN, Fault, MirroredServer, md5, mirrored

from agnes_mcp.calls.call import Call, cancelled
from agnes_mcp.errors import AgnesError
from agnes_mcp.extracts.mirroring import Arrival, Mirror, SyncAnswer, SyncFailed, checked_url, folder_name
from agnes_mcp.extracts.transfer import MAX_PAUSE_S, TransferFailed, cause_of
from agnes_mcp.models import Principal


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mirroring", "transfer"):
        monkeypatch.setattr(f"agnes_mcp.extracts.{module}.PAUSES_S", (0.01, 0.01))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MirroredServer]:
    with mirrored() as server:
        for name, rows in (("orders", 50_000), ("people", 10)):
            file = parquet(
                tmp_path / "server" / f"{name}.parquet", f"SELECT i * 7919 % 1000003 AS id FROM range({rows}) r(i)"
            )
            server.tables[name] = file.read_bytes()
        server.remote = ["web_sessions"]
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / "data"


def sync(server: MirroredServer, folder: Path, **more: Any) -> SyncAnswer:
    return Mirror(server.url, TOKEN, folder).run(Call("sync", Principal("me"), timeout_s=60), **more)


def visible(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def test_local_tables_arrive_and_remote_ones_do_not(server: MirroredServer, folder: Path) -> None:
    answer = sync(server, folder)
    assert answer.model_dump() == {
        "downloaded": ["orders", "people"],
        "skipped": [],
        "skipped_remote": ["web_sessions"],
        "errors": [],
    }
    assert visible(folder) == server.tables
    assert server.asked("web_sessions") == []
    assert all(TOKEN not in path for path, _ in server.requests)


def test_what_is_there_is_not_asked_for_again(server: MirroredServer, folder: Path) -> None:
    sync(server, folder)
    server.requests.clear()
    assert sync(server, folder).skipped == ["orders", "people"]
    assert [path for path, _ in server.requests] == ["/manifest"]
    (folder / "people.parquet").unlink()
    (folder / "orders.parquet").write_bytes(b"somebody wrote into it")
    assert sync(server, folder).downloaded == ["orders", "people"]
    assert visible(folder) == server.tables


def test_only_what_changed_is_downloaded(server: MirroredServer, folder: Path, tmp_path: Path) -> None:
    sync(server, folder)
    server.tables["people"] = parquet(tmp_path / "new.parquet", "SELECT 'new' AS name").read_bytes()
    answer = sync(server, folder)
    assert (answer.downloaded, answer.skipped) == (["people"], ["orders"])
    assert visible(folder) == server.tables


def test_a_server_without_hashes_is_always_asked(server: MirroredServer, folder: Path) -> None:
    server.with_hashes = False
    assert sync(server, folder).downloaded == ["orders", "people"]
    assert sync(server, folder).downloaded == ["orders", "people"]
    server.tables["people"] = b"not a table"
    answer = sync(server, folder)
    assert [error.table for error in answer.errors] == ["people"]
    assert visible(folder)["people"] != b"not a table"


@pytest.mark.parametrize("cut_at", [0, 1, 30_000])
def test_what_was_cut_is_resumed(server: MirroredServer, folder: Path, cut_at: int) -> None:
    server.faults["orders"] = [Fault(cut_at=cut_at), Fault(cut_at=cut_at)]
    assert sync(server, folder).errors == []
    assert visible(folder) == server.tables
    ranges = [headers.get("range") for headers in server.asked("orders")]
    assert ranges == ([None, f"bytes={cut_at}-", f"bytes={2 * cut_at}-"] if cut_at else [None, None, None])


def test_a_part_of_an_earlier_run_is_resumed(server: MirroredServer, folder: Path) -> None:
    server.faults["orders"] = [Fault(cut_at=30_000)] * 3
    answer = sync(server, folder)
    assert [error.table for error in answer.errors] == ["orders"]
    assert (list(visible(folder)), answer.downloaded) == (["people"], ["people"])
    server.requests.clear()
    assert sync(server, folder).downloaded == ["orders"]
    assert server.asked("orders")[0]["range"] == "bytes=90000-"
    assert (visible(folder), parts(folder)) == (server.tables, [])


def test_a_table_that_changes_between_two_parts_is_begun_anew(
    server: MirroredServer, folder: Path, tmp_path: Path
) -> None:
    new = parquet(tmp_path / "new.parquet", "SELECT i * 31 % 9973 AS id FROM range(60_000) r(i)").read_bytes()
    server.faults["orders"] = [Fault(cut_at=30_000), Fault(then=lambda: server.tables.update(orders=new))]
    assert sync(server, folder).errors == []
    assert visible(folder)["orders"] == new
    assert server.asked("orders")[1]["if-range"] != f'"{md5(new)}"'
    assert parts(folder) == []


@pytest.mark.parametrize("fault", [Fault(corrupt=True), Fault(cut_at=30_000, corrupt=True)])
def test_what_is_corrupt_never_replaces_what_is_good(
    server: MirroredServer, folder: Path, tmp_path: Path, fault: Fault
) -> None:
    sync(server, folder)
    before = visible(folder)
    server.tables["orders"] = parquet(tmp_path / "new.parquet", "SELECT i FROM range(90_000) r(i)").read_bytes()
    server.faults["orders"] = [fault, Fault(corrupt=True), Fault(corrupt=True)]
    answer = sync(server, folder)
    assert [error.table for error in answer.errors] == ["orders"]
    assert visible(folder) == before
    server.faults["orders"] = [fault]
    assert sync(server, folder).errors == []
    assert visible(folder) == server.tables


@pytest.mark.parametrize("with_etag", [True, False])
def test_a_hash_that_is_wrong_for_ever_is_told_at_every_run(
    server: MirroredServer, folder: Path, tmp_path: Path, with_etag: bool
) -> None:
    """Instead of the same file being brought again and again; and the other tables arrive."""
    sync(server, folder)
    before = visible(folder)
    wrong = server.described()
    wrong["tables"]["orders"]["hash"] = "0" * 32
    server.manifest, server.with_hashes = wrong, with_etag
    server.tables["people"] = parquet(tmp_path / "new.parquet", "SELECT 'new' AS name").read_bytes()
    wrong["tables"]["people"]["hash"] = md5(server.tables["people"])
    for arrived in (["people"], []):
        server.requests.clear()
        answer = sync(server, folder)
        assert (answer.downloaded, [error.table for error in answer.errors]) == (arrived, ["orders"])
        assert ("names another file" if with_etag else "hashes differ") in answer.errors[0].error
        assert len(server.asked("orders")) == 3
    assert visible(folder) == {"orders": before["orders"], "people": server.tables["people"]}
    assert parts(folder) == []
    server.manifest, server.with_hashes = None, True
    assert sync(server, folder).errors == []


def test_a_table_that_changes_behind_its_manifest_arrives_as_it_is_now(
    server: MirroredServer, folder: Path, tmp_path: Path
) -> None:
    new = parquet(tmp_path / "new.parquet", "SELECT i * 31 % 9973 AS id FROM range(60_000) r(i)").read_bytes()
    server.faults["orders"] = [Fault(then=lambda: server.tables.update(orders=new))]
    assert sync(server, folder).errors == []
    assert visible(folder)["orders"] == new
    assert sync(server, folder).skipped == ["orders", "people"]


def test_a_table_that_turns_remote_meanwhile_is_not_taken(server: MirroredServer, folder: Path) -> None:
    def turn() -> None:
        server.tables["orders"] += b"PAR1"
        server.manifest = server.described()
        server.manifest["tables"]["orders"] = {"hash": "", "query_mode": "remote"}

    server.faults["orders"] = [Fault(then=turn)]
    assert [error.table for error in sync(server, folder).errors] == ["orders"]
    assert list(visible(folder)) == ["people"]


@pytest.mark.parametrize("fault", [Fault(ignore_range=True), Fault(wrong_range=True), Fault(status=416)])
def test_a_server_that_does_not_resume_as_asked_is_survived(server: MirroredServer, folder: Path, fault: Fault) -> None:
    server.faults["orders"] = [Fault(cut_at=30_000), fault]
    assert sync(server, folder).errors == []
    assert visible(folder) == server.tables


@pytest.mark.parametrize(("status", "tries"), [(500, 3), (503, 3), (403, 1), (404, 1), (410, 1), (302, 1)])
def test_only_what_may_pass_is_tried_again(server: MirroredServer, folder: Path, status: int, tries: int) -> None:
    server.faults["orders"] = [Fault(status=status)] * 9
    answer = sync(server, folder)
    assert [(error.table, str(status) in error.error) for error in answer.errors] == [("orders", True)]
    assert len(server.asked("orders")) == tries
    assert list(visible(folder)) == ["people"]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(packed=True)],
        [Fault(packed=True, cut_at=20)],
        [Fault(packed=True, cut_at=30_000), Fault(packed=True), Fault(packed=True)],
        [Fault(cut_at=30_000), Fault(packed=True), Fault()],
    ],
)
def test_what_a_proxy_packs_arrives_all_the_same(server: MirroredServer, folder: Path, faults: list[Fault]) -> None:
    server.tables["orders"] = server.tables["orders"] + os.urandom(50_000)  # so that it stays large when packed
    server.faults["orders"] = faults
    assert sync(server, folder).errors == []
    assert visible(folder) == server.tables


def test_a_redirect_is_not_followed_and_the_token_stays_here(server: MirroredServer, folder: Path) -> None:
    with mirrored() as elsewhere:
        elsewhere.tables["orders"] = b"PAR1 of somebody else PAR1"
        for status in (301, 302, 303, 307, 308):
            server.faults["orders"] = [Fault(status=status, location=f"{elsewhere.url}/tables/orders.parquet")]
            answer = sync(server, folder)
            assert f"({status})" in answer.errors[0].error
        server.faults["/manifest"] = [Fault(status=307, location=f"{elsewhere.url}/manifest")]
        with pytest.raises(SyncFailed, match="redirects elsewhere"):
            sync(server, folder)
        assert elsewhere.requests == []


def test_a_server_that_asks_for_patience_gets_some(server: MirroredServer, folder: Path) -> None:
    later = {"Retry-After": "1"}
    server.faults["orders"] = [Fault(status=503, headers=later), Fault()]
    server.faults["people"] = [Fault(status=429, headers={"Retry-After": "3600"})]
    answer = sync(server, folder)
    assert answer.downloaded == ["orders"]
    assert [error.error for error in answer.errors] == [
        "the server was asked too often (429); it asks to come again in 3600 s"
    ]


@pytest.mark.parametrize(
    ("failure", "usual_s", "pause_s"),
    [
        (TransferFailed("x"), 0.3, 0.3),
        (TransferFailed("x", after_s=2), 0.3, 2),
        (TransferFailed("x", after_s=999_999), 0.3, MAX_PAUSE_S),
        (TransferFailed("x", after_s=2), None, None),
        (TransferFailed("x", final=True, after_s=2), 0.3, None),
    ],
)
def test_pauses_are_as_asked_within_reason(failure: TransferFailed, usual_s: float | None, pause_s: object) -> None:
    assert failure.pause_s(usual_s) == pause_s


def test_a_dry_run_touches_nothing(server: MirroredServer, folder: Path) -> None:
    answer = sync(server, folder, dry_run=True)
    assert (answer.downloaded, answer.skipped_remote) == (["orders", "people"], ["web_sessions"])
    assert not folder.parent.exists()
    assert [path for path, _ in server.requests] == ["/manifest"]


def test_what_a_manifest_says_beside_its_tables_is_passed_over(server: MirroredServer, folder: Path) -> None:
    server.manifest = {**server.described(), "assets": {"docs": {"hash": "x"}}, "server_time": "?", "more": [1]}
    answer = sync(server, folder)
    assert (answer.downloaded, answer.errors) == (["orders", "people"], [])
    assert visible(folder) == server.tables


def test_names_from_the_manifest_are_checked(server: MirroredServer, folder: Path) -> None:
    bad = ["../evil", "a b", "A", "x" * 65, 'q"', "", "a/b", "orders\n"]
    server.manifest = {"tables": {name: {"hash": "", "query_mode": "local"} for name in bad}}
    answer = sync(server, folder)
    assert sorted(error.table for error in answer.errors) == sorted(bad)
    assert [path for path, _ in server.requests] == ["/manifest"]


@pytest.mark.parametrize(
    "manifest",
    [b"<html>", b"[]", b"{}", b'{"tables": {"t": {"hash": "../../x"}}}', b'{"tables": {"t": 5}}', b'{"tables": []}'],
)
def test_what_is_no_manifest_ends_the_run(server: MirroredServer, folder: Path, manifest: bytes) -> None:
    server.manifest = manifest
    with pytest.raises(SyncFailed, match="no manifest"):
        sync(server, folder)
    assert not folder.exists()


def test_a_token_that_is_not_known_ends_the_run(server: MirroredServer, folder: Path) -> None:
    with pytest.raises(SyncFailed, match="does not know this token") as told:
        Mirror(server.url, "agnes_wrong", folder).run(Call("sync", Principal("me")))
    assert "AGNES_TOKEN" in told.value.hint
    assert "agnes_wrong" not in f"{told.value}{told.value.hint}"


def test_a_server_that_is_not_there_ends_the_run(folder: Path) -> None:
    with closed_port() as port, pytest.raises(SyncFailed, match=r"cannot be reached \(Connection refused\)"):
        Mirror(f"http://127.0.0.1:{port}", TOKEN, folder).run(Call("sync", Principal("me")))


def test_another_protocol_is_told(server: MirroredServer, folder: Path) -> None:
    with pytest.raises(SyncFailed, match=r"cannot be reached \(it does not speak TLS there\)"):
        Mirror(server.url.replace("http:", "https:"), TOKEN, folder).run(Call("sync", Principal("me")))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx2.ConnectTimeout("x"), "no answer within 10 s"),
        (httpx2.ReadTimeout("x"), "nothing for 120 s"),
        (httpx2.RemoteProtocolError("x"), "before its end"),
        (socket.gaierror(-2, "Name or service not known"), "there is no such host"),
        (ssl.SSLCertVerificationError(1, "x"), "its certificate is not trusted: "),
        (ConnectionResetError(errno.ECONNRESET, "x"), "Connection reset by peer"),
        (OSError("without a number"), "before its end"),
    ],
)
def test_why_nothing_came_is_said_in_words(error: Exception, said: str) -> None:
    if isinstance(error, ssl.SSLCertVerificationError):
        error.verify_message = ""
    outer = error if isinstance(error, httpx2.HTTPError) else httpx2.ConnectError("x")
    if outer is not error:
        outer.__cause__ = httpx2.ConnectError("y")
        outer.__cause__.__context__ = error
    assert cause_of(outer) == said


@pytest.mark.parametrize("token", ["tökén", "a b", "a\nX-Other: b", "a\x00"])
def test_a_token_that_no_header_can_hold_is_refused(folder: Path, token: str) -> None:
    with pytest.raises(ValueError, match="the token holds") as told:
        Mirror("http://127.0.0.1", token, folder)
    assert token not in str(told.value)


def test_the_remote_tables_are_named_up_to_five() -> None:
    few, many = SyncAnswer(skipped_remote=["a", "b"]), SyncAnswer(skipped_remote=list("abcdefg"))
    assert SyncAnswer().remote_line() == ""
    assert few.remote_line() == "Skipping 2 remote-mode tables: a, b"
    assert many.remote_line() == "Skipping 7 remote-mode tables: a, b, c, d, e (+2 more)"


def test_progress_tells_bytes_of_each_table(server: MirroredServer, folder: Path) -> None:
    seen: list[Arrival] = []
    sync(server, folder, on_arrival=seen.append)
    last = {arrival.table: arrival for arrival in seen}
    assert {name: (a.done, a.total) for name, a in last.items()} == {
        name: (len(content), len(content)) for name, content in server.tables.items()
    }


def test_a_run_that_is_cancelled_keeps_its_part(server: MirroredServer, folder: Path) -> None:
    call = Call("sync", Principal("me"))
    server.tables["orders"] = server.tables["orders"] * 20
    with pytest.raises(AgnesError, match="cancelled"):
        Mirror(server.url, TOKEN, folder).run(call, on_arrival=lambda _: call.stop(cancelled()))
    assert (visible(folder), len(parts(folder))) == ({}, 1)
    assert sync(server, folder).errors == []
    assert "range" in server.asked("orders")[-1]


def test_a_run_waits_for_as_long_as_another_one_takes(server: MirroredServer, folder: Path) -> None:
    waited = threading.Event()

    class Looking(Call):
        looks = 0

        def check(self) -> None:
            super().check()
            self.looks += 1
            if self.looks > 40:  # far more often than the manifest's pieces are counted
                waited.set()

    folder.mkdir(parents=True)
    answers: list[SyncAnswer] = []
    call = Looking("sync", Principal("me"), timeout_s=60)
    run = threading.Thread(target=lambda: answers.append(Mirror(server.url, TOKEN, folder).run(call)))
    with FileLock(folder / ".sync.lock"):
        run.start()
        assert waited.wait(50)
        assert answers == []
    run.join()
    assert answers[0].downloaded == ["orders", "people"]


def test_two_runs_take_turns(server: MirroredServer, folder: Path) -> None:
    answers: list[SyncAnswer] = []
    threads = [threading.Thread(target=lambda: answers.append(sync(server, folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(answer.downloaded) for answer in answers) == [0, 0, 2]
    assert visible(folder) == server.tables


@pytest.mark.parametrize(
    "url",
    [
        "data.example.com",
        "ftp://data.example.com",
        "http://data.example.com",
        "https://ana:secret@data.example.com",
        "https://data.example.com?token=x",
        "https://",
        "",
        "https://[::1",
        "https://data.example.com:99999",
        "https://data.example.com:port",
    ],
)
def test_a_token_goes_only_where_it_is_safe(url: str) -> None:
    with pytest.raises(ValueError, match=r"name the server|use https|no place for"):
        checked_url(url)


def test_a_server_has_a_folder_of_its_own() -> None:
    assert checked_url("https://data.example.com/agnes/mcp/") == "https://data.example.com/agnes"
    assert folder_name("https://Data.example.com/agnes") == "data.example.com"
    assert folder_name("http://127.0.0.1:8787") == "127.0.0.1_8787"
    assert folder_name("http://[::1]:8787") == "__1_8787"
