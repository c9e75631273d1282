"""Settings of training classifier and detector, and of exporting a dataset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.sections import LimitsConfig, RayConfig, S3Config, Section


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
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""


class DetectorAugmentationConfig(Section):
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
    augment: DetectorAugmentationConfig = DetectorAugmentationConfig()
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
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage, and the same command tries them again."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class ClassifierAugmentationConfig(Section):
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
    refit: bool = True
    """Once it is known when to stop, train again on all training rows, as many epochs; false: the
    model is one that never learnt from the inner share."""
    views: int = Field(default=8, ge=1)
    """Augmented views per image, the plain one counted, that the frozen layers see once."""
    held_mb: int = Field(default=2048, ge=0)
    """Memory for these views, of which all are held; where they take more, and layers of the
    backbone are trained, images are decoded and varied anew in every epoch."""
    augmentation: ClassifierAugmentationConfig = ClassifierAugmentationConfig()
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
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage, and the same command tries them again."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""
