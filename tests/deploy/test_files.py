"""The files of deploy/ as the programs that read them see them, and as they fit together."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
#: Of 10: as exposed as systemd thinks a service may be. One without any hardening has 9.6.
MAX_EXPOSURE = 2.0


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a server that is installed here."""
    text = (DEPLOY / "agnes-mcp.service").read_text("utf-8")
    installed = tmp_path / "agnes-mcp.service"
    assert "/opt/agnes/bin/agnes-mcp" in text
    installed.write_text(text.replace("/opt/agnes/bin", str(Path(sys.executable).parent)))
    return installed


def test_systemd_takes_the_unit(unit: Path) -> None:
    done = analyze("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_the_unit_hardened(unit: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE * 10:.0f}", str(unit))
    assert done.returncode == 0, done.stdout[-2000:]
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level
    assert float(level[1]) <= MAX_EXPOSURE


def test_a_unit_without_hardening_would_be_told(unit: Path) -> None:
    bare = re.sub(r"^(?!\[|ExecStart|Type).*$", "", unit.read_text(), flags=re.MULTILINE)
    unit.write_text(bare)
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MAX_EXPOSURE * 10:.0f}", str(unit))
    assert done.returncode != 0


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return content


def test_compose_runs_the_server_as_its_containerfile_says(compose: dict[str, Any]) -> None:
    container = (DEPLOY / "Containerfile").read_text("utf-8")
    agnes = compose["services"]["agnes"]
    assert (DEPLOY / agnes["build"]["context"] / agnes["build"]["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    assert f"USER {agnes['user']}" in container
    assert agnes["read_only"] is True
    assert agnes["cap_drop"] == ["ALL"]
    written = re.findall(r"^VOLUME (\S+)$", container, re.MULTILINE)
    assert [place.split(":")[1] for place in agnes["volumes"] if not place.endswith(":ro")] == written
    assert "AGNES_CONFIG=/etc/agnes/instance.yaml" in container
    assert "./instance.yaml:/etc/agnes/instance.yaml:ro" in agnes["volumes"]


def test_compose_names_only_what_it_defines(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert set(service.get("secrets", [])) <= set(compose["secrets"])
        named = {place.split(":")[0] for place in service.get("volumes", []) if not place.startswith((".", "/"))}
        assert named <= set(compose["volumes"])


def test_only_the_proxys_ports_are_open(compose: dict[str, Any]) -> None:
    opened = [port for service in compose["services"].values() for port in service.get("ports", [])]
    listening = re.findall(r"listen (\d+)", (DEPLOY / "nginx.conf").read_text("utf-8"))
    assert [port.split(":")[1] for port in opened] == listening == ["80", "443"]


def test_the_readme_says_what_was_not_tried() -> None:
    text = (DEPLOY / "README.md").read_text("utf-8")
    assert "no image was built" in text
    files = {path.name for path in DEPLOY.iterdir()} - {"README.md"}
    assert set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)) == files
    for link in re.findall(r"\]\((\S+?)\)", text):
        assert os.path.exists(DEPLOY / link), link
