"""Runs replica_gradients.py, which needs its own process, and checks the difference that it prints."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("replica_gradients.py")


def assert_replicas_agree(name, timeout):
    """Asserts that gradients of two replicas equal those of one within 1e-5 of the largest; `timeout` in seconds."""
    process = subprocess.run(
        [sys.executable, SCRIPT, name], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert float(process.stdout.split()[-1]) < 1e-5
