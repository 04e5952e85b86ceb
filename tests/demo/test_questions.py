"""The twelve questions of `bench/questions.py`, of which the first is asked here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench" / "questions.py"


def test_a_question_is_one_call_and_a_short_answer(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(BENCH), "--small", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    assert ran.returncode == 0, ran.stderr
    catalog, schema, question, *figures = ran.stdout.splitlines()
    assert catalog.split()[-3] == "catalog"
    assert schema.split()[-3] == "schema"
    assert question.split()[-3:-1] == ["scan", "5"]
    assert int(question.split()[-1]) <= 450
    calls, characters = (json.loads(line)["value"] for line in figures)
    assert calls == 3
    assert characters == sum(int(line.split()[-1]) for line in (catalog, schema, question))
