"""What a server does before it serves."""

from __future__ import annotations

import subprocess
import sys

WATCHED = """
import gc, sys
from agnes_mcp.cli.serving import Imported
gc.callbacks.append(Imported().keep)
gc.collect(1); gc.collect()
print(gc.get_freeze_count() > 0)
import colorsys, mailbox
gc.collect(1)
print(gc.get_freeze_count() > 0)
gc.collect()
kept = gc.get_freeze_count()
print(kept > 1_000)
later = [[] for _ in range(1_000)]
gc.collect()
print(gc.get_freeze_count() <= kept)
"""


def test_what_is_imported_late_is_gone_through_once_by_the_collector() -> None:
    """And only that: what a server makes while it serves may become garbage."""
    ran = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["False", "False", "True", "True"], ran.stderr
