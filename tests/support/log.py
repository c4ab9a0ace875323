"""What a process writes to its log."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def lines_of(code, **environment):
    """Run code in a process of its own; give its JSON lines."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return [json.loads(line) for line in run.stderr.splitlines()]
