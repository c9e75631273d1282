"""Memory does not grow with the rows of a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.evaluation.monitor import nights
from tests.evaluation.monitor.nights import Line, images

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FILE_ROWS = 50_000
# Held in memory, the counted columns of the further rows would take twice as much and more.
MIB = 40
MEASURE = """
import re, sys
from pathlib import Path
from jobs import monitor
assert monitor.main(sys.argv[1:]) == 0
# Not getrusage's: a child inherits its parent's.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_mib(line: Line) -> int:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *line.arguments()],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def test_four_times_the_rows_take_no_more_memory(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nights, "ROW_GROUP", FILE_ROWS)
    first, night = images(1, FILE_ROWS), images(2, FILE_ROWS)
    peaks = []
    for files in (3, 12):
        line.publish("first", *[first] * files)
        line.publish("night", *[night] * files)
        peaks.append(peak_mib(line))
    print(f"peaks {peaks} MiB at {3 * FILE_ROWS} and {12 * FILE_ROWS} rows in each run")
    assert peaks[1] - peaks[0] < MIB
