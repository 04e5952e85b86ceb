"""Jobs of the stand-in that run when a test says so, and not after a time that a busy machine outlasts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from agnes_mcp.stand_in.jobs.job import Job
from support.waiting import PATIENCE_S


def hold_jobs(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Jobs are RUNNING until this is set, however long it takes the test to see one."""
    run, release = Job.run, threading.Event()

    def run_later(job: Job, *given: Any) -> None:
        release.wait(PATIENCE_S)
        run(job, *given)

    monkeypatch.setattr(Job, "run", run_later)
    return release
