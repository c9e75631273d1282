"""Actors on GPUs: as many as keep the cards busy, and no more; one that waits leaves its card free.

No card is needed: a Ray that is told of some lays out actors by their numbers, and what a card
measures has stand-ins.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models import card
from pipeline.stages.scoring_run import fused_size
from pipeline.stages.sizing import DECODE, Took, _taken, sizes_on_cards
from tests.conftest import TinyStore, printed_by
from tests.stages.test_cards import NOWHERE

NAMES = ("detector", "features", "classifier")
ONE_CPU = dict.fromkeys(NAMES, 1.0)

# (milliseconds, of them in tenths on the card), of each pool
costs = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10)), min_size=3, max_size=3)


@given(costs, st.integers(1, 40), st.integers(1, 3), st.integers(1, 12))
def test_the_slowest_stage_is_as_fast_as_cards_and_cpus_allow(
    pools: list[tuple[int, int]], decode: int, cards: int, cpus_a_card: int
) -> None:
    took = {
        name: Took(ms, ms * tenths / 10) for name, (ms, tenths) in zip(NAMES, pools, strict=True)
    } | {DECODE: Took(decode)}
    cpus = 1 + cards * (2 + cpus_a_card)

    def pace(sizes: dict[str, int]) -> float:
        left = cpus - sum(sizes.values())
        full = sum(took[name].on_card for name in NAMES) / cards
        actors = [took[name].seconds / sizes[name] for name in NAMES]
        return max(full, decode / left, *actors) if left >= 1 else math.inf

    ways = product(range(1, 2 + cpus_a_card), repeat=3)
    best = min(pace({n: k * cards for n, k in zip(NAMES, way, strict=True)}) for way in ways)
    found = sizes_on_cards(took, cards, cpus, {}, ONE_CPU)
    assert all(size % cards == 0 for size in found.values())
    assert pace(found) == pytest.approx(best)


def sizes(
    detector: Took,
    features: Took,
    decode: float = 0.1,
    cpus: float = 16,
    cards: int = 1,
    fixed: dict[str, int] | None = None,
) -> tuple[int, int]:
    took = {"detector": detector, "features": features, DECODE: Took(decode)}
    found = sizes_on_cards(took, cards, cpus, fixed or {}, ONE_CPU)
    return found["detector"], found["features"]


def test_another_actor_comes_where_one_leaves_its_card_waiting() -> None:
    busy, waiting = Took(1.0, 1.0), Took(3.0, 0.5)
    assert sizes(busy, waiting) == (1, 2)  # 1.5 is what the card takes for an image
    assert sizes(busy, waiting, cards=2) == (2, 4)
    assert sizes(busy, Took(3.0, 3.0)) == (1, 1)
    assert sizes(busy, waiting, fixed={"features": 1}) == (1, 1)
    assert sizes(busy, waiting, decode=40.0) == (1, 1)  # decoding is the bottleneck: 14 CPUs
    assert sizes(busy, waiting, cpus=3) == (1, 1)  # the third decodes
    assert sizes(busy, Took(3.0, 0.5, memory=0.5)) == (1, 1)
    assert sizes(busy, Took(3.0, 0.5, memory=0.4)) == (1, 2)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=8))
def test_a_card_is_busy_while_any_of_its_kernels_runs(given_spans: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in given_spans]
    wanted = len({moment for start, end in spans for moment in range(start, end)})
    assert card.covered(spans) == wanted


@pytest.mark.parametrize("busy_s", [0.005, 100.0, None])
def test_what_an_actor_takes_of_a_card(
    busy_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    wall_s, images = 0.02, 4

    def load() -> Callable[[pa.Table], pa.Table]:
        calls.append("load")

        def work(rows: pa.Table) -> pa.Table:
            calls.append("work")
            time.sleep(wall_s)
            return rows

        return work

    def busy_seconds(work: Callable[[], object]) -> float | None:
        work()
        calls.append("counted")
        return busy_s

    monkeypatch.setattr(card, "is_there", lambda: True)
    monkeypatch.setattr(card, "forget_memory", lambda: calls.append("forget"))
    monkeypatch.setattr(card, "busy_seconds", busy_seconds)
    monkeypatch.setattr(card, "memory_share", lambda: 0.125)
    block = pa.table({"x": range(images)})
    found = _taken(load, block, images, on_card=True)
    # Once to warm up, as often as it is timed, and once to count.
    assert calls == ["forget", "load", *["work"] * 7, "counted"]
    if busy_s is None:
        assert found is None
        return
    assert found is not None
    assert found.memory == 0.125
    assert found.seconds >= wall_s / images
    # It can't be busy for longer than there was.
    assert found.on_card == (busy_s / images if busy_s < wall_s else found.seconds)
    calls.clear()
    on_processor = _taken(load, block, images, on_card=False)
    assert calls == ["load", "work", "work"]
    assert on_processor is not None
    assert (on_processor.on_card, on_processor.memory) == (0, 0)


def test_a_card_that_only_ray_knows_of_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "is_there", lambda: False)
    assert _taken(lambda: lambda rows: rows, pa.table({"x": [1]}), 1, on_card=True) is None


def test_fused_actors_leave_half_of_the_cpus_to_decoding() -> None:
    assert [fused_size(3, cpus, 4) for cpus in (2, 8, 15, 16, 24, 96)] == [4, 4, 4, 8, 12, 12]
    assert fused_size(2, 96, 2) == 4


TOLD_OF_GPUS = """
import json, os, sys
from dataclasses import asdict
import ray
from pipeline.config import ScoreConfig
from pipeline.stages import scoring_run, sizing
from pipeline.stages.chain import PoolStage
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.scoring_run import leaning_of, open_work, pools_of, prepare_options

ray.init(address="local", num_cpus=16, num_gpus=2, include_dashboard=False, log_to_driver=False)
sizing.LEAST_IMAGES_ON_CARDS = 1
known, asked = sizing.measured, []
def measured(*given):
    asked.append(known(*given))
    return asked[-1]
scoring_run.measured = measured

def pools(**changes):
    config = ScoreConfig.model_validate(json.loads(sys.argv[1]) | changes)
    work = open_work(config)
    leaning = leaning_of(work)
    plans = pools_of(work, leaning, ~leaning.plan.skipped)
    return {name: asdict(plan) for name, plan in plans.items()}

first = pools()
given = pools(pools={"fused": {"size": 4}})
apart = pools(pools={"features": {"threads": 1}})
scoring_run.measured = lambda *given: {
    "decode": sizing.Took(0.001), "fused": sizing.Took(0.009, 0.005, 0.1)
}
measured = pools()

class Looking:
    def __init__(self, place):
        open(place, "w").write(os.environ["CUDA_VISIBLE_DEVICES"])
    def __call__(self, rows):
        return rows

# Pools that are kept on the CPUs are measured there.
work = open_work(ScoreConfig.model_validate_json(sys.argv[1]))
stage = PoolStage(Looking, sys.argv[2], PoolPlan(1, 1.0, 0.0, 1))
took = known(work.manifest.uri, work.manifest.rows, prepare_options(work, ("features",)), [stage])
on_card = [one.on_card for one in took.values()]
print(json.dumps([asked, first, given, apart, measured, open(sys.argv[2]).read(), on_card]))
"""


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_several_gpus_share_the_work_of_every_model_alike(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    config = tiny_store.score_config(tmp_path, run_id="r")
    given = config.model_dump_json(exclude_unset=True, exclude={"fuse_models", "pools"})
    arguments = (given, str(tmp_path / "cards"))
    printed = printed_by(TOLD_OF_GPUS, *arguments, timeout=120, CUDA_VISIBLE_DEVICES=NOWHERE)
    asked, first, four, apart, measured, seen, on_card = json.loads(printed.splitlines()[-1])
    # Of cards that aren't there nothing is known: as many actors a card as there are models.
    assert asked == [None]
    assert [*first] == [*four] == [*measured] == ["fused"]
    sizes = [pools["fused"]["size"] for pools in (first, four, measured)]
    assert sizes == [6, 4, 4]
    shares = [pools["fused"]["num_gpus"] for pools in (first, four, measured)]
    assert shares == [0.333, 0.5, 0.5]
    assert {name: plan["size"] for name, plan in apart.items()} == dict.fromkeys(NAMES, 2)
    assert (seen, on_card) == ("", [0, 0])
