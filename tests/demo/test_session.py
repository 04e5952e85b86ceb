"""`make demo`'s session, through the real console script and the real server."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

#: An address at which nobody answers.
PROXY = "http://127.0.0.1:9"


def test_the_demo_is_the_demo_whatever_the_user_has_configured(tmp_path: Path) -> None:
    """A user's own instance is neither served nor billed by it, and settings of theirs do not reach it. Nor does a
    proxy: what the demo talks to is on this machine, whatever the environment says of the rest."""
    home = tmp_path / "home"
    (home / ".agnes").mkdir(parents=True)
    own = "data_source: {bigquery: {project: my-own-project}}\ntables: [{id: mine, source_type: bigquery, bucket: d}]\n"
    (home / ".agnes" / "instance.yaml").write_text(own)
    script = Path(sysconfig.get_path("scripts")) / "agnes-mcp"
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), PROXY)
    environment = os.environ | nowhere | {"HOME": str(home), "AGNES_API__SCAN__MAX_LIMIT": "1", "COLUMNS": "140"}
    environment.pop("NO_PROXY", None)
    environment.pop("no_proxy", None)
    ran = subprocess.run(
        [str(script), "demo"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    assert ran.returncode == 0, ran.stderr
    assert "bq_web_sessions" in ran.stdout
    assert "mine" not in ran.stdout
    for step in (
        "over_scan_cap",
        "nested_select",
        "snapshot_exists",
        "query_refused",
        "quota_exceeded",
        "identical: true",
    ):
        assert step in ran.stdout
    assert sorted(path.name for path in (home / ".agnes").iterdir()) == ["instance.yaml"]
