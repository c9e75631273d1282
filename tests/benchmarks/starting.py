"""From the start of the command to the first scored image, split by cause."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from tests.benchmarks.apart import result_of
from tests.benchmarks.scoring import BATCH, fit, plant

# Run in a process of its own, so that nothing is loaded yet.
_PROBE = """
import json, os, sys, time
start = float(os.environ["STARTED"])
marks = {"interpreter": time.time() - start}
def mark(name):
    marks[name] = time.time() - start
from pipeline.config import ScoreConfig
from pipeline.stages import cluster, score
mark("imports")
config = ScoreConfig.model_validate(json.loads(os.environ["CONFIG"]))
connect = score.connected
from contextlib import contextmanager
@contextmanager
def connected(ray):
    mark("opening: manifest, bundle, lock, earlier runs")
    with connect(ray):
        mark("Ray")
        yield
score.connected = connected
build = score.build_chain
def build_chain(*given):
    mark("planning")
    return build(*given)
score.build_chain = build_chain
commit = score.Progress.add
def add(self, *given):
    marks.setdefault("actors, models, first block", time.time() - start)
    return commit(self, *given)
score.Progress.add = add
score.run_score(config)
print(json.dumps(marks))
"""


def measure(
    turns: int, letterboxed: int = 640, precision: str = "float32"
) -> list[dict[str, float]]:
    """Seconds from the start at which each step was done, for each turn."""
    found = []
    with tempfile.TemporaryDirectory(prefix="linescore-bench-") as name:
        made = plant(Path(name), 64, 1024, "jpeg")
        bundle = fit(made, letterboxed, precision)
        for turn in range(turns):
            settings = {
                "manifest": made.manifest,
                "bundle": bundle,
                "store": str(made.store),
                "run_id": f"start-{turn}",
                "reuse": False,
                "block_rows": BATCH,
                "commit_rows": BATCH,
            }
            found.append(_probe(settings))
    return found


def _probe(settings: dict[str, object]) -> dict[str, float]:
    given = {"STARTED": repr(time.time()), "CONFIG": json.dumps(settings)}
    marks: dict[str, float] = result_of("-c", _PROBE, environment=given)
    return marks


if __name__ == "__main__":
    for marks in measure(2):
        print({name: round(value, 2) for name, value in marks.items()})
