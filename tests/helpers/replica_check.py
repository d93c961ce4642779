"""Runs replica_gradients.py, which needs a process of its own, and judges what it prints."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("replica_gradients.py")


def assert_replicas_agree(name, timeout):
    """Gradients of two replicas are those of one within 1e-5 of the largest; `timeout` in seconds."""
    answer = subprocess.run(
        [sys.executable, SCRIPT, name], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert float(answer.stdout.split()[-1]) < 1e-5
