"""Training on a given backbone: it learns, repeats itself, goes on from a checkpoint, exports."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torchvision.models import resnet18

from pipeline.errors import InputError
from pipeline.models.augment import Augmentation, augmented
from pipeline.models.batches import Batch, Sources, full_batches, in_memory, rows_of
from pipeline.models.classifier import Classifier
from pipeline.models.classifier_training import defect_logits, train_classifier
from pipeline.models.defect_net import DefectNet, frozen_views
from pipeline.models.epochs import Attempt, EpochSettings, Progress
from pipeline.models.resnet import Trunk
from pipeline.models.weights import State

QUICK = EpochSettings(seed=3, epochs=6, patience=6)
SIDE = 32


@pytest.fixture(scope="module")
def backbone() -> State:
    """A ResNet-18 that ends at layer3, as given weights may, seeded and untrained."""
    torch.manual_seed(5)
    state = resnet18().state_dict()
    return {k: v for k, v in state.items() if not k.startswith(("layer4.", "fc."))}


def images(count: int, seed: int = 0) -> Batch:
    """Noise; every second image has a bright square."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(110, 12, (count, SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    truth = np.arange(count) % 2 == 1
    pixels[truth, 8:18, 8:18] = 250
    return Batch(np.arange(count) * 7, torch.from_numpy(pixels), truth, np.ones(count, np.float32))


def vectors(count: int, seed: int, signal: float) -> Batch:
    """Features of 2 views, 256 channels, that tell defects apart by `signal`."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 3 == 0
    values = rng.normal(2, 3, (count, 2, 256)).astype(np.float32)
    values[:, :, :6] += signal * truth[:, None, None]
    return Batch(np.arange(count), torch.from_numpy(values), truth, np.ones(count, np.float32))


def sources(training: Batch, stopping: Batch, size: int = 8) -> Sources:
    return Sources(in_memory(training, size, seed=3), lambda: [stopping])


def trained(
    backbone: State,
    trainable: str,
    given: Sources,
    settings: EpochSettings = QUICK,
    attempt: Attempt | None = None,
) -> tuple[DefectNet, Progress]:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = DefectNet(backbone, trainable, "weights").eval()
    return net, train_classifier(net, given, settings, attempt)


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_filtered_batches_become_full_ones_in_the_same_order() -> None:
    rng = np.random.default_rng(1)
    sizes = [3, 0, 5, 1, 9, 2]
    ids = np.arange(sum(sizes))
    images = torch.from_numpy(rng.integers(0, 255, (len(ids), 4, 4, 3), np.uint8))
    whole = Batch(ids, images, ids % 3 == 0, rng.random(len(ids)).astype(np.float32))
    edges = np.cumsum([0, *sizes])
    parts = [rows_of(whole, ids[a:b]) for a, b in itertools.pairwise(edges)]
    found = list(full_batches(parts, 4))
    assert [len(batch.ids) for batch in found] == [4, 4, 4, 4, 4]
    assert [len(batch.ids) for batch in full_batches(parts[:3], 4)] == [4, 4]
    assert [len(batch.ids) for batch in full_batches(parts, 6)] == [6, 6, 8]
    assert np.concatenate([batch.ids for batch in found]).tolist() == ids.tolist()
    assert torch.equal(torch.cat([batch.inputs for batch in found]), images)
    for name in ("is_defect", "weight"):
        joined = np.concatenate([getattr(batch, name) for batch in found])
        assert np.array_equal(joined, getattr(whole, name))
    assert list(full_batches([], 4)) == []


def test_a_head_on_given_features_learns_what_can_be_learnt(backbone: State) -> None:
    given = sources(vectors(90, 1, 6.0), vectors(45, 2, 6.0))
    settings = EpochSettings(seed=3, epochs=30, patience=30)
    net, progress = trained(backbone, "head", given, settings)
    _, truth, logits = defect_logits(net, [vectors(60, 9, 6.0)])
    assert average_precision_score(truth, logits) > 0.95
    assert progress.best_epoch <= progress.epoch


@pytest.mark.parametrize("trainable", ["head", "layer3"])
def test_two_trainings_with_one_seed_give_the_same_bits(backbone: State, trainable: str) -> None:
    given = sources(images(12), images(6, seed=1))
    settings = replace(QUICK, epochs=2)
    first, again, other = (
        trained(backbone, trainable, given, replace(settings, seed=seed))[0].resnet_state()
        for seed in (3, 3, 4)
    )
    assert equal(first, again)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("trainable", ["head", "layer3"])
def test_only_what_is_trained_changes(backbone: State, trainable: str) -> None:
    net, _ = trained(
        backbone, trainable, sources(images(12), images(6, 1)), replace(QUICK, epochs=1)
    )
    state = net.resnet_state()
    changed = {
        name.split(".")[0]
        for name, value in backbone.items()
        if name in state and not torch.equal(state[name], value)
    }
    assert changed == ({"layer3"} if trainable == "layer3" else set())
    running = [name for name in backbone if "running" in name]
    assert running
    assert all(torch.equal(state[name], backbone[name]) for name in running)


@pytest.mark.parametrize("trainable", ["head", "layer3"])
def test_a_training_that_goes_on_ends_as_one_never_cut_off(backbone: State, trainable: str) -> None:
    given = sources(images(12), images(6, seed=1))
    settings = replace(QUICK, epochs=4)
    saved: list[bytes] = []
    keep = Attempt(on_epoch=lambda progress: saved.append(progress.to_bytes()))
    whole, progress = trained(backbone, trainable, given, settings, keep)
    assert len(saved) == 4
    for content in saved[:3]:
        resumed = Attempt(Progress.from_bytes(content))
        net, then = trained(backbone, trainable, given, settings, resumed)
        assert equal(net.resnet_state(), whole.resnet_state())
        assert then.history == progress.history


def test_the_best_epoch_is_kept_and_patience_ends_training(backbone: State) -> None:
    given = sources(vectors(30, 1, 0.0), vectors(30, 2, 0.0))
    states: list[State] = []

    def note(progress: Progress) -> None:
        states.append(copy.deepcopy(progress.model))

    settings = EpochSettings(seed=3, epochs=50, patience=3)
    net, progress = trained(backbone, "head", given, settings, Attempt(on_epoch=note))
    ranks = [(e["average_precision"], -e["loss"]) for e in progress.history]
    assert progress.best_epoch == ranks.index(max(ranks)) + 1
    assert progress.epoch == progress.best_epoch + 3 < 50
    assert equal(net.trained_state(), states[progress.best_epoch - 1])


def test_a_second_training_ends_after_as_many_epochs_as_the_first_said(backbone: State) -> None:
    first = sources(vectors(30, 1, 1.0), vectors(30, 2, 1.0))
    settings = EpochSettings(seed=3, epochs=12, patience=12)
    states: list[State] = []
    keep = Attempt(on_epoch=lambda now: states.append(copy.deepcopy(now.model)))
    trained(backbone, "head", first, settings, keep)
    again = replace(first, stopping=None)
    net, progress = trained(backbone, "head", again, replace(settings, last=5))
    assert (progress.epoch, progress.best_epoch, progress.history) == (5, 5, [])
    assert equal(net.trained_state(), states[4])  # the same rates: they fall over all 12


@pytest.mark.parametrize("trainable", ["head", "layer3"])
def test_held_views_are_what_the_frozen_layers_make_of_images(
    backbone: State, trainable: str
) -> None:
    net = DefectNet(backbone, trainable, "weights").eval()
    batch = images(6)
    still = Augmentation(flips=False, shift=0, brightness=0)
    views = frozen_views(net, batch.inputs, 2, still, seed=1)
    held = replace(batch, inputs=views)
    for one, other in zip(defect_logits(net, [batch]), defect_logits(net, [held]), strict=True):
        np.testing.assert_array_equal(one, other)
    settings = replace(QUICK, epochs=2, augmentation=still)
    ours, theirs = (
        trained(backbone, trainable, sources(given, given), settings)[0] for given in (batch, held)
    )
    for name, value in ours.resnet_state().items():
        torch.testing.assert_close(theirs.resnet_state()[name], value, rtol=1e-3, atol=1e-4)


def test_the_exported_weights_give_the_same_logits_as_the_classifier_that_loads_them(
    backbone: State,
) -> None:
    given = sources(images(12), images(6, seed=1))
    net, _ = trained(backbone, "layer3", given, replace(QUICK, epochs=2))
    batch = images(10, seed=4)
    _, _, logits = defect_logits(net, [batch])
    loaded = Classifier(net.resnet_state(), batch_size=4)
    np.testing.assert_allclose(
        loaded.defect_logits(batch.inputs.numpy()), logits, rtol=1e-4, atol=1e-4
    )


def test_the_first_view_is_the_plain_image(backbone: State) -> None:
    net = DefectNet(backbone, "head", "weights").eval()
    batch = images(4)
    views = frozen_views(net, batch.inputs, 3, Augmentation(), seed=1)
    assert views.shape == (4, 3, 256)
    trunk = Trunk(backbone, "layer3", "weights")
    with torch.no_grad():
        plain = trunk(batch.inputs.permute(0, 3, 1, 2).float() / 255)["layer3"].mean((2, 3))
    torch.testing.assert_close(views[:, 0], plain)
    assert not torch.allclose(views[:, 1], plain)


def test_augmentation_moves_and_mirrors_but_keeps_the_defect_and_the_hue() -> None:
    image = torch.zeros(200, 3, 40, 40)
    image[:, :, 17:22, 20:25] = torch.tensor([0.6, 0.3, 0.3]).view(1, 3, 1, 1)
    torch.manual_seed(0)
    found = augmented(image, Augmentation(flips=True, shift=0.1, brightness=0.1))
    lit = found[:, 0] > 0
    assert (lit.sum((1, 2)) == 25).all()  # whole, wherever it went
    ratio = found[:, 1][lit] / found[:, 0][lit]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 0.5))
    gains = found[:, 0].amax((1, 2)) / 0.6
    assert gains.min() >= 0.9 - 1e-5
    assert gains.max() <= 1.1 + 1e-5
    assert len({tuple(torch.nonzero(one)[0].tolist()) for one in lit}) > 20
    still = augmented(image, Augmentation(flips=False, shift=0, brightness=0))
    assert torch.equal(still, image)


def test_labels_that_mean_nothing_are_learnt_by_heart_and_only_by_heart(backbone: State) -> None:
    """Why no image may be judged that was trained on: random labels look perfect there."""
    rng = np.random.default_rng(0)
    noise = vectors(120, 5, 0.0)
    labelled = replace(noise, is_defect=rng.random(120) < 0.5)
    seen, unseen = (
        Batch(labelled.ids[s], labelled.inputs[s], labelled.is_defect[s], labelled.weight[s])
        for s in (slice(0, 60), slice(60, None))
    )
    settings = EpochSettings(seed=3, epochs=60, patience=60)
    net, _ = trained(backbone, "head", sources(seen, seen), settings)

    def missed(batch: Batch) -> float:
        _, truth, logits = defect_logits(net, [batch])
        return float((logits[truth] < 0).mean())

    assert missed(seen) == 0
    assert missed(unseen) > 0.3


@pytest.mark.parametrize(("side", "kind"), [("training", True), ("early stopping", False)])
def test_one_kind_alone_is_refused_with_its_counts(backbone: State, side: str, kind: bool) -> None:
    good = images(6)
    lone = replace(good, is_defect=np.full(6, kind))
    given = sources(lone, good) if side == "training" else sources(good, lone)
    with pytest.raises(InputError, match=f"{side}: {6 if kind else 0} of 6 readable images"):
        trained(backbone, "head", given)


def test_a_layer_that_the_weights_lack_is_refused_with_the_way_out(backbone: State) -> None:
    with pytest.raises(InputError, match="trainable: layer4: w ends at layer3; train head or"):
        DefectNet(backbone, "layer4", "w")


def test_in_memory_batches_hold_every_row_once_in_another_order_each_epoch() -> None:
    batch = images(21)
    epochs: Callable[[int], Iterator[Batch]] = in_memory(batch, 8, seed=1)
    orders = [np.concatenate([part.ids for part in epochs(number)]) for number in (0, 0, 1)]
    assert sorted(orders[0]) == sorted(batch.ids)
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
