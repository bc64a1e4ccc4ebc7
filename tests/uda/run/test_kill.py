"""A run that is killed at random moments, also while it saves, ends where an uninterrupted one does, bit for bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """The moments are those of the clock; `scripts/soak.py` does the same for long."""
    figures = tmp_path / "figures.json"
    # In one process that imports everything once, and forks the runs: others of the tests' threads cannot be forked.
    command = [
        *(sys.executable, str(ROOT / "scripts/soak.py"), "--kills", "5", "--terms", "2", "--memory_steps", "0"),
        *("--steps", "8", "--save_steps", "2", "--output", str(figures), "--", "--eval_steps", "4"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(figures.read_text())
    for name, count in (("SIGKILL", 5), ("SIGTERM", 2)):
        assert outcome[name]["signals"] >= count
        assert outcome[name]["differing"] == []
    assert outcome["SIGKILL"]["ended_in_good_order"] == 0
