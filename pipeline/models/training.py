"""A small good-or-defect classifier, trained with plain torch on one machine's CPU."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

from pipeline.errors import InputError

State = dict[str, Tensor]

# Red, green, blue of ImageNet at 0..1: what published ResNet weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What a start may lack: it is then a backbone up to layer3, and the rest is learnt anew.
HEAD = ("layer4.", "fc.")
# Batch norm needs two values of a channel, and the last maps of a small image are one pixel.
MIN_BATCH = 2


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults are the demo's.

    shift is a share of the image side; brightness a relative change. freeze_batch_norm keeps the
    batch norm of a start, which folded weights need. The result is bit-equal from run to run for
    the same number of threads.

    Raises:
        InputError: a number is out of its range.
    """

    seed: int = 0
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    threads: int = 2
    shift: float = 0.04
    brightness: float = 0.1
    freeze_batch_norm: bool = False

    def __post_init__(self) -> None:
        limits = {"epochs": 1, "batch_size": MIN_BATCH, "threads": 1, "shift": 0, "brightness": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be above 0")


def train_small_classifier(
    images: NDArray[np.uint8],
    is_defect: NDArray[np.bool_],
    settings: TrainingSettings,
    start: State | None = None,
) -> State:
    """Train a ResNet-18 with classes 0 = good and 1 = defect; return its state.

    images are N square RGB images (N, S, S, 3), is_defect (N,). Rare classes weigh more. The
    caller's random state and thread count are left as they were.

    Raises:
        InputError: shapes or types do not fit, a class is missing, or the start is another model's.
    """
    _check(images, is_defect)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = _model(start)
            _fit(model, torch.from_numpy(images), torch.from_numpy(is_defect).long(), settings)
    finally:
        torch.set_num_threads(threads)
    return {key: value.detach().contiguous() for key, value in model.state_dict().items()}


def normalised(images: Tensor) -> Tensor:
    """Images (N, S, S, 3) of 0..255 as network input (N, 3, S, S), float32, channels last."""
    mean = 255 * torch.tensor(IMAGENET_MEAN)
    std = 255 * torch.tensor(IMAGENET_STD)
    return ((images - mean) / std).permute(0, 3, 1, 2)


def _check(images: NDArray[np.uint8], is_defect: NDArray[np.bool_]) -> None:
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if not square or images.dtype != np.uint8:
        raise InputError(f"images are {images.dtype} {images.shape}, not uint8 (N, S, S, 3)")
    if is_defect.shape != images.shape[:1] or is_defect.dtype != np.bool_:
        found = f"{is_defect.dtype} {is_defect.shape}"
        raise InputError(f"is_defect is {found}, not bool ({len(images)},)")
    defects = int(is_defect.sum())
    if defects in (0, len(images)):
        raise InputError(
            f"{defects} of {len(images)} training images are defects: both classes are needed"
        )


def _model(start: State | None) -> nn.Module:
    model: nn.Module = resnet18(num_classes=2)
    if start is not None:
        try:
            missing, unknown = model.load_state_dict(start, strict=False)
        except RuntimeError as error:
            raise InputError(f"start is not a two-class ResNet-18's: {error}") from error
        wrong = [key for key in missing if not key.startswith(HEAD)] + list(unknown)
        if wrong:
            raise InputError(f"start is not a ResNet-18's: {len(wrong)} keys like {wrong[0]!r}")
    return model.to(memory_format=torch.channels_last)


def _fit(model: nn.Module, images: Tensor, labels: Tensor, settings: TrainingSettings) -> None:
    """Train in place: AdamW under a one-cycle learning rate."""
    # Between batch_size and twice that: no small rest that would upset batch norm.
    batches = max(1, len(images) // settings.batch_size)
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * batches
    )
    weights = len(labels) / (2 * torch.bincount(labels, minlength=2))
    _set_training(model, settings)
    for _ in range(settings.epochs):
        for chosen in torch.randperm(len(images)).tensor_split(batches):
            logits = model(_augmented(images[chosen], settings))
            loss = functional.cross_entropy(logits, labels[chosen], weight=weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    model.eval()


def _set_training(model: nn.Module, settings: TrainingSettings) -> None:
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and settings.freeze_batch_norm:
            module.train(name.startswith(HEAD))


def _augmented(images: Tensor, settings: TrainingSettings) -> Tensor:
    """Network input (B, 3, S, S): each image flipped, shifted and brightened by chance."""
    count, size = images.shape[:2]
    gain = 1 + settings.brightness * (2 * torch.rand(count, 1, 1, 1) - 1)
    batch = normalised(images * gain)
    for axis in (2, 3):
        flip = torch.rand(count, 1, 1, 1) < 0.5
        batch = torch.where(flip, batch.flip(axis), batch)
    return _shifted(batch, round(settings.shift * size))


def _shifted(batch: Tensor, most: int) -> Tensor:
    """Each image (B, 3, S, S) moved by up to `most` pixels, its edge repeated into the gap."""
    size = batch.shape[-1]
    padded = functional.pad(batch, (most, most, most, most), mode="replicate")
    moves = torch.randint(0, 2 * most + 1, (len(batch), 2)).tolist()
    moved = [
        image[:, down : down + size, right : right + size]
        for image, (down, right) in zip(padded, moves, strict=True)
    ]
    return torch.stack(moved).contiguous(memory_format=torch.channels_last)
