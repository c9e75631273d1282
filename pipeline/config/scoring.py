"""Settings of fitting, scoring and calibrating."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections import (
    Layer,
    LimitsConfig,
    PoolConfig,
    RayConfig,
    RunId,
    S3Config,
    Section,
)
from pipeline.config.watching import NotifyConfig


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
    """Side in pixels of the letterboxed square that the detector sees; as it was trained."""
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
    run_id: RunId | None = None
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
    more the job stops, as in an outage, and the same command tries them again. Those that could not
    be read when they were indexed don't count."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """What the networks compute in: auto takes bfloat16 for those whose scores it keeps, on a
    machine with hardware for it. A bundle is scored on machines that have its precision."""
    features: PoolConfig = PoolConfig()
    """The feature pool."""
    block_rows: int = Field(default=32, ge=1)
    """Images that travel together through the stages."""
    commit_rows: int = Field(default=128, ge=1)
    """Images per commit: what a kill can cost."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""
    notify: NotifyConfig = NotifyConfig()
    """Who is told at the end."""


class StagesConfig(Section):
    """Which models run."""

    detector: bool = True
    """Off: the detector's columns are null."""
    features: bool = True
    """Off: the anomaly columns are null."""
    classifier: bool = True
    """Off: the classifier's columns are null."""


class PoolsConfig(Section):
    """The actor pools: one a model, or the one that holds them all."""

    detector: PoolConfig = PoolConfig()
    """YOLOv8."""
    features: PoolConfig = PoolConfig()
    """Backbone and distances."""
    classifier: PoolConfig = PoolConfig()
    """Good/defect."""
    fused: PoolConfig = PoolConfig()
    """The pool of actors that hold all models, where they are fused; there are no others then."""


class ScoreConfig(Section):
    """Settings of jobs/score.py."""

    manifest: str
    """A manifest, as jobs/index.py writes it."""
    bundle: str
    """A bundle: its folder or s3:// prefix, its digest in the store, or `latest`."""
    store: str
    """The store; runs and tables go there."""
    run_id: RunId | None = None
    """Name of this run; the same again continues where it was cut off. Empty: a new one."""
    models: StagesConfig = StagesConfig()
    """Which of the bundle's models run."""
    skip_scored: bool = False
    """Leave out the images that published runs of the same scorer have: the tables hold the new
    ones only."""
    since_run: RunId | None = None
    """The same for the images of one run, and of those that it left images to itself."""
    reuse: bool = True
    """Take from earlier runs in the store what an unchanged model, or stored features, give."""
    keep_features: Literal["none", "pooled", "cells"] = "none"
    """What the feature table keeps: per million images nothing, about 1 GB, or about 62 GB."""
    verify_content: bool = True
    """Compare each image's sha256 with the manifest's; a changed file goes to the errors."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage, and the same command tries them again. Those that could not
    be read when they were indexed don't count."""
    pools: PoolsConfig = PoolsConfig()
    """Sizes of the actor pools."""
    fuse_models: bool | None = None
    """One pool, whose actors hold all models: for nodes with one GPU, and for short runs. Empty: on
    a cluster with several GPUs, or of four CPUs or fewer without a GPU, unless a model's own pool
    is given settings. The rows are the same."""
    block_rows: int = Field(default=32, ge=1)
    """Images that travel together through the stages."""
    commit_rows: int = Field(default=128, ge=1)
    """Images per commit: what a kill can cost. A run of more than 2,000 commits has larger ones,
    of whole blocks, up to 4,096 images, or 1,024 with pooled features; as asked with features of
    each cell. Progress is told when a commit comes."""
    file_rows: int = Field(default=1_000_000, ge=1)
    """Rows per published file."""
    progress_s: float = Field(default=10.0, gt=0)
    """Seconds between two progress lines when the output is not a terminal."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""
    notify: NotifyConfig = NotifyConfig()
    """Who is told at the end."""


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

    run_id: RunId
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
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
