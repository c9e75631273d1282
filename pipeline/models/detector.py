"""The YOLOv8 detector: the only place, beside its training, that imports ultralytics (AGPL-3.0)."""

from __future__ import annotations

import math
import os
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.errors import InputError
from pipeline.models.memory import in_batches
from pipeline.models.precision import FLOAT32, NUMBER_TYPES, cast
from pipeline.models.resnet import default_device, padded
from pipeline.models.specs import DetectorSettings

# ultralytics stops suppressing boxes after a time, and then drops images' boxes without an
# error; on a loaded machine that would make results depend on the load.
_NO_TIME_LIMIT_S = 1e6
# Of a pixel.
_LEVELS = 255
# By which a logit may be below the floor and is decoded all the same: exactness is left to
# ultralytics, which compares the confidences.
_SLACK = 0.01
# Candidates are padded with boxes of no confidence to multiples of it: six would be taken for the
# output of a network that suppresses boxes itself.
_STEP = 8


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image, most confident first.

    Attributes:
        corners: (M, 4) float32: x_min, y_min, x_max, y_max in px of the letterboxed square.
        confidence: (M,) float32.
        class_id: (M,) int32.
        finite: false where the network gave no number for an anchor: which boxes lack isn't known.
    """

    corners: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray
    finite: bool = True


def quiet_ultralytics() -> None:
    """Keeps ultralytics from calling home, installing, downloading, or writing to a home folder.

    It reads these once, when it is imported; a process that asks too late is refused.
    """
    os.environ["YOLO_OFFLINE"] = "true"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ["YOLO_VERBOSE"] = "false"
    # Its own loader, which builds only classes on its list instead of running a pickle.
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="linescore-ultralytics-"))


class Detector:
    """A YOLO network in evaluation mode."""

    def __init__(
        self,
        weights: Path,
        settings: DetectorSettings,
        what: str,
        precision: str = FLOAT32,
        device: torch.device | None = None,
    ) -> None:
        """Loads the weights, to the GPU that this process may use unless a device is named.

        `trained_side` is the side in px that the checkpoint says it was trained at, or None.

        Raises:
            InputError: the file is not an ultralytics detection checkpoint, or one whose boxes
                come with masks, angles or keypoints.
        """
        self.settings = settings
        self.device = device or default_device()
        network, self.trained_side = _load(weights, what)
        _require_boxes_alone(network.model[-1], what)
        self._model = network.fuse(verbose=False).eval().requires_grad_(False)
        self._levels = _take_pixels(self._model)
        cast(self._model, precision).to(self.device)
        self._kind = NUMBER_TYPES[precision]
        _decode_candidates(self._model.model[-1], settings.confidence_floor)
        self.class_names: dict[int, str] = {int(k): str(v) for k, v in self._model.names.items()}

    def detect(self, images: np.ndarray) -> list[Boxes]:
        """Boxes in (N, S, S, 3) uint8 RGB letterboxed images, one entry per image.

        Raises:
            NoMemoryError: images that find no room even alone.
        """
        batches = in_batches(self._detect_batch, images, self.settings.batch_size)
        return [boxes for batch in batches for boxes in batch]

    def _detect_batch(self, images: np.ndarray, size: int) -> list[Boxes]:
        from ultralytics.utils.nms import non_max_suppression

        # One shape for every batch, for the reason given in `in_fixed_batches`.
        tensor = padded(images, size, self.device).to(self._kind)
        if self._levels != 1:
            tensor.div_(self._levels)
        with torch.inference_mode():
            # Boxes are suppressed on the processor: on a GPU each image's would be some forty tiny
            # kernels, and waited for.
            found = [one.cpu() for one in self._model(tensor)[0][: len(images)]]
            kept = [
                non_max_suppression(
                    one[None],
                    self.settings.confidence_floor,
                    self.settings.iou,
                    max_det=self.settings.max_detections,
                    max_time_img=_NO_TIME_LIMIT_S,
                    end2end=getattr(self._model, "end2end", False),
                )[0]
                for one in found
            ]
        return [
            _boxes(some.numpy(), bool(one.isfinite().all()))
            for some, one in zip(kept, found, strict=True)
        ]


def _require_boxes_alone(head: Any, what: str) -> None:
    """Raises InputError for heads that add masks, angles or keypoints to their boxes."""
    from ultralytics.nn.modules import Detect

    if type(head)._inference is not Detect._inference:
        raise InputError(
            f"{what}: its head is a {type(head).__name__}, whose boxes come with masks, angles or "
            "keypoints; give a detection checkpoint, such as yolov8n.pt"
        )


def _take_pixels(network: Any) -> int:
    """Lets a network take pixels from 0 to 255 instead of 0 to 1, where it begins with a layer.

    It's a pass over the batch less, and bfloat16 holds the 256 levels exactly, their 255ths not.

    Returns:
        By what pixels have still to be divided.
    """
    from ultralytics.nn.modules import Conv

    first = network.model[0]
    if not isinstance(first, Conv):
        return _LEVELS
    first.conv.weight.div_(_LEVELS)
    return 1


def _decode_candidates(head: Any, floor: float) -> None:
    """Lets a detection head decode only what may be confident enough, and that in float32.

    Most anchors of most images are far below the floor, and decoding all of them takes long
    (docs/speed.md). A corner at 640 px has steps of 4 px in bfloat16, so boxes and confidences are
    made in float32, whatever the layers compute in.

    Its output is then a list of (4 + classes, M) float32, one for each image. M depends on that
    image alone, and so do the last bits of its numbers. A head that suppresses boxes itself, as
    YOLOv10's may, has chosen its anchors: they are all decoded.
    """
    from ultralytics.utils.tal import make_anchors

    # A little below it, as what is left out here is left out for good.
    least = -math.inf if floor <= 0 else math.inf if floor >= 1 else _logit(floor) - _SLACK
    head.dfl.float()
    head.shape = None  # anchors that came with the weights were cast: they are made anew
    decode_all = head._inference
    # Candidates are decoded on the processor: they are few, and each number of them would be a
    # shape for which a GPU has to look for a kernel anew.
    expected_distance, steps = deepcopy(head.dfl).cpu(), head.stride.cpu()

    @cache
    def anchors_of(sides: tuple[torch.Size, ...]) -> tuple[Tensor, Tensor]:
        # Of the maps only their shapes and type count.
        anchors, strides = make_anchors([torch.empty(1, 0, *side) for side in sides], steps, 0.5)
        return anchors.transpose(0, 1), strides.transpose(0, 1)

    def in_float32(found: dict[str, Any]) -> Any:
        if head.end2end:
            boxes, scores = found["boxes"].float(), found["scores"].float()
            maps = [
                one.new_empty((), dtype=boxes.dtype).expand(one.shape) for one in found["feats"]
            ]
            return decode_all({**found, "boxes": boxes, "scores": scores, "feats": maps})
        anchors, strides = anchors_of(tuple(one.shape[2:] for one in found["feats"]))
        # What is no number is no less than it, and is told of.
        maybe = ~(found["scores"].amax(1).float() <= least)
        # All images' at once: each look at a GPU's result waits for it.
        which = maybe.nonzero()
        boxes, scores = (
            found[name].transpose(1, 2)[which[:, 0], which[:, 1]].float().cpu()
            for name in ("boxes", "scores")
        )
        which = which.cpu()
        of_images = which[:, 0].bincount(minlength=len(maybe)).tolist()
        parts = (torch.split(rows, of_images) for rows in (which[:, 1], boxes, scores))
        decoded = []
        for places, sides, logits in zip(*parts, strict=True):
            confidence = logits.T.contiguous().sigmoid()
            # A convolution takes no image without pixels.
            corners = confidence.new_empty((4, 0))
            if len(places):
                distances = expected_distance(sides.T.contiguous()[None])
                relative = head.decode_bboxes(distances, anchors[None, :, places])
                corners = relative[0] * strides[:, places]
            decoded.append(pad(torch.cat([corners, confidence]), (0, -len(places) % _STEP)))
        return decoded

    head._inference = in_float32


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _boxes(rows: np.ndarray, finite: bool) -> Boxes:
    order = np.argsort(-rows[:, 4], kind="stable")
    rows = rows[order] if finite else rows[:0]
    return Boxes(
        rows[:, :4].astype(np.float32),
        rows[:, 4].astype(np.float32),
        rows[:, 5].astype(np.int32),
        finite,
    )


def require_quiet() -> None:
    """Imports ultralytics with its network switched off.

    Raises:
        RuntimeError: it was imported before, with its network on.
    """
    quiet_ultralytics()
    import ultralytics.utils

    if ultralytics.utils.ONLINE or ultralytics.utils.AUTOINSTALL:
        raise RuntimeError("ultralytics was imported before linescore could switch its network off")


def load_network(weights: Path, what: str) -> Any:
    """The detection network of an ultralytics checkpoint, without running what it pickles.

    Raises:
        InputError: the file is no such checkpoint.
    """
    return _load(weights, what)[0]


def _load(weights: Path, what: str) -> tuple[Any, int | None]:
    """The network, and the side in px that its checkpoint says it was trained at, if it does."""
    if weights.suffix.lower() != ".pt":
        raise InputError(
            f"{what}: is called {weights.name!r}, and a checkpoint of ultralytics ends in .pt: "
            "rename it if it is one; exports such as .onnx can't be used"
        )
    require_quiet()
    from ultralytics.nn.tasks import DetectionModel, load_checkpoint

    try:
        model, checkpoint = load_checkpoint(str(weights))
    except (TypeError, AttributeError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{what}: is no ultralytics checkpoint that can be loaded: {first}"
        ) from None
    if not isinstance(model, DetectionModel):
        raise InputError(f"{what}: holds a {type(model).__name__}; only detection models are used")
    # Not `model.args`, where what a checkpoint doesn't say is ultralytics' default.
    side = checkpoint.get("train_args", {}).get("imgsz")
    return model, side if isinstance(side, int) else None
