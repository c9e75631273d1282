"""Python in a process of its own, which prints its result as a last line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def result_of(
    *arguments: str, given: object = None, environment: Mapping[str, str] | None = None
) -> Any:
    """What `python ARGUMENTS` printed last; a failure ends the benchmark with what it said.

    Args:
        arguments: such as `-m`, a module.
        given: sent to its stdin as JSON.
        environment: variables beside those of this process.
    """
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        input=json.dumps(given),
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
