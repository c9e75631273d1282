"""From the start of the command to the first scored image, split by cause."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.apart import result_of
from tests.benchmarks.bare_images import Task
from tests.benchmarks.scoring import SQUARE, fit, plant

# Images of a run's first block, whatever its blocks: the detector's batch, as it is by itself. The
# bare chain has them in all blocks, and a commit comes behind each.
_FIRST = 8

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
measure = score.Progress.measure
def measured(self, commit):
    spent = sum(one["seconds"] for one in commit["spent"])
    marks.setdefault("of that: decoding, networks and commit of the first block", spent)
    return measure(self, commit)
score.Progress.measure = measured
score.run_score(config)
print(json.dumps(marks))
"""


@dataclass(frozen=True)
class Start:
    """What the starts took.

    Attributes:
        own: seconds from the start at which each step was done, for each turn; and what the first
            block took in its stages.
        bare: seconds to the first scored block of the same models without this project.
    """

    own: tuple[dict[str, float], ...]
    bare: tuple[float, ...]


def measure(turns: int, letterboxed: int = 640, precision: str = "float32") -> Start:
    """Our start and a bare one, in turns, on the same images and models."""
    own, bare = [], []
    with tempfile.TemporaryDirectory(prefix="linescore-bench-") as name:
        made = plant(Path(name), 64, 1024, "jpeg")
        bundle = fit(made, letterboxed, precision, _FIRST)
        task = Task(list(made.files), bundle, SQUARE, letterboxed, _FIRST, 1, 0, precision, "part")
        for turn in range(turns):
            settings = {
                "manifest": made.manifest,
                "bundle": bundle,
                "store": str(made.store),
                "run_id": f"start-{turn}",
                "reuse": False,
                "commit_rows": _FIRST,
            }
            own.append(_marks("-c", _PROBE, environment={"CONFIG": json.dumps(settings)}))
            bare.append(_marks("-m", "tests.benchmarks.bare_start", given=asdict(task))["seconds"])
    return Start(tuple(own), tuple(bare))


def _marks(
    *arguments: str, given: object = None, environment: Mapping[str, str] | None = None
) -> dict[str, float]:
    started = {"STARTED": repr(time.time())}
    found: dict[str, float] = result_of(
        *arguments, given=given, environment=started | dict(environment or {})
    )
    return found


if __name__ == "__main__":
    start = measure(3)
    for marks, other in zip(start.own, start.bare, strict=True):
        print({name: round(value, 2) for name, value in marks.items()}, "bare", round(other, 2))
