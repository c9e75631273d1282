"""Which models' chains a plan needs, and the images of each, against a naive way."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.scoring.reuse.images import Images
from pipeline.scoring.reuse.plan import BITS, ReusePlan
from pipeline.stages.reuse import chains

IMAGES = st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=12)


def plan_of(compute: np.ndarray) -> ReusePlan:
    count = len(compute)
    nothing = np.zeros(count, np.int32)
    known = np.zeros(count, bool)
    images = Images(np.arange(count), nothing, nothing, (None,), known)
    nobody = np.full(count, -1, np.int16)
    return ReusePlan(images, (), known, nobody, nobody, compute)


@settings(deadline=None)
@given(IMAGES)
def test_each_image_that_is_left_is_in_the_chain_of_its_models(
    images: list[tuple[int, bool]],
) -> None:
    compute = np.array([models for models, _ in images], np.uint8)
    rest = np.array([left for _, left in images], bool)
    found = list(chains(plan_of(compute), rest))
    expected: dict[tuple[str, ...], list[bool]] = {}
    for models in range(1, 8):
        chosen = [left and own == models for own, left in images]
        if any(chosen):
            names = tuple(name for name in BITS if models & BITS[name])
            expected[names] = chosen
    assert {names: chosen.tolist() for names, chosen in found} == expected
    assert len(found) == len(expected)


def test_one_value_for_all_images_makes_one_chain() -> None:
    rest = np.array([True, False, True])
    found = list(chains(plan_of(np.broadcast_to(np.array(5, np.uint8), (3,))), rest))
    assert [(names, chosen.tolist()) for names, chosen in found] == [
        (("detector", "classifier"), [True, False, True])
    ]
