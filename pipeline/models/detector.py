"""The YOLOv8 detector: the only place, beside its training, that imports ultralytics (AGPL-3.0)."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.errors import InputError
from pipeline.models.memory import in_batches
from pipeline.models.precision import FLOAT32, NUMBER_TYPES, cast
from pipeline.models.resnet import default_device, padded
from pipeline.models.specs import DetectorSettings

# ultralytics stops suppressing boxes after a time, and then drops images' boxes without an
# error; on a loaded machine that would make results depend on the load.
_NO_TIME_LIMIT_S = 1e6


@dataclass(frozen=True)
class Boxes:
    """The boxes of one image, most confident first.

    Attributes:
        corners: (M, 4) float32: x_min, y_min, x_max, y_max in px of the letterboxed square.
        confidence: (M,) float32.
        class_id: (M,) int32.
    """

    corners: np.ndarray
    confidence: np.ndarray
    class_id: np.ndarray


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
        self, weights: Path, settings: DetectorSettings, what: str, precision: str = FLOAT32
    ) -> None:
        """Loads the weights.

        Raises:
            InputError: the file is not an ultralytics detection checkpoint.
        """
        self.settings = settings
        self.device = default_device()
        self._model = load_network(weights, what).fuse(verbose=False).eval().requires_grad_(False)
        cast(self._model, precision).to(self.device)
        self._kind = NUMBER_TYPES[precision]
        _decode_in_float32(self._model.model[-1])
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
        tensor = padded(images, size, self.device).float().div_(255)
        with torch.inference_mode():
            predictions = self._model(tensor.to(self._kind))
            kept = non_max_suppression(
                predictions,
                self.settings.confidence_floor,
                self.settings.iou,
                max_det=self.settings.max_detections,
                max_time_img=_NO_TIME_LIMIT_S,
                end2end=getattr(self._model, "end2end", False),
            )
        return [_boxes(rows.cpu().numpy()) for rows in kept[: len(images)]]


def _decode_in_float32(head: Any) -> None:
    """Lets a detection head make boxes and confidences in float32, whatever its layers compute in.

    A corner at 640 px has steps of 4 px in bfloat16.
    """
    decode = head._inference
    head.dfl.float()
    head.shape = None  # anchors that came with the weights were cast: they are made anew

    def in_float32(found: dict[str, Any]) -> Any:
        # Of the maps only their shapes and type count.
        maps = [one.new_empty((), dtype=torch.float32).expand(one.shape) for one in found["feats"]]
        boxes, scores = found["boxes"].float(), found["scores"].float()
        return decode({**found, "boxes": boxes, "scores": scores, "feats": maps})

    head._inference = in_float32


def _boxes(rows: np.ndarray) -> Boxes:
    order = np.argsort(-rows[:, 4], kind="stable")
    rows = rows[order]
    return Boxes(
        rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int32)
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
    require_quiet()
    from ultralytics.nn.tasks import DetectionModel, load_checkpoint

    try:
        model, _ = load_checkpoint(str(weights))
    except (TypeError, AttributeError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{what}: is no ultralytics checkpoint that can be loaded: {first}"
        ) from None
    if not isinstance(model, DetectionModel):
        raise InputError(f"{what}: holds a {type(model).__name__}; only detection models are used")
    return model
