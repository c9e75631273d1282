"""What a worker opens to do its part of a run brings no network with it."""

from __future__ import annotations

import pytest

from tests.conftest import TINY_SIDE, TinyStore, printed_by

# Each worker that loads these for nothing starts seconds later.
NETWORKS = ("torch", "torchvision", "ultralytics", "sklearn")


def loaded(modules: list[str], among: tuple[str, ...]) -> list[str]:
    """Which of these a fresh Python has loaded after it has opened the modules."""
    return loaded_by(f"import {', '.join(modules)}", among)


def loaded_by(program: str, among: tuple[str, ...], *given: str) -> list[str]:
    """Which of these a fresh Python has loaded once it has run the program."""
    told = f"import sys\n{program}\nprint(','.join(sorted(set({among}) & set(sys.modules))))"
    return [name for name in printed_by(told, *given).splitlines()[-1].split(",") if name]


OPENED = ["pipeline.stages.decode", "pipeline.stages.pools", "pipeline.stages.timing"]


@pytest.mark.parametrize("job", ["index", "fit", "score", "split", "evaluate"])
def test_a_worker_of_the_job_loads_no_network_before_it_needs_one(job: str) -> None:
    assert loaded([f"pipeline.stages.{job}", *OPENED], NETWORKS) == []


def test_what_every_worker_of_a_run_opens_reads_no_config() -> None:
    assert loaded(OPENED, ("pipeline.config", "pydantic")) == []
    assert loaded(["pipeline.stages.score"], ("pipeline.config",)) == ["pipeline.config"]


# What Ray Data does with an actor, without Ray.
SCORED = f"""
import numpy as np, pyarrow as pa
from pipeline.stages.columns import pack
from pipeline.stages.pools import (
    ActorSettings, ClassifierActor, DetectorActor, FeatureActor, FusedActor, FusedSettings
)
settings = ActorSettings(sys.argv[1], 1, ())
actors = {{"detector": DetectorActor, "features": FeatureActor, "classifier": ClassifierActor}}
actor = FusedActor(FusedSettings(tuple((name, one, settings) for name, one in actors.items())))
images = {{
    name: np.random.default_rng(2).integers(0, 255, (3, side, side, 3), np.uint8)
    for name, side in (("square", {TINY_SIDE}), ("letterboxed", 64))
}}
rows = pa.table(
    {{
        "uri": ["a.png", "b.png", "c.png"],
        "category": ["tile"] * 3,
        "width": [64] * 3,
        "height": [64] * 3,
        "error_type": pa.nulls(3, pa.string()),
        "error_message": pa.nulls(3, pa.string()),
        **{{name: pack(list(some), some.shape[1]) for name, some in images.items()}},
    }}
)
found = actor(rows)
assert min(len(boxes) for boxes in found["boxes"].to_pylist()) > 0
assert found["anomaly_cells"].null_count == found["defect_logit"].null_count == 0
"""


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_an_actor_scores_without_pytorchs_compiler(tiny_store: TinyStore) -> None:
    found = loaded_by(SCORED, ("torch", "torchvision", "torch._dynamo", "sympy"), tiny_store.bundle)
    assert found == ["torch", "torchvision"]
