"""The network of the good/defect classifier as it is trained: a given trunk, a new head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.models.augment import Augmentation, augmented
from pipeline.models.resnet import Trunk
from pipeline.models.specs import CHANNELS
from pipeline.models.weights import State

HEAD = "head"


class DefectNet(nn.Module):
    """ResNet-18's trunk and a head of one output; batch norm keeps the statistics it came with.

    The head reads standardised features: the scale is settled on the training images once, and
    is folded into the weights at the end. The trunk's statistics stay as they are, since weights
    whose batch norm was folded are exact only so, and a batch of few images has poor ones.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, state: Mapping[str, Tensor], trainable: str, what: str) -> None:
        """Builds the network on given weights.

        Args:
            state: a backbone's, as far as it goes.
            trainable: the first layer that is trained, or `head`.
            what: the setting that named the weights, for errors.

        Raises:
            InputError: incomplete weights, or none for the layer to train.
        """
        super().__init__()
        self.last_layer = last_layer_of(state)
        trunk = {name: value for name, value in state.items() if not name.startswith("fc.")}
        self.trunk = Trunk(trunk, self.last_layer, what)
        width = CHANNELS[self.last_layer]
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        names = list(self.trunk.layers)
        if trainable != HEAD and trainable not in names:
            raise InputError(
                f"trainable: {trainable}: {what} ends at {self.last_layer}; train {HEAD} or "
                f"{self.last_layer}, or give weights that have {trainable}"
            )
        self.trained = names[names.index(trainable) :] if trainable != HEAD else []
        for name in self.trained:
            self.trunk.layers[name].requires_grad_(True)

    def frozen_part(self, images: Tensor) -> Tensor:
        """What the layers that are never trained make of images (B, 3, S, S) in [0, 1].

        Returns:
            (B, C', H, W), the input of the first trained layer, or (B, C) features where only the
            head is trained.
        """
        with torch.no_grad():
            x = self.trunk.normalised_stem(images)
            for name, layer in self.trunk.layers.items():
                if name in self.trained:
                    return x
                x = layer(x)
            return x.mean(dim=(2, 3))

    def features(self, frozen: Tensor) -> Tensor:
        """(B, C) averages of the last layer, of what `frozen_part` gave."""
        if not self.trained:
            return frozen
        for name in self.trained:
            frozen = self.trunk.layers[name](frozen)
        return frozen.mean(dim=(2, 3))

    def forward(self, frozen: Tensor) -> Tensor:
        """(B,) logits, of what `frozen_part` gave."""
        features = self.features(frozen)
        logits: Tensor = self.head((features - self.mean) / self.deviation)[:, 0]
        return logits

    def train(self, mode: bool = True) -> DefectNet:
        """Leaves the trunk in eval mode."""
        super().train(mode)
        self.trunk.eval()
        return self

    def trained_state(self) -> State:
        """What training changes: the head, its scale, the trained layers."""
        prefixes = ("head.", "mean", "deviation", *(f"trunk.layers.{n}." for n in self.trained))
        return {
            name: value.detach().cpu().clone()
            for name, value in self.state_dict().items()
            if name.startswith(prefixes)
        }

    def resnet_state(self) -> State:
        """The whole network by torchvision's names, the scale folded into `fc`."""
        state: State = {}
        for name, value in self.trunk.state_dict().items():
            name = name.removeprefix("layers.")
            name = name.replace("stem.0.", "conv1.").replace("stem.1.", "bn1.")
            state[name] = value.detach().cpu().clone()
        weight = (self.head.weight.double() / self.deviation.double()).detach()
        bias = self.head.bias.double().detach() - weight @ self.mean.double()
        state["fc.weight"] = weight.float().cpu()
        state["fc.bias"] = bias.float().cpu()
        return state


def last_layer_of(state: Mapping[str, Tensor]) -> str:
    """Where a head sits: behind layer4, or behind layer3 where the weights end there."""
    return "layer4" if any(name.startswith("layer4.") for name in state) else "layer3"


def pixels(images: Tensor, net: DefectNet) -> Tensor:
    """(B, 3, S, S) in [0, 1] on the network's device, of (B, S, S, 3) uint8."""
    return images.to(net.mean.device).permute(0, 3, 1, 2).float() / 255


def frozen_views(
    net: DefectNet, images: Tensor, views: int, augmentation: Augmentation, seed: int
) -> Tensor:
    """The frozen part's outputs (B, V, …) float32 of images (B, S, S, 3) uint8, plain one first.

    They stand for the images in every epoch: the frozen layers run once a view.
    """
    plain = pixels(images, net)
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        changed = [augmented(plain, augmentation) for _ in range(views - 1)]
        stacked = [net.frozen_part(view).cpu() for view in (plain, *changed)]
    return torch.stack(stacked, dim=1).clone()
