"""Who may call, and what changes while the server runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from anyio import from_thread
from serving.http.jwks import AUDIENCE, Provider, serving_keys
from serving.served import (
    ACCEPT,
    AGNES_MCP,
    INITIALIZE,
    Served,
    body_of,
    connect,
    environment,
    rpc,
    serve,
    token_of,
    user,
    write_instance,
)

from agnes_mcp.access.grants import Access, digest_token, generate_token
from agnes_mcp.access.users_file import AccessFile
from agnes_mcp.config import loading
from agnes_mcp.config.settings import Settings, UserSettings
from agnes_mcp.errors import ConfigError
from agnes_mcp.serving.http.exposure import check_exposure
from agnes_mcp.serving.http.run import listen

JSON = {"Content-Type": "application/json", **ACCEPT}
ANA = token_of("ana")


def rewrite(path: Path, users: list[dict[str, Any]]) -> None:
    """Replace the file's users, as an editor does: a new file in the place of the old one."""
    content = yaml.safe_load(path.read_text())
    content["access"] = {**content.get("access", {}), "users": users}
    fresh = path.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(content))
    os.replace(fresh, path)


def starts_session(served: Served, token: str | None) -> bool:
    return served.request("POST", "/mcp", token, headers=JSON, json=INITIALIZE).status_code == 200


def test_a_user_who_is_removed_is_refused_at_the_next_call(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    ana, bob = user("ana", ["orders"]), user("bob", ["people"])
    path = write_instance(tmp_path / "instance.yaml", tables=tables, access={"users": [ana, bob]})
    with serve(path) as served:
        opened = served.request("POST", "/mcp", ANA, headers=JSON, json=INITIALIZE)
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], **JSON}
        rewrite(path, [bob])
        assert served.request("POST", "/mcp", ANA, headers=session, json=rpc("ping")).status_code == 401
        assert starts_session(served, token_of("bob"))
        rewrite(path, [ana, bob])
        assert starts_session(served, ANA)
        path.write_text("access: [this is not\n")
        assert starts_session(served, ANA), "a file that cannot be read locks nobody out"
        assert served.get("/readyz").json() == {"status": "degraded", "degraded": ["users"]}
        path.unlink()
        assert starts_session(served, ANA)
        write_instance(path, tables=tables, access={"users": [bob]})
        assert not starts_session(served, ANA)
        assert served.get("/readyz").json()["status"] == "ok"


async def test_grants_are_those_of_the_file_now(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    path = write_instance(
        tmp_path / "instance.yaml", tables=tables, access={"users": [user("ana", ["orders", "events"])]}
    )
    with serve(path) as served:
        async with connect(served, "http", "auto", ANA) as client:
            assert not (await client.call_tool("schema", {"table_id": "orders"})).is_error
            rewrite(path, [user("ana", ["events"], max_daily_bytes=7, max_concurrent=0)])
            refused = await client.call_tool("schema", {"table_id": "orders"})
            assert body_of(refused)["error"] == "table_not_found"
            quota = body_of(await client.call_tool("usage", {}))["quota"]
            assert (quota["daily_bytes_limit"], quota["max_concurrent_scans"]) == (7, 0)


def test_users_that_are_gone_leave_no_open_door(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    """Also when nobody came without a token before: a file that is half saved is not an instance without users."""
    path = write_instance(tmp_path / "instance.yaml", tables=tables, access={"users": [user("ana", ["orders"])]})
    with serve(path) as served:
        assert starts_session(served, ANA)
        rewrite(path, [])
        assert not starts_session(served, None)


def test_nobody_acts_as_the_os_user_once_there_is_a_user(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    path = write_instance(tmp_path / "instance.yaml", tables=tables)
    with serve(path) as served:
        assert starts_session(served, None)
        assert not starts_session(served, "some token")
        assert served.get("/metrics").status_code == 200
        rewrite(path, [user("ana", ["orders"])])
        assert not starts_session(served, None)
        assert starts_session(served, ANA)
        assert served.get("/metrics").status_code == 401
        rewrite(path, [])
        assert not starts_session(served, None), "removing every user opens nothing"
        assert not starts_session(served, ANA)


async def test_on_loopback_without_users_the_caller_is_the_os_user(
    tmp_path: Path, tables: list[dict[str, Any]]
) -> None:
    path = write_instance(tmp_path / "instance.yaml", tables=tables)
    async with connect(path, "stdio", "auto") as client:
        name = body_of(await client.call_tool("usage", {}))["principal"]
    with serve(path) as served:
        for transport in ("http", "sse"):
            async with connect(served, transport, "auto") as client:
                assert body_of(await client.call_tool("usage", {}))["principal"] == name


@pytest.mark.parametrize(
    ("host", "sections", "named"),
    [
        ("0.0.0.0", {}, "no user"),  # noqa: S104 - what must be refused
        ("::", {}, "no user"),
        ("0.0.0.0", {"users": True}, "names of this server"),  # noqa: S104 - as above
        ("127.0.0.1", {"oidc": True}, "nobody may call"),
        ("192.0.2.1", {"users": True, "public_url": "https://agnes.example.com"}, "Cannot listen"),
    ],
)
def test_the_server_refuses_to_start_where_strangers_could_call(
    tmp_path: Path, host: str, sections: dict[str, Any], named: str
) -> None:
    access: dict[str, Any] = {}
    if sections.get("users"):
        access["users"] = [user("ana", "*")]
    if sections.get("oidc"):
        access["oidc"] = {"issuer": "https://id.example.com", "audience": "a", "jwks_uri": "https://id.example.com/k"}
    server = {"public_url": sections["public_url"]} if "public_url" in sections else {}
    settings = Settings.model_validate({"data_dir": str(tmp_path), "access": access, "server": server})

    def start() -> None:
        check_exposure(settings, host)
        listen(host, 0)

    with pytest.raises(ConfigError, match=named) as refusal:
        start()
    assert refusal.value.exit_code == 2


def test_a_refusal_to_start_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    path = write_instance(tmp_path / "instance.yaml")
    command = [AGNES_MCP, "serve", "--transport", "http", "--host", "0.0.0.0", "-c", str(path)]  # noqa: S104 - refused
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment())
    assert ended.returncode == 2
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "agnes-mcp token new" in ended.stderr


def test_beyond_loopback_it_answers_to_its_own_names_only(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    server = {"public_url": "https://agnes.example.com/", "allowed_hosts": ["agnes.internal:*"]}
    path = write_instance(
        tmp_path / "instance.yaml", tables=tables, access={"users": [user("ana", "*")]}, server=server
    )
    with serve(path, "--host", "0.0.0.0") as served:  # noqa: S104 - users and names are configured
        served.url = served.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 - as above

        def ask(**headers: str) -> int:
            return served.request("POST", "/mcp", ANA, headers={**JSON, **headers}, json=INITIALIZE).status_code

        assert ask(Host="agnes.example.com", Origin="https://agnes.example.com") == 200
        assert ask(Host="agnes.internal:8787") == 200
        assert ask(Host="192.0.2.7") == 421
        assert ask(Host="agnes.example.com", Origin="http://localhost:3000") == 403
        assert served.request("POST", "/mcp", headers=JSON, json=INITIALIZE).status_code == 401


async def test_more_calls_than_a_minute_allows_are_refused(tmp_path: Path, tables: list[dict[str, Any]]) -> None:
    path = write_instance(
        tmp_path / "instance.yaml",
        tables=tables,
        access={"users": [user("ana", ["orders"]), user("bob", ["people"])]},
        server={"max_calls_per_minute_per_user": 3},
    )
    with serve(path) as served:
        async with connect(served, "http", "auto", ANA) as client:
            for _ in range(3):
                assert not (await client.call_tool("usage", {})).is_error
            refused = body_of(await client.call_tool("usage", {}))
            assert refused["error"] == "rate_limited"
            assert 1 <= refused["details"]["retry_after_seconds"] <= 20
        async with connect(served, "sse", "auto", token_of("bob")) as client:
            assert not (await client.call_tool("usage", {})).is_error


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serving_keys() as serving:
        yield serving


@pytest.fixture(scope="module")
def resource_server(
    tmp_path_factory: pytest.TempPathFactory, tables: list[dict[str, Any]], provider: Provider
) -> Iterator[Served]:
    oidc = {"issuer": provider.url, "audience": AUDIENCE, "jwks_uri": f"{provider.url}/keys"}
    users = [{"name": "ana@example.com", "tables": ["orders"]}, user("bob", ["people"])]
    path = tmp_path_factory.mktemp("oidc") / "instance.yaml"
    with serve(write_instance(path, tables=tables, access={"users": users, "oidc": oidc})) as served:
        yield served


async def test_a_providers_token_is_a_user(resource_server: Served, provider: Provider) -> None:
    for transport in ("http", "sse"):
        async with connect(resource_server, transport, "auto", provider.token("ana@example.com")) as client:
            assert body_of(await client.call_tool("usage", {}))["principal"] == "ana@example.com"
            tables = body_of(await client.call_tool("catalog", {}))["tables"]
            assert [table["id"] for table in tables] == ["orders"]


def test_what_the_provider_vouches_for_must_be_a_user_here_too(resource_server: Served, provider: Provider) -> None:
    assert starts_session(resource_server, provider.token("ana@example.com"))
    assert starts_session(resource_server, token_of("bob"))
    assert not starts_session(resource_server, provider.token("eve@example.com"))
    assert not starts_session(resource_server, provider.token("ana@example.com", aud="another-server"))
    assert not starts_session(resource_server, None)


def test_a_session_of_one_kind_of_token_is_not_anothers(resource_server: Served, provider: Provider) -> None:
    token = provider.token("ana@example.com")
    opened = resource_server.request("POST", "/mcp", token, headers=JSON, json=INITIALIZE)
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"], **JSON}
    renewed = provider.token("ana@example.com", iat=1)
    assert resource_server.request("POST", "/mcp", renewed, headers=session, json=rpc("ping")).status_code == 200
    other = resource_server.request("POST", "/mcp", token_of("bob"), headers=session, json=rpc("ping"))
    assert other.status_code == 404


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
def test_a_client_learns_where_to_get_a_token(resource_server: Served, provider: Provider, path: str) -> None:
    """RFC 9728: the refusal names the metadata, and the metadata names this endpoint and the provider."""
    refused = resource_server.request("GET", path)
    assert refused.status_code == 401
    metadata = f"{resource_server.url}/.well-known/oauth-protected-resource{path}"
    assert f'resource_metadata="{metadata}"' in refused.headers["www-authenticate"]
    described = resource_server.get(f"/.well-known/oauth-protected-resource{path}").json()
    assert described["resource"] == resource_server.url + path
    assert described["authorization_servers"] == [provider.url]
    assert described["bearer_methods_supported"] == ["header"]


def test_no_input_gets_into_the_metadata(resource_server: Served) -> None:
    headers = {"Host": "localhost:1", "X-Forwarded-Host": "evil.example"}
    refused = resource_server.request("GET", "/mcp", headers=headers)
    assert "evil.example" not in refused.headers["www-authenticate"]
    assert "localhost:1" not in refused.headers["www-authenticate"]


def test_a_new_token_is_accepted_by_the_lines_that_came_with_it(tmp_path: Path) -> None:
    command = [AGNES_MCP, "token", "new", "ana@example.com", "--table", "orders", "--table", "events"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment()).stdout
    token = said.splitlines()[0].rpartition(" ")[2]
    lines = yaml.safe_load(said[said.index("access:") :])
    assert token not in said[said.index("access:") :]
    users = [UserSettings.model_validate(entry) for entry in lines["access"]["users"]]
    assert users[0].tables == ["orders", "events"]
    found = Access(users).by_token(token)
    assert found is not None
    assert found.name == "ana@example.com"


def test_tokens_differ_and_are_long() -> None:
    tokens = {generate_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 + len("agnes_") for token in tokens)


async def test_a_file_that_changes_twice_within_a_tick_is_read_twice(tmp_path: Path) -> None:
    """Same size, same time of change, same inode: only that it was too fresh to be trusted tells."""
    path = write_instance(tmp_path / "instance.yaml", access={"users": [user("ana", "*")]})
    fresh = time.time() + 3_600  # for as long as this takes
    os.utime(path, (fresh, fresh))
    access = Access([])
    file = AccessFile(path, access)
    await file.refresh()
    assert access.by_token(ANA) is not None
    text, times = path.read_text(), path.stat()
    with path.open("r+") as same:
        same.write(text.replace(digest_token(ANA), digest_token(token_of("bob"))))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    await file.refresh()
    assert access.by_token(ANA) is None


async def test_who_calls_while_the_users_are_read_again_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who was removed is not let in because somebody else's request is the one that reads the file."""
    path = write_instance(tmp_path / "instance.yaml", access={"users": [user("ana", "*")]})
    access = Access([])
    file = AccessFile(path, access)
    await file.refresh()
    assert access.by_token(ANA) is not None
    rewrite(path, [user("bob", "*")])
    os.utime(path, (1e9, 1e9))  # long enough ago to be trusted once it is read
    let_in: list[bool] = []

    async def call_meanwhile() -> None:
        with anyio.move_on_after(0.2):  # it waits, and gives up
            await file.refresh()
            let_in.append(access.by_token(ANA) is not None)

    def reading(read: Path) -> Any:
        monkeypatch.undo()
        from_thread.run(call_meanwhile)
        return loading.load_grants(read)

    monkeypatch.setattr(loading, "load_grants", reading)
    await file.refresh()
    assert not any(let_in)
    assert access.by_token(ANA) is None
