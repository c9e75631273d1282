"""Each image is a pure function of its name, and each mask is exactly what the defect changed."""

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.samples.render import MIN_DEFECT_PIXELS, VISIBLE_LEVELS, render, render_base
from pipeline.samples.spec import CATEGORIES, MIN_SIZE, SampleSpec

EVERY_DEFECT = [(name, kind) for name, entry in CATEGORIES.items() for kind in entry.defects]


def spec(seed: int = 3, size: int = 64, count: int = 2) -> SampleSpec:
    return SampleSpec(seed, size, train_good=count, test_good=count, per_defect=count)


@pytest.mark.parametrize(("category", "kind"), EVERY_DEFECT)
@pytest.mark.parametrize("size", [MIN_SIZE, 64, 97])
def test_the_mask_is_exactly_what_the_defect_changed(category: str, kind: str, size: int) -> None:
    for index in range(6):
        pixels, mask = render(category, kind, "test", index, spec(size=size))
        good = render_base(category, kind, "test", index, spec(size=size))
        assert np.array_equal(pixels[~mask], good[~mask])
        change = np.abs(pixels.astype(int) - good).max(axis=2)
        assert (change[mask] >= VISIBLE_LEVELS).all()
        assert MIN_DEFECT_PIXELS <= mask.sum() < 0.2 * mask.size


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("size", [MIN_SIZE, 77, 200])
def test_any_size_is_rendered_as_asked(category: str, size: int) -> None:
    pixels, mask = render(category, None, "train", 0, spec(size=size))
    assert (pixels.shape, pixels.dtype) == ((size, size, 3), np.uint8)
    assert (mask.shape, mask.dtype) == ((size, size), np.bool_)
    assert not mask.any()
    assert 20 < pixels.mean() < 235
    assert pixels.std() > 10


@pytest.mark.parametrize(("category", "kind"), [*EVERY_DEFECT, ("label", None)])
def test_an_image_depends_on_nothing_but_its_name_and_the_seed(
    category: str, kind: str | None
) -> None:
    first = render(category, kind, "test", 5, spec())
    render("washer", "rust", "test", 0, spec(seed=9))
    narrow = SampleSpec(3, 64, train_good=0, test_good=0, per_defect=99, categories=(category,))
    again = render(category, kind, "test", 5, narrow)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_two_images_are_the_same(category: str) -> None:
    kinds = [None, *CATEGORIES[category].defects]
    images = [
        render(category, kind, split, index, spec(seed=seed))[0].tobytes()
        for seed in (0, 1)
        for index in range(3)
        for split, kind in [("train", None), *(("test", kind) for kind in kinds)]
    ]
    assert len(set(images)) == len(images) == 2 * 3 * (2 + len(CATEGORIES[category].defects))


def test_there_are_categories_and_defect_types_enough() -> None:
    assert len(CATEGORIES) >= 3
    assert all(3 <= len(entry.defects) <= 4 for entry in CATEGORIES.values())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("bottle", None, "test", 0), "bottle"),
        (("washer", "smear", "test", 0), "smear"),
        (("washer", None, "validation", 0), "validation"),
        (("washer", "rust", "train", 0), "train"),
        (("washer", None, "test", -1), "-1"),
    ],
)
def test_an_image_that_cannot_exist_is_refused_by_name(
    arguments: tuple[str, str | None, str, int], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        render(*arguments, spec())
    with pytest.raises(InputError, match=named):
        render_base(*arguments, spec())


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("train_good", -2), ("test_good", -3), ("per_defect", -4), ("size", 31)],
)
def test_a_spec_out_of_range_is_refused_with_its_value(field: str, value: int) -> None:
    numbers = {"seed": 0, "size": 64, "train_good": 1, "test_good": 1, "per_defect": 1}
    with pytest.raises(InputError, match=f"{field} is {value}"):
        SampleSpec(**(numbers | {field: value}))


def test_an_unknown_category_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(InputError, match=r"'bottle'.*fabric, label, washer"):
        SampleSpec(0, 64, 1, 1, 1, categories=("fabric", "bottle"))
