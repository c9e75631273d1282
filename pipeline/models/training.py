"""A small good-or-defect classifier, trained with plain torch on one machine's CPU."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import InputError
from pipeline.models.augment import brightness_gains, mirrored, shifted
from pipeline.models.specs import CHANNELS
from pipeline.models.vision import ResNet, resnet18

State = dict[str, Tensor]

# Red, green, blue of ImageNet at 0..1: what published ResNet weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Inverse strength of the head's regularisation: 512 features, some hundred images.
HEAD_STRENGTH = 0.03
# Where the masks are taught.
LOCAL_LAYERS = ("layer2", "layer3", "layer4")
# A cell counts as defective when the defect covers more of it than this.
TRACE = 0.02
# Few cells lie on a defect; each of them weighs as much as this many others.
CELL_WEIGHT = 10.0
# Batch norm needs two values of a channel, and the last maps of a small image are one pixel.
MIN_BATCH = 2


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults are the demo's.

    shift is a share of the image side; brightness a relative change. The result is bit-equal from
    run to run for the same number of threads.

    Raises:
        InputError: a number is out of its range.
    """

    seed: int = 0
    epochs: int = 4
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    threads: int = 2
    shift: float = 0.04
    brightness: float = 0.1

    def __post_init__(self) -> None:
        limits = {"epochs": 1, "batch_size": MIN_BATCH, "threads": 1, "shift": 0, "brightness": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be above 0")


def train_small_classifier(
    images: NDArray[np.uint8], masks: NDArray[np.bool_], settings: TrainingSettings
) -> State:
    """Train a ResNet-18 with classes 0 = good and 1 = defect; return its state.

    Beside the image's class, the cells of layer2, layer3 and layer4 learn whether they lie on a
    defect, through 1 × 1 convolutions that are thrown away: the masks tell the gradient where to
    go, and minutes on a CPU are enough. The head is then fitted once more, to the features as they
    became, by logistic regression. Rare classes weigh more. The caller's random state and thread
    count are left as they were.

    Args:
        images: N square RGB images (N, S, S, 3).
        masks: (N, S, S), true on the defect's pixels; an image without any is good.
        settings: how to train.

    Raises:
        InputError: shapes or types do not fit, or a class is missing.
    """
    _check(images, masks)
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            model = _Localising().to(memory_format=torch.channels_last)
            _fit(model, torch.from_numpy(images), torch.from_numpy(masks), settings)
            _refit_head(model.net, torch.from_numpy(images), masks)
    finally:
        torch.set_num_threads(threads)
    return {key: value.detach().contiguous() for key, value in model.net.state_dict().items()}


class _Localising(nn.Module):
    """ResNet-18 with local outputs behind its last three layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet18(num_classes=2)
        self.local = nn.ModuleDict(
            {name: nn.Conv2d(CHANNELS[name], 1, kernel_size=1) for name in LOCAL_LAYERS}
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, 2) of the image, and of each layer's cells (B, 1, h, w)."""
        net = self.net
        x = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))
        cells = []
        for name in LOCAL_LAYERS:
            x = getattr(net, name)(x)
            cells.append(self.local[name](x))
        logits: Tensor = net.fc(x.mean(dim=(2, 3)))
        return logits, cells


def normalised(images: Tensor) -> Tensor:
    """Images (N, S, S, 3) of 0..255 as network input (N, 3, S, S), float32, channels last."""
    mean = 255 * torch.tensor(IMAGENET_MEAN)
    std = 255 * torch.tensor(IMAGENET_STD)
    return ((images - mean) / std).permute(0, 3, 1, 2)


def _check(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> None:
    square = images.ndim == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if not square or images.dtype != np.uint8:
        raise InputError(f"images are {images.dtype} {images.shape}, not uint8 (N, S, S, 3)")
    if masks.shape != images.shape[:3] or masks.dtype != np.bool_:
        raise InputError(f"masks are {masks.dtype} {masks.shape}, not bool {images.shape[:3]}")
    defects = int(masks.any(axis=(1, 2)).sum())
    if defects in (0, len(images)):
        raise InputError(
            f"{defects} of {len(images)} training images are defects: both classes are needed"
        )


def _fit(model: _Localising, images: Tensor, masks: Tensor, settings: TrainingSettings) -> None:
    """Train in place: AdamW under a one-cycle learning rate."""
    labels = masks.flatten(1).any(dim=1).long()
    # Between batch_size and twice that: no small rest that would upset batch norm.
    batches = max(1, len(images) // settings.batch_size)
    optimiser = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * batches
    )
    weights = len(labels) / (2 * torch.bincount(labels, minlength=2))
    model.train()
    for _ in range(settings.epochs):
        for chosen in torch.randperm(len(images)).tensor_split(batches):
            batch, covers = _augmented(images[chosen], masks[chosen], settings)
            logits, local = model(batch)
            loss = functional.cross_entropy(logits, labels[chosen], weight=weights)
            optimiser.zero_grad()
            total = loss + sum(_local_loss(cells, covers) for cells in local)
            total.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    model.eval()


def _refit_head(net: ResNet, images: Tensor, masks: NDArray[np.bool_]) -> None:
    """Fit the last layer to the trained features; class 0's logit becomes 0."""
    head, net.fc = net.fc, nn.Identity()
    with torch.inference_mode():
        parts = [net(normalised(images[i : i + 64])) for i in range(0, len(images), 64)]
    features = torch.cat(parts).double().numpy()
    scaler = StandardScaler().fit(features)
    regression = LogisticRegression(C=HEAD_STRENGTH, max_iter=1000, class_weight="balanced")
    regression.fit(scaler.transform(features), masks.any(axis=(1, 2)))
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - weight @ scaler.mean_
    rows = np.stack([np.zeros_like(weight), weight])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(rows))
        head.bias.copy_(torch.tensor([0.0, bias]))
    net.fc = head


def _local_loss(cells: Tensor, covers: Tensor) -> Tensor:
    """Cross-entropy of the cells: a defect's are those with more than a trace of it."""
    touched = functional.adaptive_avg_pool2d(covers, cells.shape[-1]) > TRACE
    return functional.binary_cross_entropy_with_logits(
        cells, touched.float(), pos_weight=torch.tensor(CELL_WEIGHT)
    )


def _augmented(images: Tensor, masks: Tensor, settings: TrainingSettings) -> tuple[Tensor, Tensor]:
    """Network input (B, 3, S, S) and masks (B, 1, S, S): flipped, shifted, brightened by chance."""
    count, size = images.shape[:2]
    gain = brightness_gains(count, settings.brightness)
    batch = torch.cat([normalised(images * gain), masks[:, None].float()], dim=1)
    batch = shifted(mirrored(batch), round(settings.shift * size))
    return batch[:, :3].contiguous(memory_format=torch.channels_last), batch[:, 3:]
