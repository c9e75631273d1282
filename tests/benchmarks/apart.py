"""Python in a process of its own, which prints its result as a line of JSON."""

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
    """The last JSON that `python ARGUMENTS` printed; a failure ends all with what it said.

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
    for line in reversed(done.stdout.splitlines()):
        try:
            return json.loads(line)
        except ValueError:
            continue  # what Ray says while it ends
    raise SystemExit(f"{' '.join(arguments)} printed no result: {done.stdout}")
