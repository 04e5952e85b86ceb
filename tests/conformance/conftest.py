"""These tests need Node's tools in `.node/`; without them they are skipped, with the command that installs them."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "conformance: runs the official conformance suite or the Inspector, on Node")
