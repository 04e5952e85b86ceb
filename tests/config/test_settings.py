"""What an instance file may say, and the one line that names the key when it cannot be served."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agnes_mcp.config.complaints import FORMS
from agnes_mcp.config.loading import find_config, load_settings
from agnes_mcp.config.settings import Settings, schema_of_settings
from agnes_mcp.errors import ConfigError

COMMAND = Path(sys.executable).with_name("agnes-mcp")
ORDERS = "tables: [{id: orders, path: orders.csv}]\n"


def loaded(folder: Path, text: str) -> Settings:
    (folder / "orders.csv").write_text("a\n1\n")
    path = folder / "instance.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def complaint(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


REFUSED = {
    # unknown keys, with the nearest that there is
    "datadir: x": ("datadir", "data_dir"),
    "api: {scan: {max_limt: 1}}": ("api.scan.max_limt", "max_limit"),
    "tables: [{id: a, path: orders.csv, primary_keys: x}]": ("tables[0].primary_keys", "primary_key"),
    "data_source: {bigquery: {project: my-project, dataset: x}}": ("data_source.bigquery.dataset", "datasets"),
    "access: {users: [{name: a, token: x}]}": ("access.users[0].token", "token_sha256"),
    # wrong types
    "api: {scan: {max_limit: many}}": ("api.scan.max_limit", "whole number"),
    "api: {scan: {max_limit: true}}": ("api.scan.max_limit", "number"),
    "api: {scan: {max_limit: 1.5}}": ("api.scan.max_limit", "whole number"),
    "api: {scan: {max_limit: -1}}": ("api.scan.max_limit", "greater than or equal to 0"),
    "api: {scan: {bq_cost_per_tb_usd: .nan}}": ("api.scan.bq_cost_per_tb_usd", "greater than"),
    "api: {scan: {request_timeout_seconds: .inf}}": ("api.scan.request_timeout_seconds", "finite"),
    "api: {scan: null}": ("api.scan", "mapping"),
    "api: {max_result_chars: 10}": ("api.max_result_chars", "1000"),
    "tables: {id: a}": ("tables", "list"),
    "tables: [{id: a, path: orders.csv, primary_key: [1]}]": ("tables[0].primary_key[0]", "a text"),
    "tables: [{id: a, path: orders.csv, source_type: mysql}]": ("tables[0].source_type", "bigquery"),
    "data_source: {bigquery: {project: my-project, auth: key}}": ("data_source.bigquery.auth", "metadata"),
    "- a": ("instance.yaml", "mapping"),
    "quota: {store: redis}": ("quota.store", "postgresql://user@host"),
    "quota: {store: 'mysql://ana:word@db/x'}": ("quota.store", "`process`"),
    "quota: {store: 'postgresql://ana:word@db:port/x'}": ("quota.store", "`file`"),
    "quota: {store: 'postgresql://ana:word@[db/x'}": ("quota.store", "`file`"),
    "quota: {store: null}": ("quota.store", "text"),
    "quota: {max_daily_bytes_per_project: -1}": ("quota.max_daily_bytes_per_project", "greater than or equal to 0"),
    "quota: {warn_at_percent: 101}": ("quota.warn_at_percent", "less than or equal to 100"),
    # ids, matched whole
    'tables: [{id: "orders\\n", path: orders.csv}]': ("tables[0].id", "as in `web_sessions`"),
    'tables: [{id: " orders", path: orders.csv}]': ("tables[0].id", "as in `web_sessions`"),
    "tables: [{id: Orders, path: orders.csv}]": ("tables[0].id", "as in `web_sessions`"),
    "tables: [{id: a-b, path: orders.csv}]": ("tables[0].id", "as in `web_sessions`"),
    "tables: [{id: '', path: orders.csv}]": ("tables[0].id", "as in `web_sessions`"),
    f"tables: [{{id: {'a' * 65}, path: orders.csv}}]": ("tables[0].id", "as in `web_sessions`"),
    "tables: [{id: ../x, path: orders.csv}]": ("tables[0].id", "as in `web_sessions`"),
    "data_source: {bigquery: {project: 'my project'}}": ("data_source.bigquery.project", "as in `my-project`"),
    'data_source: {bigquery: {project: "my-project\\n"}}': ("data_source.bigquery.project", "as in `my-project`"),
    "access: {users: [{name: a, token_sha256: abc}]}": ("access.users[0].token_sha256", "64 hexadecimal digits"),
    "access: {users: [{name: a, tables: ['x; DROP']}]}": ("access.users[0].tables", "as in `web_sessions`"),
    # twice
    "tables: [{id: a, path: orders.csv}, {id: a, path: orders.csv}]": ("tables", "'a' is used twice"),
    "access: {groups: [{name: all}, {name: all}]}": ("access.groups", "'all' is listed twice"),
    "access: {users: [{name: ana, groups: [gone]}]}": ("access", "'ana' is in the group 'gone'"),
    'access: {users: [{name: ana}, {name: "an\\u200Ba"}]}': ("access.users[1].name", "U+200B is at place 3"),
    'access: {groups: [{name: "\\u202Eana"}]}': ("access.groups[0].name", "no hidden character"),
    "access: {users: [{name: ana}, {name: ana}]}": ("access.users", "'ana' is listed twice"),
    "api: {}\napi: {}": ("instance.yaml", "'api' is written twice"),
    "tables: [{id: a, id: b, path: orders.csv}]": ("instance.yaml", "'id' is written twice"),
    # what cannot be
    "tables: [{id: a}]": ("tables[0]", "needs `path`"),
    "tables: [{id: a, path: orders.csv, query_mode: remote}]": ("tables[0]", "bigquery"),
    "tables: [{id: a, source_type: bigquery, bucket: b, path: orders.csv}]": ("tables[0]", "`path` belongs to local"),
    "tables: [{id: a, source_type: bigquery}]": ("tables[0]", "bucket"),
    "tables: [{id: a, source_type: bigquery, bucket: b, source_table: 'c`; x'}]": (
        "tables[0]",
        "name as BigQuery allows",
    ),
    'tables: [{id: a, path: a.xlsx, source_table: "a\\0b"}]': ("tables[0].source_table", "without controls"),
    "tables: [{id: a, source_type: bigquery, bucket: b}]": ("instance.yaml", "data_source.bigquery.project"),
    "tables: [{id: a, source_type: bigquery, bucket: 'b`; x'}]": ("tables[0].bucket", "as in `my_dataset`"),
    # not YAML
    "api: [": ("instance.yaml", "line 1"),
    "a: b: c": ("instance.yaml", "line 1, column 5"),
    "api: !!python/object/apply:os.system [id]": ("instance.yaml", "line 1"),
    "1: x": ("instance.yaml", "not text"),
    "api: \x01": ("instance.yaml", "YAML"),
    "api: " + "[" * 5_000: ("instance.yaml", "nested deeper"),
    # values that are none
    "data_dir: 2026-13-01": ("instance.yaml", "not what it looks like"),
    "data_dir: 2026-01-01": ("data_dir", "in quotes"),
    "data_dir: !!bool x": ("instance.yaml", "not what it looks like"),
    "data_dir: !!timestamp x": ("instance.yaml", "not what it looks like"),
    "data_dir: " + "1" * 6_000: ("instance.yaml", "not what it looks like"),
    'data_dir: "a\\0b"': ("instance.yaml", "the path 'a\\0b'"),
    'tables: [{id: a, path: "a\\0b"}]': ("instance.yaml", "NUL"),
}


NAMES = [text[:60] for text in REFUSED]


@pytest.mark.parametrize(("text", "said"), REFUSED.items(), ids=NAMES)
def test_one_line_names_the_key_and_the_problem(tmp_path: Path, text: str, said: tuple[str, str]) -> None:
    error = complaint(tmp_path, text)
    assert error.message.startswith(said[0])
    assert said[1] in error.message
    assert error.details.get("key") or said[0] == "instance.yaml"


@pytest.mark.parametrize("text", [*REFUSED, None], ids=[*NAMES, "missing file"])
def test_no_complaint_shows_a_token_or_a_folder_of_the_machine(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        assert str(tmp_path) not in complaint(tmp_path, text).message.replace(f"{tmp_path}/gone", "")


@pytest.mark.parametrize("text", ["api: [", "dta_dir: x", None])
def test_the_console_script_ends_with_one_line_and_code_2(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "instance.yaml"
    if text is not None:
        path.write_text(text)
    ended = subprocess.run(
        [COMMAND, "serve", "--config", str(path)], input="", capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1


def test_the_store_of_the_quota(tmp_path: Path) -> None:
    """A file unless something else is said; the password of a database is in no text that settings become."""
    assert loaded(tmp_path, ORDERS).quota.store == "file"
    url = "postgresql://ana:secret-word@db.example.com:5432/agnes?sslmode=require"
    settings = loaded(tmp_path, f"{ORDERS}quota: {{store: '{url}'}}")
    assert settings.quota.store == url
    assert "secret-word" not in f"{settings!r} {settings}"
    assert "secret-word" not in str(complaint(tmp_path, f"quota: {{store: 'x{url}'}}"))


def test_zero_is_zero(tmp_path: Path) -> None:
    text = (
        "api: {catalog_cache_ttl_seconds: 0, schema_cache_ttl_seconds: 0, scan: {max_limit: 0, max_scan_bytes: 0, "
        "max_concurrent_per_user: 0, max_daily_bytes_per_user: 0, bq_cost_per_tb_usd: 0, confirm_above_bytes: 0}}\n"
        "snapshots: {quota_gb: 0, min_free_gb: 0}\n"
        "access: {users: [{name: ana, max_daily_bytes: 0, max_concurrent: 0}]}\n"
    )
    settings = loaded(tmp_path, text)
    scan = settings.api.scan
    assert (scan.max_limit, scan.max_scan_bytes, scan.max_concurrent_per_user) == (0, 0, 0)
    assert (scan.max_daily_bytes_per_user, scan.bq_cost_per_tb_usd, scan.confirm_above_bytes) == (0, 0, 0)
    assert (settings.api.catalog_cache_ttl_seconds, settings.snapshots.quota_gb) == (0, 0)
    assert (settings.access.users[0].max_daily_bytes, settings.access.users[0].max_concurrent) == (0, 0)
    assert loaded(tmp_path, "").api.scan.max_concurrent_per_user == 5


@pytest.mark.parametrize(
    ("written", "read"), [("session_id", ["session_id"]), ("[a, b]", ["a", "b"]), ("null", []), ("[]", [])]
)
def test_a_primary_key_is_text_a_list_or_null(tmp_path: Path, written: str, read: list[str]) -> None:
    settings = loaded(tmp_path, f"tables: [{{id: a, path: orders.csv, primary_key: {written}}}]")
    assert settings.tables[0].primary_key == read


def test_paths_are_relative_to_the_file_and_know_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "deep").mkdir()
    (tmp_path / "t.csv").write_text("a\n1\n")
    monkeypatch.chdir("/")
    text = "data_dir: state\ntables: [{id: a, path: ../t.csv}, {id: b, path: ~/t.csv}, {id: c, path: '../*.csv'}]"
    path = tmp_path / "deep" / "instance.yaml"
    path.write_text(text)
    settings = load_settings(path)
    assert settings.data_dir == tmp_path / "deep" / "state"
    assert [table.path for table in settings.tables] == [str(tmp_path / "t.csv")] * 2 + [str(tmp_path / "*.csv")]
    path.write_text("data_dir: ~/elsewhere")
    assert load_settings(path).data_dir == tmp_path / "elsewhere"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGNES_API__SCAN__MAX_LIMIT", "7")
    monkeypatch.setenv("AGNES_DATA_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("AGNES_DATA_SOURCE__BIGQUERY__PROJECT", "env-project")
    text = "data_dir: state\napi: {scan: {max_limit: 5, max_scan_bytes: 6}}\n" + ORDERS
    settings = loaded(tmp_path, text)
    assert (settings.api.scan.max_limit, settings.api.scan.max_scan_bytes) == (7, 6)
    assert settings.data_dir == tmp_path / "env"
    assert settings.data_source.bigquery is not None
    assert settings.data_source.bigquery.project == "env-project"
    assert [table.id for table in settings.tables] == ["orders"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AGNES_API__SCAN__MAX_LIMIT", "many", "api.scan.max_limit: "),
        ("AGNES_API__SCAN__MAX_LIMT", "5", "api.scan.max_limt: is not a key"),
        ("AGNES_TABLES", "not json", "environment: "),
        ("AGNES_API_SCAN_MAX_LIMIT", "5", "AGNES_API_SCAN_MAX_LIMIT: "),
        ("AGNES_DATADIR", "/x", "AGNES_DATADIR: "),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    error = complaint(tmp_path, ORDERS)
    assert error.message.startswith(said)


def test_the_file_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for it makes nothing."""
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".agnes").mkdir(parents=True)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("AGNES_CONFIG", raising=False)
    monkeypatch.chdir(here)
    assert find_config() is None
    assert os.listdir(here) == []
    (home / ".agnes" / "instance.yaml").write_text("")
    assert find_config() == home / ".agnes" / "instance.yaml"
    (here / "instance.yaml").write_text("")
    assert find_config() == here / "instance.yaml"
    named = tmp_path / "named.yaml"
    monkeypatch.setenv("AGNES_CONFIG", str(named))
    with pytest.raises(ConfigError, match=r" AGNES_CONFIG: "):
        find_config()
    named.write_text("")
    assert find_config() == named
    with pytest.raises(ConfigError, match=r" --config: "):
        find_config(str(tmp_path / "other.yaml"))


def test_every_pattern_of_the_configuration_is_told_in_words() -> None:
    patterns: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            patterns.update(value for key, value in node.items() if key == "pattern" and isinstance(value, str))
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            collect(inner)

    collect(schema_of_settings())
    assert patterns
    assert patterns <= set(FORMS)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = "data_dri: x\napi: {scan: {max_limit: many}}\naccess: {users: [{name: a, expires: soon}]}\n"
    said = complaint(tmp_path, text).message
    assert all(part in said for part in ("data_dri: is not a key", "max_limit: should be a whole", "as in 2027-01-31"))
    assert "\n" not in said


def test_a_file_that_is_not_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "instance.yaml").write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match=r"instance\.yaml cannot be read: it is not text in UTF-8"):
        load_settings(tmp_path / "instance.yaml")


def test_what_is_named_and_is_no_file_is_told(tmp_path: Path) -> None:
    for named, says in (("", "there is no file ''"), (str(tmp_path), "is a folder"), ("a\0b", "there is no file")):
        with pytest.raises(ConfigError, match=says):
            find_config(named, {"AGNES_CONFIG": str(tmp_path / "instance.yaml")})
    with pytest.raises(ConfigError, match="there is no file"):
        find_config("x" * 5_000, {})
