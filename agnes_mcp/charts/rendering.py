"""A specification becomes a picture in a process of its own, which is ended at the deadline."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agnes_mcp.calls.call import Call, timed_out
from agnes_mcp.calls.processes import frames
from agnes_mcp.errors import AgnesError

Format = Literal["png", "svg"]
CHILD = ("-I", "-B", "-m", "agnes_mcp.charts.child")
#: Hosts refuse answers over a million characters, and base64 takes four characters for three bytes.
MAX_PNG_BYTES = 730_000
#: Models refuse larger pictures.
MAX_PX = 8_000
RENDER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Picture:
    """`content` is a PNG or an SVG document; `missing` the characters that no font here has; pixels of a PNG only."""

    content: bytes
    form: Format
    missing: str = ""
    width_px: int = 0
    height_px: int = 0


def render(
    spec: dict[str, Any], call: Call, *, form: Format = "png", texts: str = "", timeout_s: float = RENDER_TIMEOUT_S,
    max_bytes: int = MAX_PNG_BYTES, command: Sequence[str] = CHILD,
) -> Picture:  # fmt: skip
    """Render `spec`; `texts` are looked up in the fonts. Blocking.

    Raises AgnesError: `chart_failed` (refused, or the renderer gave up), `timeout`, `cancelled`.
    """
    limit_s = timeout_s if call.remaining_s is None else min(timeout_s, call.remaining_s)
    asked = {"spec": spec, "form": form, "texts": texts, "max_bytes": max_bytes, "max_px": MAX_PX,
             "cpu_s": math.ceil(limit_s) + 1}  # fmt: skip
    question = io.BytesIO()
    frames.send_json(question, frames.ASK, asked)
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env=_environment(), cwd=os.path.abspath(os.sep), start_new_session=True,
    )  # fmt: skip
    ending = _Ending(process)
    try:
        with call.interruptible(ending.kill):
            answer, _ = process.communicate(question.getvalue(), timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise timed_out(round(limit_s, 1), "chart") from None
    finally:
        ending.kill()
        process.communicate()
    call.check()
    return _read(answer, form)


class _Ending:
    """Kills the process once, never a stranger that has its number."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._lock = process, threading.Lock()

    def kill(self) -> None:
        with self._lock:
            if self._process.poll() is None:
                if sys.platform != "win32":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()


def _read(answer: bytes, form: Format) -> Picture:
    stream = io.BytesIO(answer)
    try:
        kind, content = frames.receive(stream)
        if kind == frames.FAILED:
            raise AgnesError(**json.loads(content))
        facts = json.loads(content)
        _, picture = frames.receive(stream)
    except frames.ClosedError:
        raise AgnesError(
            "chart_failed",
            "The process that renders ended without a picture.",
            "Draw less: fewer categories, an aggregate, a shorter period.",
        ) from None
    return Picture(picture, form, facts["missing"], facts.get("width", 0), facts.get("height", 0))


def _environment() -> dict[str, str]:
    """Nothing of the server's; the renderer reads moments in the zone of its process."""
    kept = ("SYSTEMROOT", "SYSTEMDRIVE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "FONTCONFIG_PATH", "FONTCONFIG_FILE")
    return {**{name: os.environ[name] for name in kept if name in os.environ}, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
