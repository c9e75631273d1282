"""What the models are asked for, in plain values: read without loading torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

MODELS = ("detector", "features", "classifier")
LAYERS = ("layer1", "layer2", "layer3", "layer4")
CHANNELS = {"layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}


@dataclass(frozen=True)
class FeatureLayout:
    """Which features are taken.

    Attributes:
        cell_layers: layers concatenated in each cell.
        grids: cells per side, one grid after the other.
        pooled_layers: layers averaged over the image.
    """

    cell_layers: tuple[str, ...]
    grids: tuple[int, ...]
    pooled_layers: tuple[str, ...]

    @property
    def cells(self) -> int:
        """G, the cells of all grids."""
        return sum(side * side for side in self.grids)

    @property
    def cell_channels(self) -> int:
        """D, the length of a cell's feature."""
        return sum(CHANNELS[name] for name in self.cell_layers)

    @property
    def pooled_channels(self) -> int:
        """P, the length of the pooled feature."""
        return sum(CHANNELS[name] for name in self.pooled_layers)

    @property
    def last_layer(self) -> str:
        """The deepest layer in use."""
        return max((*self.cell_layers, *self.pooled_layers), key=LAYERS.index)


@dataclass(frozen=True)
class DetectorSettings:
    """How boxes are found.

    Attributes:
        image_size: side of the letterboxed square, px.
        confidence_floor: boxes below it are dropped.
        iou: overlap above which the weaker box of a class is dropped.
        max_detections: boxes kept per image.
        batch_size: images per forward pass.
    """

    image_size: int
    confidence_floor: float
    iou: float
    max_detections: int
    batch_size: int


@dataclass(frozen=True)
class FineTuning:
    """How to train.

    Attributes:
        weights: an ultralytics .pt to start from; None: from scratch.
        image_size: side of the letterboxed square, px.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: of AdamW, falling linearly to a hundredth.
        freeze: layers, counted from the input, that keep the weights they start with.
        seconds: the training is shortened to end after about this long; None: no limit.
        seed: of everything random.
        threads: of the arithmetic; another number can change the last bits.
        augment: shares and probabilities by ultralytics' names.
    """

    weights: Path | None
    image_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    freeze: int
    seconds: float | None
    seed: int
    threads: int
    augment: Mapping[str, float]


@dataclass(frozen=True)
class Epoch:
    """What is known at the end of an epoch.

    Attributes:
        number: epochs that are done.
        epochs: how many there will be.
        seconds: time trained so far, over all attempts.
        loss: the mean training loss of each kind.
        state: makes what a later attempt continues from; it loads without running code.
    """

    number: int
    epochs: int
    seconds: float
    loss: Mapping[str, float]
    state: Callable[[], bytes]
