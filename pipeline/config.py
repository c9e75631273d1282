"""Typed settings of every job, from YAML and the command line; imports nothing heavy."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import InputError

Layer = Literal["layer1", "layer2", "layer3", "layer4"]
# Shares are added in floating point.
_SHARE_TOLERANCE = 1e-6


class Section(BaseModel):
    """A part of a config: frozen, described field by field, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RayConfig(Section):
    """Which Ray cluster does the work."""

    address: str | None = None
    """Address of a running cluster; empty: the job's own cluster, else a local one is started."""
    num_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a local Ray; empty: those of the machine, at least 2."""
    resource_wait_s: float = Field(default=15.0, ge=0)
    """Seconds to wait for CPUs and GPUs that other jobs hold before giving up."""


class PoolConfig(Section):
    """One actor pool."""

    size: int | None = Field(default=None, ge=1)
    """Actors in the pool; empty: from the CPUs and GPUs there are."""
    num_cpus: float | None = Field(default=None, gt=0)
    """Logical CPUs an actor reserves; empty: an equal share that leaves one for reading."""
    num_gpus: float | None = Field(default=None, ge=0)
    """Fraction of a GPU an actor reserves; empty: an equal share of the GPUs there are."""
    threads: int = Field(default=1, ge=1)
    """Threads of the arithmetic in one actor; fixed, so that scores don't depend on the machine."""


class LimitsConfig(Section):
    """What an image may be before it goes to the errors table."""

    max_pixels: int = Field(default=200_000_000, ge=1)
    """Largest width × height that is decoded."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Largest file that is read: an uncompressed RGB image of 200 million pixels has 600 MB."""
    min_side: int = Field(default=16, ge=1)
    """Shortest side in pixels that is scored."""
    fetch_attempts: int = Field(default=3, ge=1)
    """Tries to read a file when the failure can pass (throttling, time-outs)."""


class IndexConfig(Section):
    """Settings of jobs/index.py."""

    source: str
    """A folder or s3:// prefix of images, or a CSV/Parquet list with a column `uri`."""
    store: str
    """The store, a folder or s3:// prefix: the manifest is <store>/manifests/<name>.parquet."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The manifest's name."""
    layout: Literal["auto", "mvtec", "folder", "list"] = "auto"
    """How the source is laid out; auto: a list by its suffix, MVTec AD by its folders."""
    category: str | None = None
    """Category of the images of a plain folder, or of list rows without one."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Largest file that is read."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class BackboneConfig(Section):
    """The network whose features the anomaly scores come from."""

    weights: str = "IMAGENET1K_V1"
    """torchvision's name of ResNet-18 weights, or a .safetensors, .pt or .pth state dict."""
    image_size: int = Field(default=256, ge=32, le=4096)
    """Side in pixels of the square that features and classifier see."""
    cell_layers: tuple[Layer, ...] = Field(default=("layer2", "layer3"), min_length=1)
    """Layers concatenated for the `cells` score."""
    grids: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(default=(4, 8), min_length=1)
    """Cells per side of each grid; the largest distance of each grid is added."""
    pooled_layers: tuple[Layer, ...] = Field(default=("layer3",), min_length=1)
    """Layers averaged over the image for the `pooled` score."""
    batch_size: int = Field(default=16, ge=1)
    """Images per forward pass; the last one is padded, so that a batch has one shape."""


class ClassifierConfig(Section):
    """The good/defect classifier."""

    weights: str
    """A .safetensors, .pt or .pth state dict of a ResNet-18 with a head of 1 or 2 outputs."""
    batch_size: int = Field(default=16, ge=1)
    """Images per forward pass."""


class DetectorConfig(Section):
    """The YOLOv8 detector."""

    weights: str
    """An ultralytics .pt file."""
    trusted: bool = False
    """An ultralytics .pt is a pickle and can run code: true says that its origin is trusted."""
    image_size: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    """Side in pixels of the letterboxed square that the detector sees."""
    confidence_floor: float = Field(default=0.05, gt=0, lt=1)
    """Boxes below it are not kept."""
    iou: float = Field(default=0.7, gt=0, lt=1)
    """Overlap above which the weaker of two boxes of a class is dropped."""
    max_detections: int = Field(default=100, ge=1)
    """Boxes kept per image."""
    batch_size: int = Field(default=8, ge=1)
    """Images per forward pass."""


class FitConfig(Section):
    """Settings of jobs/fit.py."""

    manifest: str
    """A manifest, as jobs/index.py writes it."""
    store: str
    """The store; the bundle goes to <store>/bundles/<digest>/."""
    run_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of this fit; empty: named by what is fitted, so that the same command continues."""
    backbone: BackboneConfig = BackboneConfig()
    """The backbone."""
    classifier: ClassifierConfig | None = None
    """The classifier that the bundle carries; empty: none."""
    detector: DetectorConfig | None = None
    """The detector that the bundle carries; empty: none."""
    anomaly_score: Literal["cells", "pooled"] = "cells"
    """Which of the two distances is `anomaly_score`."""
    global_floor: float = Field(default=0.1, gt=0, lt=1)
    """Weight of the category's mean variance in each cell's covariance."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage, and the same command tries them again."""
    features: PoolConfig = PoolConfig()
    """The feature pool."""
    block_rows: int = Field(default=32, ge=1)
    """Images that travel together through the stages."""
    commit_rows: int = Field(default=128, ge=1)
    """Images per commit: what a kill can cost."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class StagesConfig(Section):
    """Which models run."""

    detector: bool = True
    """Off: the detector's columns are null."""
    features: bool = True
    """Off: the anomaly columns are null."""
    classifier: bool = True
    """Off: the classifier's columns are null."""


class PoolsConfig(Section):
    """The three actor pools."""

    detector: PoolConfig = PoolConfig()
    """YOLOv8."""
    features: PoolConfig = PoolConfig()
    """Backbone and distances."""
    classifier: PoolConfig = PoolConfig()
    """Good/defect."""


class ScoreConfig(Section):
    """Settings of jobs/score.py."""

    manifest: str
    """A manifest, as jobs/index.py writes it."""
    bundle: str
    """A bundle: its folder or s3:// prefix, its digest in the store, or `latest`."""
    store: str
    """The store; runs and tables go there."""
    run_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of this run; the same again continues where it was cut off. Empty: a new one."""
    models: StagesConfig = StagesConfig()
    """Which of the bundle's models run."""
    keep_features: Literal["none", "pooled", "cells"] = "none"
    """What the feature table keeps: per million images nothing, about 1 GB, or about 62 GB."""
    verify_content: bool = True
    """Compare each image's sha256 with the manifest's; a changed file goes to the errors."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage, and the same command tries them again."""
    pools: PoolsConfig = PoolsConfig()
    """Sizes of the actor pools."""
    block_rows: int = Field(default=32, ge=1)
    """Images that travel together through the stages."""
    commit_rows: int = Field(default=128, ge=1)
    """Images per commit: what a kill can cost."""
    file_rows: int = Field(default=1_000_000, ge=1)
    """Rows per published file."""
    progress_s: float = Field(default=10.0, gt=0)
    """Seconds between two progress lines when the output is not a terminal."""
    ray: RayConfig = RayConfig()
    """The cluster."""


ScoreColumn = Literal[
    "anomaly_score",
    "anomaly_cells",
    "anomaly_pooled",
    "defect_logit",
    "defect_probability",
    "detection_max_confidence",
]


class CostConfig(Section):
    """What errors cost and how often defects come: the ground of the `cost` thresholds."""

    false_positive: float = Field(gt=0, allow_inf_nan=False)
    """Cost of a false alarm, in any unit."""
    false_negative: float = Field(gt=0, allow_inf_nan=False)
    """Cost of a missed defect, in the same unit."""
    defect_rate: float = Field(gt=0, lt=1)
    """Expected share of defects on the line; not that of the validation images."""


class CalibrateConfig(Section):
    """Settings of jobs/calibrate.py."""

    run_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The published run whose validation rows are calibrated on."""
    store: str
    """The store with the run; the new bundle goes to <store>/bundles/<digest>/."""
    bundle: str = "latest"
    """The bundle that the run was scored with: folder, s3:// prefix, digest or `latest`."""
    scores: tuple[ScoreColumn, ...] | None = Field(default=None, min_length=1)
    """Columns to find thresholds for; empty: all that the run has."""
    misses_allowed: int = Field(default=0, ge=0)
    """Defects that `safe` may miss in validation; to be fixed before any score is seen."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Confidence of the bound that `safe` states."""
    false_positive_rate: float = Field(default=0.05, gt=0, lt=1)
    """Expected share of false alarms that `fpr` aims at."""
    cost: CostConfig | None = None
    """Costs of errors; empty: no `cost` thresholds."""
    missing_scores: Literal["missed", "flagged"] = "missed"
    """What the line does with an image without a score: passes it, or flags it."""
    probability: Literal["none", "sigmoid", "temperature", "isotonic"] = "sigmoid"
    """Map from the classifier's logit to a probability; isotonic needs 1000 images."""
    assume_unseen: bool = False
    """True says that models without a record of their training saw no validation image."""


class DemoConfig(Section):
    """Settings of jobs/demo.py."""

    folder: str = "demo"
    """Where images, weights and the store go."""
    seed: int = Field(default=0, ge=0)
    """Seed of the images and of the training."""
    backbone_weights: str | None = None
    """ImageNet weights of the backbone; empty: those in torch's cache, else the classifier's."""
    detector_weights: str | None = None
    """A YOLOv8 .pt to start from, trusted by naming it here; empty: from scratch."""
    train_detector: bool = True
    """Off: no detector, and a demo that is shorter by a minute or more."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class BoxesConfig(Section):
    """How masks become the detector's boxes."""

    min_area: int = Field(default=10, ge=1)
    """Marked pixels of the image that a box must hold; smaller ones are dropped."""
    merge_distance: int = Field(default=10, ge=0)
    """Boxes with fewer unmarked rows or columns between them become one, in pixels of the image."""
    classes: Literal["defect", "category_defecttype"] = "defect"
    """One class `defect`, or one per category and defect type."""
    unmarked: Literal["refuse", "skip"] = "refuse"
    """What becomes of a defect image without a mask, or whose mask holds no box."""


class ExportDetectionConfig(Section):
    """Settings of jobs/export_detection.py."""

    manifest: str
    """A manifest with roles."""
    target: str
    """A local folder that isn't there yet: the dataset in ultralytics' format."""
    boxes: BoxesConfig = BoxesConfig()
    """Masks to boxes."""
    max_side: int | None = Field(default=None, ge=32)
    """Larger images are shrunk to this longer side in pixels; empty: every image as it is."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    threads: int | None = Field(default=None, ge=1)
    """Images that are read at once; empty: one per CPU."""


class AugmentConfig(Section):
    """How training images are varied; hue and saturation never are."""

    flip_horizontal: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image, left to right."""
    flip_vertical: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image, top to bottom; 0 where up and down differ."""
    brightness: float = Field(default=0.2, ge=0, le=1)
    """Largest relative change of brightness."""
    shift: float = Field(default=0.1, ge=0, le=0.9)
    """Largest shift as a share of the side."""
    scale: float = Field(default=0.2, ge=0, le=0.9)
    """Largest relative change of size."""
    mosaic: float = Field(default=0.0, ge=0, le=1)
    """Probability of a picture put together from four, which no line ever shows."""


class TrainDetectorConfig(Section):
    """Settings of jobs/train_detector.py."""

    manifest: str
    """A manifest with roles: `fit` rows train, rows of evaluate_role are judged."""
    store: str
    """The store; the model goes to <store>/models/<name>/."""
    name: str = Field(default="detector", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The model's name."""
    weights: str | None = None
    """An ultralytics YOLOv8 .pt to start from; empty: a YOLOv8n from scratch."""
    trusted: bool = False
    """An ultralytics .pt is a pickle and can run code: true says that its origin is trusted."""
    boxes: BoxesConfig = BoxesConfig()
    """Masks to boxes."""
    image_size: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    """Side in pixels of the letterboxed square; score with the same."""
    epochs: int = Field(default=60, ge=1)
    """Passes over the `fit` images; no row chooses among them, the last weights are taken."""
    batch_size: int = Field(default=8, ge=2)
    """Images per step."""
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    """Of AdamW; it falls linearly to a hundredth."""
    freeze: int = Field(default=0, ge=0, le=22)
    """Layers, counted from the input, that keep the weights they start with; 10: the backbone."""
    good_per_defect: float = Field(default=1.0, ge=0)
    """Good images that train as background, per defect image; more of them are left out."""
    minutes: float | None = Field(default=None, gt=0)
    """Epochs are lowered so that training ends after about this long; then weights depend on it."""
    augment: AugmentConfig = AugmentConfig()
    """Varying the training images."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    threads: int = Field(default=2, ge=1)
    """Threads of the arithmetic; the same number gives the same weights on one kind of CPU."""
    evaluate_role: Literal["validation", "test"] = "validation"
    """The held-out rows that the model is judged on."""
    confidences: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(0.05, 0.25), min_length=1
    )
    """Confidences at which hits and false boxes are counted."""
    state_s: float = Field(default=20.0, ge=0)
    """Seconds between two states that a killed training continues from; about 50 MB each."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class GoodSharesConfig(Section):
    """Which part of the good images each role gets; they add up to 1."""

    fit: float = Field(default=0.55, ge=0, le=1)
    """For the Gaussians, whose covariances need many images, and for training."""
    normal_calibration: float = Field(default=0.15, ge=0, le=1)
    """For false-positive targets: at least 1/α − 1 images for a rate of α."""
    validation: float = Field(default=0.15, ge=0, le=1)
    """For choosing and certifying thresholds."""
    test: float = Field(default=0.15, ge=0, le=1)
    """Looked at once."""

    @model_validator(mode="after")
    def _whole(self) -> GoodSharesConfig:
        _require_whole(self)
        return self


class DefectSharesConfig(Section):
    """Which part of the defects each role gets; they add up to 1."""

    fit: float = Field(default=0.4, ge=0, le=1)
    """For training classifier and detector."""
    validation: float = Field(default=0.3, ge=0, le=1)
    """For choosing and certifying thresholds: 0 missed of 29 bounds the miss rate at 10 %."""
    test: float = Field(default=0.3, ge=0, le=1)
    """Looked at once."""

    @model_validator(mode="after")
    def _whole(self) -> DefectSharesConfig:
        _require_whole(self)
        return self


def _require_whole(shares: Section) -> None:
    values = shares.model_dump()
    if abs(sum(values.values()) - 1) > _SHARE_TOLERANCE:
        listed = " + ".join(f"{name} {value:g}" for name, value in values.items())
        raise ValueError(f"{listed} is {sum(values.values()):g}, and shares add up to 1")


Bits = Annotated[int, Field(ge=0, le=128)]


class NearDuplicatesConfig(Section):
    """Images of a category that are near-duplicates by content and share a group."""

    find: bool = True
    """Off: only group_id and part_pattern make groups."""
    max_distance: Bits | None = None
    """Bits of 256 in which near-duplicates may differ; empty: from each category's images."""
    by_category: dict[str, Bits] = {}
    """The same for single categories, such as {label: 12}."""
    contact_sheet: bool = True
    """Draw the pairs around the threshold, so that people can judge and move it."""


def _captures(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not groups:
        raise ValueError(r"needs a capture group, such as part(\d+)_")
    return pattern


class SplitConfig(Section):
    """Settings of jobs/split.py."""

    manifest: str
    """A manifest, as jobs/index.py writes it."""
    store: str
    """The store: the new manifest is <store>/manifests/<name>.parquet."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The new manifest's name; reports go to <store>/reports/<name>/."""
    seed: int = Field(default=0, ge=0)
    """Another seed, another split; the same seed gives the same on every machine."""
    good: GoodSharesConfig = GoodSharesConfig()
    """Shares of the good images."""
    defects: DefectSharesConfig = DefectSharesConfig()
    """Shares of the defects."""
    train_to_test: bool = True
    """Off: no image of the folder `train` becomes `test`, nor its near-duplicates."""
    smallest_stratum: int = Field(default=5, ge=1)
    """Defect types with fewer groups are shared out together with others of the category."""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Folds for cross-fitting over `fit` and `validation`; empty: none."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """How near-duplicates are found."""
    part_pattern: Annotated[str, AfterValidator(_captures)] | None = None
    """Regular expression on the file name; images of a category with equal groups are one part."""
    keep_groups: bool = True
    """Whether images that share a group_id in the manifest stay together."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class AugmentationConfig(Section):
    """What may happen to a training image; crops and hue are left alone on purpose."""

    flips: bool = True
    """Mirror along both axes by chance; off where a mirrored part is a defective one."""
    shift: float = Field(default=0.04, ge=0, le=0.25)
    """Largest shift as a share of the side; the edge is repeated into the gap."""
    brightness: float = Field(default=0.1, ge=0, le=0.5)
    """Largest relative change of brightness."""


class TrainClassifierConfig(Section):
    """Settings of jobs/train_classifier.py."""

    manifest: str
    """A manifest whose rows have roles."""
    store: str
    """The store; the model goes to <store>/models/<name>/."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The model's name; the same again continues a training that was cut off."""
    weights: str = "IMAGENET1K_V1"
    """Where training starts: torchvision's name of ResNet-18 weights, or a state dict's file."""
    image_size: int = Field(default=256, ge=32, le=4096)
    """Side in pixels of the square that the classifier sees; equal to backbone.image_size."""
    trainable: Literal["head", "layer1", "layer2", "layer3", "layer4"] = "head"
    """The first layer that is trained, with all behind it; head: the backbone stays as it is."""
    roles: tuple[Literal["fit", "validation"], ...] = Field(default=("fit",), min_length=1)
    """Roles that the one fixed model trains on; with validation no bound holds there any more."""
    folds: int | None = Field(default=None, ge=2, le=20)
    """Folds of cross-fitting over fit and validation; empty: none."""
    leave_one_defect_type_out: bool = False
    """Train once more without each defect type, and test on it."""
    score_test: bool = False
    """Score the test rows too, with the fixed model: they are meant to be looked at once."""
    inner_share: float = Field(default=0.2, gt=0, le=0.5)
    """Share of the training rows, in whole groups, that decides when to stop."""
    epochs: int = Field(default=60, ge=1)
    """At most so many passes over the training rows."""
    patience: int = Field(default=15, ge=1)
    """Epochs without a better average precision before training stops."""
    batch_size: int = Field(default=32, ge=1)
    """Images per step and worker."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """AdamW's, of the head; it falls along a cosine."""
    layer_learning_rate: float = Field(default=1e-4, gt=0)
    """The same, of the trained layers."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's."""
    views: int = Field(default=4, ge=1)
    """With a frozen backbone: augmented views per image, the plain one counted, made once."""
    augmentation: AugmentationConfig = AugmentationConfig()
    """What may happen to a training image."""
    seed: int = Field(default=0, ge=0)
    """Seed of folds, shuffling, augmentation and intervals."""
    num_workers: int = Field(default=1, ge=1)
    """Workers that train together; more than one average their gradients."""
    use_gpu: bool = False
    """One GPU per worker."""
    threads: int = Field(default=2, ge=1)
    """Threads of the arithmetic in one worker."""
    checkpoint_s: float = Field(default=20.0, ge=0)
    """Seconds between two checkpoints: what a kill can cost; 0: one after every epoch."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    ray: RayConfig = RayConfig()
    """The cluster."""


C = TypeVar("C", bound=Section)

# Set by Ray in a driver that `ray job submit` started.
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# Settings that name a place every node must find.
_PLACES = frozenset(("store", "manifest", "source", "folder", "target"))

# What the parser raises: its own errors, those of a value like 2026-13-45, which looks like a
# date, and that of nesting without end.
_NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


def parse(model: type[C], description: str, argv: Sequence[str] | None = None) -> C:
    """The settings that a command line asks for.

    Args:
        model: the job's settings.
        description: the job's docstring.
        argv: arguments; None: the process's own.

    Raises:
        InputError: a file that can't be read, an unknown key, a wrong value.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog="settings (KEY=VALUE, nested with dots):\n" + "\n".join(_describe(model)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with the settings")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="override one setting")
    arguments = parser.parse_intermixed_args(argv)
    config = load(model, arguments.config, arguments.settings)
    if _SUBMITTED in os.environ:
        _require_absolute(config)
    return config


def _require_absolute(config: Section) -> None:
    """A submitted job runs in a copy of its working directory that is thrown away.

    Raises:
        InputError: a path that would lie in that copy.
    """
    for name in _PLACES & type(config).model_fields.keys():
        place = getattr(config, name)
        if not os.path.isabs(place) and "://" not in place:  # noqa: PTH117
            raise InputError(
                f"{name}: {place}: is relative, and a submitted job runs in a temporary copy of "
                f"its working directory; give {name}= as an absolute path or an s3:// URI"
            )


def load(model: type[C], file: str | None, settings: Sequence[str] = ()) -> C:
    """The settings in a YAML file, changed by `KEY=VALUE` strings.

    Raises:
        InputError: naming the file, the key, the value and what is allowed.
    """
    values = _read_yaml(file) if file else {}
    for setting in settings:
        _override(values, setting)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        overridden = [setting.partition("=")[0] for setting in settings]
        lines = [
            f"{_source(file, overridden, detail['loc'])}: {_explain(model, detail)}"
            for detail in error.errors()
        ]
        raise InputError("\n".join(lines)) from None


def _source(file: str | None, overridden: Sequence[str], path: Sequence[Any]) -> str:
    dotted = ".".join(map(str, path)) + "."
    given_there = any(dotted.startswith(f"{key}.") for key in overridden)
    return "the command line" if file is None or given_there else file


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--config {file}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {file}: can't be read: {error}") from None
    except _NOT_YAML as error:
        raise InputError(f"--config {file}: is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"--config {file}: holds a {kind}, where `key: value` lines belong")
    return values


def _override(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise InputError(f"{setting!r} on the command line: write KEY=VALUE, such as store=data")
    value = _value(text)
    *sections, last = key.split(".")
    for name in sections:
        inner = values.setdefault(name, {})
        if inner is None:
            inner = values[name] = {}
        if not isinstance(inner, dict):
            raise InputError(f"{setting!r}: {name} holds {inner!r}, which has no keys below it")
        values = inner
    values[last] = value


def _value(text: str) -> Any:
    # Scalars stay text, which pydantic turns into the field's own type: a digest of
    # digits alone must not become a number.
    if text in ("", "null", "~"):
        return None
    if text[0] not in "[{":
        return text
    try:
        return yaml.safe_load(text)
    except _NOT_YAML:
        return text


def _explain(model: type[Section], detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        known = _keys_at(model, detail["loc"][:-1])
        close = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        return f"{path}: unknown key (value {detail['input']!r}); {hint}"
    if detail["type"] == "missing":
        return f"{path}: is missing; give it in the file or as {path}=VALUE"
    return f"{path}: {detail['msg']}, not {detail['input']!r}"


def _keys_at(model: type[Section], path: Sequence[Any]) -> list[str]:
    for name in path:
        inner = _section(model.model_fields[str(name)].annotation)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _section(annotation: Any) -> type[Section] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _describe(model: type[Section], prefix: str = "", *, optional: bool = False) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            lines += _describe(inner, f"{prefix}{name}.", optional=field.default is None)
            continue
        needed = f"required where there is a {prefix[:-1]}" if optional else "required"
        default = needed if field.is_required() else f"default {field.default}"
        lines.append(f"  {prefix}{name} ({default})\n      {field.description}")
    return lines
