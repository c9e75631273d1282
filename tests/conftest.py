"""What the tests share: one Ray cluster, a small archive, small models, and the real images."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

from pipeline.config import (
    BackboneConfig,
    ClassifierConfig,
    DetectorConfig,
    FitConfig,
    IndexConfig,
    PoolConfig,
    ScoreConfig,
)
from pipeline.models.detector import quiet_ultralytics

# No test asserts a time, hypothesis' own limit for an example included.
hypothesis.settings.register_profile("linescore", deadline=None)
hypothesis.settings.load_profile("linescore")

# Before any test imports ultralytics, which reads its environment once.
quiet_ultralytics()

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
# Logical CPUs, whatever the machine has: pools of every size find room, and a job that comes to the
# cluster starts no more workers than it can use.
LOGICAL_CPUS = 4
TINY_SIDE = 64
# One actor that holds all models: it starts in half the time of three.
ONE_ACTOR: dict[str, object] = {"fuse_models": True, "pools": {"fused": {"size": 1}}}
# The same on a command line.
ONE_ACTOR_SET = ("fuse_models=true", "pools.fused.size=1")
# Linux's numbers: prctl(2), capabilities(7).
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the cluster is marked so, also where its author forgot."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and weights, where there is one."""
    if not (SHARED / "real").is_dir():
        pytest.skip("no ../shared beside the checkout: real images and weights are not here")
    return SHARED


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The one Ray cluster of the test session; its address."""
    import ray

    from pipeline.stages.cluster import KEEP_WORKERS

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    # As a Ray that a job starts: workers that wait for their next task are not ended.
    os.environ.setdefault(*KEEP_WORKERS)
    # Metrics are told every two seconds instead of ten: tests wait for them.
    os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")
    obey_file_modes()
    ray.init(
        address="local",
        num_cpus=LOGICAL_CPUS,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=2 * 1024**3,
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def obey_file_modes() -> None:
    """Lets the processes started from now on obey file modes, also when root runs the tests."""
    if os.getuid() == 0:
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise RuntimeError("root may not give up its right to read every file")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server of the S3 protocol on loopback; its URL."""
    from tests.s3_server import s3_server

    with s3_server() as url:
        yield url


@dataclass(frozen=True)
class TinyModels:
    """Weights of small, seeded, untrained networks."""

    backbone: Path
    classifier: Path
    detector: Path


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """A ResNet-18 and a YOLOv8n with seeded weights: real shapes, no training, no download."""
    return write_tiny_models(tmp_path_factory.mktemp("models"))


def write_tiny_models(folder: Path) -> TinyModels:
    """Writes the weights of the small networks."""
    torch.manual_seed(7)
    save_file(resnet18(num_classes=2).state_dict(), folder / "resnet.safetensors")
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.names = {0: "scratch", 1: "hole", 2: "stain"}
    torch.save({"model": model}, folder / "yolo.pt")
    resnet = folder / "resnet.safetensors"
    return TinyModels(resnet, resnet, folder / "yolo.pt")


def write_archive(root: Path, good: int = 12, test: int = 4, side: int = TINY_SIDE) -> Path:
    """A small archive in the MVTec AD layout: two categories, smooth noise, a bright defect."""
    rng = np.random.default_rng(3)
    for category, tone in (("bolt", 90), ("tile", 150)):
        plan = {"train/good": good, "test/good": test, "test/dent": test}
        for folder, count in plan.items():
            for index in range(count):
                noise = rng.normal(tone, 12, (side // 4, side // 4, 3)).clip(0, 255)
                pixels = np.asarray(
                    Image.fromarray(noise.astype(np.uint8)).resize((side, side + 6))
                ).copy()
                if folder.endswith("dent"):
                    pixels[10:24, 12:30] = 255
                    mask = np.zeros(pixels.shape[:2], np.uint8)
                    mask[10:24, 12:30] = 255
                    save(root / category / "ground_truth/dent" / f"{index:03d}_mask.png", mask)
                save(root / category / folder / f"{index:03d}.png", pixels)
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    """Writes one PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@dataclass(frozen=True)
class TinyStore:
    """A store with a manifest and a bundle of all three models."""

    archive: Path
    store: Path
    manifest: str
    bundle: str

    def score_config(self, store: Path, **changes: object) -> ScoreConfig:
        """Scoring this manifest with this bundle into another store.

        By one actor; that one and three give the same tables has a test of its own.
        """
        values: dict[str, object] = {
            "manifest": self.manifest,
            "bundle": self.bundle,
            "store": str(store),
            **ONE_ACTOR,
            "block_rows": 8,
            "commit_rows": 8,
        }
        return ScoreConfig.model_validate(values | changes)


@pytest.fixture(scope="session")
def tiny_store(
    cluster: str, tiny_models: TinyModels, tmp_path_factory: pytest.TempPathFactory
) -> TinyStore:
    """The small archive, indexed and fitted once for the session."""
    from pipeline.stages.fit import run_fit
    from pipeline.stages.index import run_index

    folder = tmp_path_factory.mktemp("tiny")
    archive = write_archive(folder / "archive")
    store = folder / "store"
    manifest = run_index(IndexConfig(source=str(archive), store=str(store), name="tiny"))
    fitted = run_fit(tiny_fit_config(manifest["manifest"], store, tiny_models))
    return TinyStore(archive, store, manifest["manifest"], fitted["bundle"])


def tiny_fit_config(manifest: str, store: Path, models: TinyModels, **changes: object) -> FitConfig:
    """Fitting with the small models."""
    config = FitConfig(
        manifest=manifest,
        store=str(store),
        backbone=BackboneConfig(weights=str(models.backbone), image_size=TINY_SIDE, grids=(2, 4)),
        classifier=ClassifierConfig(weights=str(models.classifier)),
        detector=DetectorConfig(
            weights=str(models.detector),
            trusted=True,
            image_size=64,
            confidence_floor=0.001,
            max_detections=5,
        ),
        features=PoolConfig(size=1),
        block_rows=8,
        commit_rows=8,
    )
    return config.model_copy(update=changes)


def run_job(
    job: str, *arguments: str, address: str | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Runs a job as a user does, in a process of its own; on a running cluster if one is named."""
    return run_command([sys.executable, f"jobs/{job}.py", *arguments], address, timeout)


def run_command(
    command: list[str], address: str | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Runs what starts a job to its end; on a running cluster if one is named."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=job_environment(address),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def printed_by(
    program: str, *given: str, address: str | None = None, timeout: float = 240, **variables: str
) -> str:
    """What a program prints in a Python of its own; the test fails where it fails.

    Args:
        program: its code.
        given: its arguments.
        address: a running cluster.
        timeout: seconds.
        variables: added to its environment.
    """
    found = subprocess.run(
        [sys.executable, "-c", program, *given],
        cwd=ROOT,
        env=job_environment(address) | {"PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def job_environment(address: str | None) -> dict[str, str]:
    """The environment of a job's process."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return environment | ({"RAY_ADDRESS": address} if address else {})
