"""On a GPU: the numbers of the processor, and a card that actors share."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file

from pipeline.models import backbone, card, classifier, detector
from pipeline.models.backbone import Backbone
from pipeline.models.classifier import Classifier
from pipeline.models.detector import Detector
from pipeline.models.precision import BFLOAT16, FLOAT32
from pipeline.models.resnet import fix_arithmetic
from pipeline.models.specs import FeatureLayout
from pipeline.stages.pools import ActorSettings, FeatureActor
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import TinyModels, TinyStore
from tests.models.test_detector import assert_equal_boxes, pictures, saved, settings_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]

LAYOUT = FeatureLayout(("layer2", "layer3"), (2, 4), ("layer3",))
# Sums in another order; TensorFloat-32 would be off by some 1e-3. Cells are kept in float16.
NEAR = {"cells": 1e-3, "pooled": 1e-4, "logits": 1e-3}
# bfloat16 has 8 bits; the processor's float32 is what it is compared with.
ROUNDED = dict.fromkeys(NEAR, 0.05)


@pytest.fixture(autouse=True)
def float32_stays_float32() -> None:
    """As actors have it; by itself cuDNN computes convolutions in TensorFloat-32."""
    fix_arithmetic(1)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(8).integers(0, 256, (5, 96, 96, 3), np.uint8)


def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (backbone, classifier, detector):
        monkeypatch.setattr(module, "default_device", lambda: torch.device("cpu"))


@pytest.mark.parametrize(("precision", "near"), [(FLOAT32, NEAR), (BFLOAT16, ROUNDED)])
def test_features_and_logits_are_those_of_the_processor(
    precision: str,
    near: dict[str, float],
    tiny_models: TinyModels,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = load_file(tiny_models.backbone)
    theirs = (
        Backbone(state, LAYOUT, 4, precision=precision),
        Classifier(state, 4, precision=precision),
    )
    assert theirs[0].device.type == "cuda"
    on_the_processor(monkeypatch)
    ours = Backbone(state, LAYOUT, 4), Classifier(state, 4)
    assert ours[0].device.type == "cpu"
    for name in ("cells", "pooled"):
        a, b = (
            getattr(one.features(images), name).astype(np.float64) for one in (theirs[0], ours[0])
        )
        assert np.linalg.norm(a - b) / np.linalg.norm(b) < near[name], name
    logits = [one.defect_logits(images) for one in (theirs[1], ours[1])]
    np.testing.assert_allclose(*logits, rtol=near["logits"], atol=near["logits"])


def test_boxes_are_those_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, images = saved(tmp_path, "yolov8n"), pictures(6)
    theirs = Detector(file, settings_of(0.3), "x")
    assert theirs.device.type == "cuda"
    on_the_processor(monkeypatch)
    ours = Detector(file, settings_of(0.3), "x").detect(images)
    wanted = [np.column_stack([b.corners, b.confidence, b.class_id]) for b in ours]
    assert sum(map(len, wanted)) > 6
    assert_equal_boxes(theirs.detect(images), wanted, px=0.05)


def test_an_actor_computes_where_its_share_says(tiny_store: TinyStore) -> None:
    def device(bundle: str) -> str:
        actor = FeatureActor(ActorSettings(bundle, 1, ()))
        return str(actor._scorer._backbone.device.type)

    on = {share: ray.remote(num_cpus=0, num_gpus=share, max_calls=1)(device) for share in (0, 0.5)}
    found = {share: ray.get(task.remote(tiny_store.bundle)) for share, task in on.items()}
    assert found == {0: "cpu", 0.5: "cuda"}


def test_two_actors_share_a_card_and_give_the_tables_of_one(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    tables = []
    for size in (1, 2):
        pools = {"fused": {"size": size, "num_gpus": 0.5}}
        store = tmp_path / str(size)
        report = run_score(tiny_store.score_config(store, run_id="r", pools=pools))
        assert report["pools"]["fused"]["num_gpus"] == 0.5
        tables.append(load_table(str(store), "r", "scores"))
    assert tables[0].equals(tables[1])


def settled_share() -> float:
    """Once the card's other users, such as actors of a test before, don't come or go."""
    share = -1.0
    for _ in range(60):
        last, share = share, card.memory_share()
        if share == last:
            break
        time.sleep(0.5)
    return share


def test_what_work_takes_of_a_card_is_counted() -> None:
    factors = torch.randn(2, 4096, 4096, device="cuda")

    def work() -> None:
        for _ in range(5):
            factors[0] @ factors[1]
        torch.cuda.synchronize()

    def waiting() -> None:
        work()
        time.sleep(0.5)

    work()
    started = time.perf_counter()
    busy = card.busy_seconds(waiting)
    whole = time.perf_counter() - started
    assert busy is not None
    # Of the half second the card knows nothing.
    assert 0 < busy <= whole - 0.5
    card.forget_memory()
    before = settled_share()
    held = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    total = torch.cuda.mem_get_info()[1]
    assert card.memory_share() - before == pytest.approx(len(held) / total, rel=0.1)
