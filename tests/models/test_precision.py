"""bfloat16 and folded batch norms: what they may change, and who is told when hardware lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

from pipeline.config import FitConfig
from pipeline.errors import InputError
from pipeline.models import precision
from pipeline.models.backbone import Backbone, Features
from pipeline.models.detector import Detector
from pipeline.models.precision import BFLOAT16, FLOAT32, lacking, settle
from pipeline.models.resnet import Trunk
from pipeline.models.specs import MODELS, DetectorSettings, FeatureLayout
from pipeline.scoring import components
from pipeline.scoring.bundle import ScorerSpec, digests, precision_of
from pipeline.scoring.components import component_digests
from pipeline.scoring.ingredients import load_ingredients
from pipeline.scoring.scorers import AnomalyScorer
from tests.conftest import TinyModels, TinyStore, tiny_fit_config

LAYOUT = FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",))


SCORER = {
    "image_size": 64,
    "features": {"grids": [2]},
    "feature_batch": 8,
    "classifier_batch": 8,
    "detector": None,
    "feature_types": dict(ScorerSpec(64, LAYOUT, 8, "cells", 0.1).feature_types),
    "categories": {"bolt": "gaussians/bolt"},
    "precision": FLOAT32,
    "files": {
        name: {"sha256": name}
        for name in (
            "backbone.safetensors",
            "classifier.safetensors",
            "detector.pt",
            "gaussians/bolt/mean.npy",
        )
    },
}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """A ResNet-18 whose batch norms do something."""
    torch.manual_seed(3)
    net = resnet18(num_classes=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return net.state_dict()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (5, 96, 96, 3), np.uint8)


@pytest.fixture
def no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without bfloat16."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)


def test_folded_batch_norms_give_the_numbers_of_the_network(
    state: dict[str, torch.Tensor],
) -> None:
    plain, folded = (Trunk(state, "layer4", "x") for _ in range(2))
    folded.settled(FLOAT32)
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    batch = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        wanted, found = plain(batch / 255), folded.of_pixels(batch)
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_the_stem_has_torchvisions_numbers_to_the_bit(
    state: dict[str, torch.Tensor], precision: str
) -> None:
    trunk = Trunk(state, "layer1", "x").settled(precision)
    conv = trunk.stem[0]
    images = torch.randn(2, 3, 70, 83).to(trunk.kind)
    with torch.inference_mode():
        # Its order: the activation first, then the largest of each window.
        wanted = torch.nn.functional.max_pool2d(torch.relu(conv(images)), 3, 2, 1)
        assert torch.equal(trunk.stem(images), wanted)
    assert (wanted == 0).any() and (wanted > 0).any()


@pytest.mark.parametrize("precision", [FLOAT32, BFLOAT16])
def test_pixels_are_normalised_to_the_bit_and_stay_channels_last(
    state: dict[str, torch.Tensor], precision: str
) -> None:
    trunk = Trunk(state, "layer1", "x").settled(precision)
    seen: list[torch.Tensor] = []
    trunk.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rng = np.random.default_rng(8)
    batch = torch.from_numpy(rng.integers(0, 256, (2, 38, 51, 3), np.uint8)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        trunk.of_pixels(batch)
        # Another layout in memory is the same picture.
        trunk.of_pixels(batch.contiguous())
    wanted = torch.stack(
        [batch[:, c].float() * trunk.scale[0, c] - trunk.offset[0, c] for c in range(3)], dim=1
    )
    assert len(seen) == 2
    for given in seen:
        assert torch.equal(given, wanted.to(trunk.kind))
        assert given.is_contiguous(memory_format=torch.channels_last)


def test_whether_a_feature_is_a_number_is_told_of_every_float16() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    found = Features(every[:, None, None], np.zeros((2**16, 1), np.float32)).finite()
    np.testing.assert_array_equal(found, np.isfinite(every))
    in_the_middle = np.zeros((2, 3, 4), np.float16)
    in_the_middle[1, 1, 2] = np.nan
    assert Features(in_the_middle, np.zeros((2, 1), np.float32)).finite().tolist() == [True, False]


def test_features_in_bfloat16_are_near_and_not_those_of_float32(
    state: dict[str, torch.Tensor], images: np.ndarray
) -> None:
    exact, coarse = (
        Backbone(state, LAYOUT, 4, precision=kind).features(images) for kind in (FLOAT32, BFLOAT16)
    )
    for name in ("cells", "pooled"):
        a, b = (getattr(f, name).astype(np.float64) for f in (exact, coarse))
        away = np.linalg.norm(a - b) / np.linalg.norm(a)
        assert 1e-4 < away < 3e-2, name


def test_boxes_in_bfloat16_are_not_rounded_to_its_steps(tmp_path: Path) -> None:
    """At 640 px a bfloat16 is a multiple of 4."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(4)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    for layers in model.model[-1].cv2:  # untrained, every box would lie on the grid
        torch.nn.init.normal_(layers[-1].bias, std=1.0)
    torch.save({"model": model}, tmp_path / "yolo.pt")
    noise = np.random.default_rng(9).integers(0, 256, (2, 640, 640, 3), np.uint8)
    settings = DetectorSettings(640, 1e-4, 0.7, 50, 2)
    exact, coarse = (
        Detector(tmp_path / "yolo.pt", settings, "x", kind).detect(noise)
        for kind in (FLOAT32, BFLOAT16)
    )
    corners = np.concatenate([boxes.corners for boxes in coarse])
    assert len(corners) > 20
    assert np.mean(corners[corners > 256] % 2 == 0) < 0.5
    for a, b in zip(exact, coarse, strict=True):
        assert abs(a.confidence.max() - b.confidence.max()) < 0.05


def test_auto_is_float32_without_hardware_and_what_is_shown_to_be_kept_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = dict.fromkeys(MODELS, FLOAT32) | {"classifier": BFLOAT16}
    monkeypatch.setattr(precision, "AUTO", kept)
    for there, wanted in ((False, dict.fromkeys(MODELS, FLOAT32)), (True, dict(precision.AUTO))):
        monkeypatch.setattr(precision, "has_bfloat16", lambda there=there: there)
        assert settle("auto") == wanted
        assert lacking(settle("auto")) == []
        assert lacking(settle(BFLOAT16)) == ([] if there else [BFLOAT16])


@pytest.mark.usefixtures("no_hardware")
def test_a_fit_and_a_bundle_in_bfloat16_are_refused_without_hardware(
    tiny_store: TinyStore, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_fit_config(tiny_store.manifest, tiny_store.store, tiny_models)
    wanted = FitConfig.model_validate(config.model_dump() | {"precision": "bfloat16"})
    with pytest.raises(InputError, match=r"precision: bfloat16: this machine has no hardware"):
        load_ingredients(wanted)
    # On a cluster its workers say what they lack: `tests/stages/test_chain.py`.
    assert load_ingredients(wanted, elsewhere=True).spec.precision == BFLOAT16
    from pipeline.scoring.bundle import open_bundle

    bundle = open_bundle(tiny_store.bundle, "")
    other = replace(bundle, spec=replace(bundle.spec, precision=BFLOAT16))
    with pytest.raises(InputError, match=r"computes in bfloat16, .*no hardware.* precision=float3"):
        AnomalyScorer(other, 1)


@pytest.mark.usefixtures("hardware")
def test_a_bundle_says_one_precision_or_that_of_each_model(
    tiny_store: TinyStore, tiny_models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = dict.fromkeys(MODELS, FLOAT32) | {"classifier": BFLOAT16}
    monkeypatch.setattr(precision, "AUTO", mixed)
    config = tiny_fit_config(tiny_store.manifest, tiny_store.store, tiny_models)
    found = {}
    for wanted in ("float32", "bfloat16", "auto"):
        asked = FitConfig.model_validate(config.model_dump() | {"precision": wanted})
        found[wanted] = load_ingredients(asked).spec.precision
    assert found == {"float32": FLOAT32, "bfloat16": BFLOAT16, "auto": mixed}


def test_the_digests_of_a_model_cover_its_own_precision_alone() -> None:
    one = SCORER | {"precision": FLOAT32}
    same = SCORER | {"precision": dict.fromkeys(MODELS, FLOAT32)}
    other = SCORER | {"precision": dict.fromkeys(MODELS, FLOAT32) | {"classifier": BFLOAT16}}
    assert precision_of(FLOAT32, "detector") == FLOAT32
    assert component_digests(one) == component_digests(same)
    assert digests(one, {})["feature_digest"] == digests(other, {})["feature_digest"]
    assert digests(one, {})["scorer_digest"] != digests(other, {})["scorer_digest"]
    changed = {
        name
        for name, digest in component_digests(other).items()
        if digest != component_digests(one)[name]
    }
    assert changed == {"classifier"}


@pytest.mark.parametrize(
    ("version", "changed"),
    [
        ("ARITHMETIC", {"arithmetic", "features", "gaussians", "classifier", "detector"}),
        ("DISTANCES", {"arithmetic", "gaussians"}),
    ],
)
def test_another_way_to_compute_gives_new_digests_to_what_it_changes(
    version: str, changed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = component_digests(SCORER)
    monkeypatch.setattr(components, version, getattr(components, version) + 1)
    after = component_digests(SCORER)
    assert {name for name, digest in after.items() if digest != before[name]} == changed


def test_the_hardware_is_asked_for(tmp_path: Path) -> None:
    """PyTorch's names for it are not public: they are there."""
    precision.has_bfloat16.cache_clear()
    assert isinstance(precision.has_bfloat16(), bool)
