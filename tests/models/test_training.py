"""Training: it learns, it repeats itself bit for bit, it leaves no trace, it refuses bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.models import resnet18

from pipeline.errors import InputError
from pipeline.models.training import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TrainingSettings,
    normalised,
    train_small_classifier,
)

Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]
TINY = TrainingSettings(seed=5, epochs=1, batch_size=4, threads=1)


def toy(count: int, size: int, seed: int) -> tuple[Images, Masks]:
    """Grey noise; every third image has an orange square somewhere, which is its mask."""
    rng = np.random.default_rng(seed)
    images = rng.normal(120, 8, (count, size, size, 3))
    masks = np.zeros((count, size, size), dtype=bool)
    for number in range(0, count, 3):
        top, left = rng.integers(2, size - 12, 2)
        masks[number, top : top + 10, left : left + 10] = True
    images[masks] += (80, 10, -80)
    return np.clip(images, 0, 255).astype(np.uint8), masks


def test_a_trivially_separable_set_is_learnt() -> None:
    settings = TrainingSettings(seed=1, epochs=6, batch_size=8, threads=1)
    state = train_small_classifier(*toy(96, 32, seed=0), settings)
    model = resnet18(num_classes=2)
    model.load_state_dict(state, strict=True)
    images, masks = toy(60, 32, seed=1)
    with torch.no_grad():
        logits = model.eval()(normalised(torch.from_numpy(images)))
    is_defect = masks.any(axis=(1, 2))
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    assert (margin[is_defect][:, None] > margin[~is_defect]).mean() > 0.98


def test_two_runs_are_bit_equal_and_another_seed_is_not() -> None:
    images, masks = toy(12, 32, seed=2)
    first, again = (train_small_classifier(images, masks, TINY) for _ in range(2))
    other = train_small_classifier(images, masks, replace(TINY, seed=6))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_the_callers_arrays_random_state_and_threads_are_left_alone() -> None:
    images, masks = toy(12, 32, seed=2)
    before = (images.copy(), masks.copy(), torch.get_rng_state(), torch.get_num_threads())
    train_small_classifier(images, masks, TINY)
    assert np.array_equal(before[0], images)
    assert np.array_equal(before[1], masks)
    assert torch.equal(before[2], torch.get_rng_state())
    assert before[3] == torch.get_num_threads()


def test_the_state_is_finite_and_nothing_but_a_two_class_resnet18() -> None:
    state = train_small_classifier(*toy(9, 32, seed=3), TINY)
    expected = resnet18(num_classes=2).state_dict()
    assert {key: value.shape for key, value in state.items()} == {
        key: value.shape for key, value in expected.items()
    }
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not any(value.requires_grad for value in state.values())


@pytest.mark.parametrize("count", [2, 5, 11])
def test_any_number_of_images_trains_whatever_the_batch(count: int) -> None:
    state = train_small_classifier(*toy(count, 32, seed=4), TINY)
    assert torch.isfinite(state["fc.weight"]).all()


def test_input_is_normalised_as_torchvision_documents() -> None:
    images, _ = toy(2, 8 + 12, seed=0)
    expected = (images / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    found = normalised(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize(("fill", "named"), [(False, "0 of 6"), (True, "6 of 6")])
def test_one_class_alone_is_refused_with_its_count(fill: bool, named: str) -> None:
    images, masks = toy(6, 32, seed=0)
    with pytest.raises(InputError, match=named):
        train_small_classifier(images, np.full_like(masks, fill), TINY)


def test_arrays_that_do_not_fit_are_refused_with_their_shape() -> None:
    images, masks = toy(6, 32, seed=0)
    wrong = [
        (images[:, :30], masks[:, :30], r"\(6, 30, 32, 3\)"),
        (images.astype(np.float32), masks, "float32"),
        (images, masks[:5], r"\(5, 32, 32\)"),
        (images, masks.astype(np.uint8), "uint8"),
    ]
    for bad_images, bad_masks, named in wrong:
        with pytest.raises(InputError, match=named):
            train_small_classifier(bad_images, bad_masks, TINY)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("batch_size", 1), ("threads", 0), ("shift", -0.1), ("learning_rate", 0.0)],
)
def test_a_setting_out_of_range_is_refused_with_its_value(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{field} is {value}"):
        replace(TINY, **{field: value})
