"""Memory while writing does not depend on how many rows there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 5_000_000

# In a process of its own, because the peak of a process never falls. The first write warms everything up.
WRITER = """
import resource, sys
from pathlib import Path
import pyarrow as pa, pyarrow.compute as pc
sys.path.insert(0, {tests!r})
from snapshots.shelves import ANA, FACTS, new_call, new_store

BATCH = 10_000
ids = pa.array(range(BATCH), pa.int64())
texts = [pa.array([f"{{i * 7919 + k:x}} of {{k}}" for i in range(BATCH)]) for k in range(3)]
amounts = pa.array([i * 0.25 for i in range(BATCH)])
schema = pa.schema([("id", pa.int64()), *((name, pa.string()) for name in "abc"), ("x", pa.float64())])

def batches(rows):
    for first in range(0, rows, BATCH):
        yield pa.RecordBatch.from_arrays([pc.add(ids, first), *texts, amounts], schema=schema)

def peak_mb():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 1024**2

store = new_store(Path({root!r}))
size = sum(batch.nbytes for batch in batches(BATCH)) * {rows} // BATCH
peaks = []
for name, rows in (("warm", 500_000), ("large", {rows})):
    written = store.write(ANA, name, batches(rows), schema, FACTS, call=new_call())
    assert written.snapshot.rows == rows
    peaks.append(peak_mb())
store.verify(ANA, "large")
peaks.append(peak_mb())
print(size / 1024**2, *peaks)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the peak of a process is read from getrusage")
def test_memory_is_flat_over_five_million_rows(tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parents[1])
    script = WRITER.format(tests=tests, root=str(tmp_path / "snapshots"), rows=ROWS)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stderr
    size_mb, warm_mb, large_mb, verified_mb = map(float, ran.stdout.split())
    assert size_mb > 200
    assert large_mb - warm_mb < 32, "writing ten times the rows took more memory"
    assert verified_mb - large_mb < 8
