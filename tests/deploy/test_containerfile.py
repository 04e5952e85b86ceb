"""The Containerfile's lines, executed in a throw-away root: this machine's files below, what is written in memory.

No image is built. The root stands in for the base image, so the lines meet a Debian with Python and nothing of ours.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from serving.served import token_of, user, write_instance

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a root of its own: root on Linux"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


class Line(NamedTuple):
    word: str
    rest: str


def lines() -> list[Line]:
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [Line(*line.split(" ", 1)) for line in text.splitlines() if line.strip()]


def of(word: str) -> list[str]:
    return [line.rest.strip() for line in lines() if line.word == word]


#: apt's part needs a mirror and changes nothing that the rest needs: it is looked at, and simulated.
PRELUDE = """
set -eu
mount -t tmpfs -o size=6g tmpfs {work}
mkdir {work}/up {work}/by {work}/merged
mount -t overlay overlay -o lowerdir=/,upperdir={work}/up,workdir={work}/by {work}/merged
mount -t proc proc {work}/merged/proc
mount --rbind /dev {work}/merged/dev
mount -t tmpfs tmpfs {work}/merged/tmp
chmod 1777 {work}/merged/tmp
# the image's Python is found by everybody under this name
mkdir -p {work}/merged/usr/local/bin
printf '#!/bin/sh\nexec {python} "$@"\n' > {work}/merged/usr/local/bin/python3
chmod 0755 {work}/merged/usr/local/bin/python3
for folder in {hidden}; do chmod a+rx {work}/merged/$folder; done
mkdir -p {work}/merged/etc/agnes {work}/merged/src
cp {instance} {work}/merged/etc/agnes/instance.yaml
chmod 0644 {work}/merged/etc/agnes/instance.yaml
"""

#: Linux, netdevice(7): SIOCSIFFLAGS with IFF_UP.
LOOPBACK_UP = """
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH22x", b"lo", 1))
"""


def script(tmp_path: Path) -> str:
    """What the lines do, in order, as one shell script in a mount namespace."""
    work = tmp_path / "work"
    work.mkdir()
    users = {"users": [user("ana", "*")]}
    instance = write_instance(
        tmp_path / "instance.yaml", access=users, server={"public_url": "https://agnes.example.com"}
    )
    text = instance.read_text().replace(f"data_dir: {tmp_path}/data\n", "")
    instance.write_text(text)
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    hidden = " ".join(str(folder).lstrip("/") for folder in [*python.parents][:-1])
    steps = [PRELUDE.format(work=work, python=python, instance=instance, hidden=hidden)]
    place, root, env = "/", f"{work}/merged", {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    env |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_CERT", "HTTP", "http"))}
    runner = "0:0"
    for line in lines():
        if line.word == "WORKDIR":
            place = line.rest.strip()
            steps.append(f"mkdir -p {root}{place}")
        elif line.word == "COPY":
            *sources, target = line.rest.split()
            steps += [f"cp -r {shlex.quote(str(ROOT / source))} {root}{place}/{target}" for source in sources]
        elif line.word == "ENV":
            env |= dict(pair.split("=", 1) for pair in shlex.split(line.rest))
        elif line.word == "RUN" and "apt-get" not in line.rest:
            steps.append(inside(root, place, env, runner, ["/bin/sh", "-c", line.rest]))
        elif line.word == "USER":
            runner = line.rest.strip()
    running = "\n".join(["set -eu", f"{python} -c {shlex.quote(LOOPBACK_UP)}", *at_run_time(root, place, env, runner)])
    steps.append(f"unshare --net /bin/sh -c {shlex.quote(running)}")  # whoever has that port here is not in its way
    return "\n".join(steps)


def inside(root: str, place: str, env: dict[str, str], runner: str, words: list[str]) -> str:
    """A command in that root, as that user, with that environment and nothing else of this one."""
    user_, _, group = runner.partition(":")
    quoted = " ".join(shlex.quote(f"{name}={value}") for name, value in env.items())
    command = " ".join(shlex.quote(word) for word in words)
    here = shlex.quote(f"cd {place} && exec {command}")
    return f"{shutil.which('chroot')} --userspec={user_}:{group} {root} /usr/bin/env -i {quoted} /bin/sh -c {here}"


def at_run_time(root: str, place: str, env: dict[str, str], runner: str) -> list[str]:
    """A read-only root, the volume and /tmp apart; the command, then the health check until it passes."""
    (entry,), (command,), (health,) = of("ENTRYPOINT"), of("CMD"), of("HEALTHCHECK")
    (volume,) = of("VOLUME")
    probe = json.loads(health.partition(" CMD ")[2])
    serve = inside(root, place, env, runner, [*json.loads(entry), *json.loads(command)])
    check = inside(root, place, env, runner, probe)
    look = inside(
        root,
        place,
        env,
        runner,
        ["/bin/sh", "-c", "id -u; touch /opt/agnes/x 2>&1; touch /var/lib/agnes/x && echo written"],
    )
    extras = inside(root, place, env, runner, ["python3", "-c", EXTRAS])
    ask = inside(root, place, {**env, "TOKEN": token_of("ana")}, runner, ["python3", "-c", ASK])
    return [
        f"mount -t tmpfs -o uid=10001,gid=10001,mode=0700 tmpfs {root}{volume}",
        f"mount -o remount,ro {root}",
        "echo == ran",
        look,
        extras,
        f"{serve} & server=$!",
        "trap 'kill $server' EXIT",
        f"n=0; until {check} 2>/dev/null; do n=$((n+1)); [ $n -lt 100 ]; kill -0 $server; sleep 0.3; done",
        "echo == healthy",
        ask,
        f"kill $server; wait $server || true; trap - EXIT; if {check} 2>/dev/null; then echo == still healthy; fi",
    ]


#: What `quota.store` and the variables of OpenTelemetry ask for.
EXTRAS = """
import psycopg
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
print("== extras")
"""
ASK = """
import os, urllib.request, json
request = urllib.request.Request("http://127.0.0.1:8787/mcp", method="POST", data=json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"}}}).encode(), headers={"Content-Type": "application/json",
    "Accept": "application/json, text/event-stream", "Authorization": "Bearer " + os.environ["TOKEN"]})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""


def test_the_lines_make_a_server_that_is_healthy(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", script(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    if "overlay" in done.stderr and "== ran" not in done.stdout:
        pytest.skip(f"no overlay can be mounted here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    ran = done.stdout.partition("== ran\n")[2]
    assert ran.startswith("10001\n")
    assert "Read-only file system" in ran
    assert "written" in ran
    assert "== extras" in ran
    assert "== healthy" in ran
    assert '"serverInfo":{"name":"agnes"' in ran
    assert "== still healthy" not in ran


def test_every_extra_that_a_setting_may_need_is_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    installs = [CONTAINERFILE.read_text("utf-8"), (ROOT / "deploy" / "README.md").read_text("utf-8")]
    for text in installs:
        (named,) = re.findall(r"pip install [^'\n]*'\.\[([a-z,]+)\]'", text)
        assert set(named.split(",")) == extras.keys() - {"dev"}


def test_the_base_is_a_python_that_is_supported() -> None:
    (base,) = of("FROM")
    version = re.fullmatch(r"python:3\.(\d+)-slim", base)
    assert version
    assert 11 <= int(version[1]) <= 13


def test_apt_installs_what_charts_draw_with_and_leaves_no_lists() -> None:
    (run,) = [line for line in of("RUN") if "apt-get" in line]
    assert run.endswith("rm -rf /var/lib/apt/lists/*")
    packages = run.partition("--no-install-recommends ")[2].partition(" &&")[0].split()
    assert packages == ["fonts-noto-cjk", "fonts-noto-color-emoji"]
    simulated = subprocess.run(
        ["apt-get", "--simulate", "install", *packages], capture_output=True, text=True, timeout=60
    )
    assert simulated.returncode == 0, simulated.stderr


def test_nothing_of_this_machine_is_copied() -> None:
    copied = [source for line in of("COPY") for source in line.split()[:-1]]
    tracked = subprocess.run(["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {path.split("/")[0] for path in tracked.splitlines()} == set(copied)
