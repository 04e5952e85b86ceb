"""`agnes-mcp doctor` through the real console script."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import yaml
from support.instances import table, write


def run_doctor(folder: Path, tables: list[dict[str, object]], **more: object) -> subprocess.CompletedProcess[str]:
    config = folder / "instance.yaml"
    config.write_text(yaml.safe_dump({"data_dir": "data", "tables": tables, **more}))
    script = Path(sysconfig.get_path("scripts")) / "agnes-mcp"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AGNES_", "GOOGLE_", "GCE_"))}
    environment |= {"CLOUDSDK_CONFIG": str(folder / "no-gcloud"), "GCE_METADATA_IP": "127.0.0.1:9"}
    return subprocess.run(
        [str(script), "doctor", "--config", str(config)], env=environment, capture_output=True, text=True, timeout=100
    )


def test_a_sound_instance_is_found_sound(tmp_path: Path) -> None:
    path = write(tmp_path, "orders.parquet", "SELECT i AS id FROM range(5) AS r(i)")
    found = run_doctor(tmp_path, [table("orders", path)])
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok     table orders: 1 columns, 5 rows" in found.stdout
    assert "ok     query workers: answer" in found.stdout
    assert not list((tmp_path / "data").glob("snapshots/*"))


def test_what_cannot_be_served_is_named_with_the_next_step(tmp_path: Path) -> None:
    """A damaged file and a BigQuery that cannot be reached; the rest is still examined."""
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not a table PAR1")
    remote: dict[str, object] = {"id": "sessions", "source_type": "bigquery", "bucket": "my_dataset"}
    bigquery = {"project": "my-project", "api_endpoint": "http://127.0.0.1:9", "auth": "metadata"}
    found = run_doctor(
        tmp_path, [table("broken", tmp_path / "broken.parquet"), remote], data_source={"bigquery": bigquery}
    )
    assert found.returncode == 5
    assert "FAILED table broken: table_unavailable" in found.stdout
    assert "FAILED table sessions: " in found.stdout
    assert "FAILED BigQuery" in found.stdout
    assert "ok     query workers" in found.stdout
    assert str(tmp_path) not in found.stdout
