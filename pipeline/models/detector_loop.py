"""ultralytics' training loop (AGPL-3.0) without what it does beside training.

Importing this module imports ultralytics: `require_quiet` has to come before it.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics import __version__
from ultralytics.models.yolo.detect import DetectionTrainer

from pipeline.errors import RunError
from pipeline.models.resnet import default_device
from pipeline.models.specs import Epoch, FineTuning

# The architecture of a training without given weights, from ultralytics' own definition.
_ARCHITECTURE = "yolov8n.yaml"
# Epochs that the learning rate takes to rise.
_WARMUP_EPOCHS = 1.0
# The learning rate of the last epoch, as a share of the first.
_FINAL_RATE = 0.01
# Distance of two seeds' random numbers: neighbouring seeds share none, whatever the epoch.
_SEED_STRIDE = 100_003


class FineTuner(DetectionTrainer):  # type: ignore[misc]
    """Trains; validates, plots, logs, downloads and saves nothing."""

    def __init__(
        self,
        images: Path,
        names: tuple[str, ...],
        settings: FineTuning,
        on_epoch: Callable[[Epoch], None],
        state: dict[str, Any] | None,
    ) -> None:
        self.settings = settings
        self.given = {
            "path": images.parent,
            "train": str(images),
            "val": str(images),  # asked for, never looked at
            "names": dict(enumerate(names)),
            "nc": len(names),
            "channels": 3,
        }
        self.on_epoch, self.state = on_epoch, state
        self.seconds_before = state["seconds"] if state else 0.0
        self.epochs = settings.epochs
        super().__init__(overrides=_overrides(images.parent, settings))

    def get_dataset(self) -> dict[str, Any]:
        """The dataset as it was given: no file is looked for, no font fetched."""
        return self.given

    def _do_train(self) -> None:
        """Trains the epochs that are left: none, where an attempt died after its last one."""
        if self.state and self.state["done"] >= self.state["epochs"]:
            self._setup_train()  # loads the state
            return
        super()._do_train()

    def run_callbacks(self, event: str) -> None:
        """The two events that matter here; ultralytics' own callbacks are never run."""
        if event == "on_train_epoch_start":
            self._start_afresh()
        elif event == "on_train_epoch_end":
            self._end_epoch()

    def _start_afresh(self) -> None:
        """Makes an epoch independent of those before, as a continued training needs it.

        Raises:
            MemoryError: ultralytics found no room for a batch, and would go on with half of it,
                which is another training than the one that was asked for.
        """
        if self.batch_size != self.settings.batch_size:
            raise MemoryError(f"batch_size {self.settings.batch_size}")
        seed = self.settings.seed * _SEED_STRIDE + self.epoch
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - ultralytics draws from it
        torch.manual_seed(seed)
        loader = self.train_loader
        loader.generator.manual_seed(seed)
        loader.reset()
        dataset = loader.dataset
        for index in dataset.buffer:  # what mosaic draws from
            dataset.ims[index] = None
        dataset.buffer.clear()

    def _end_epoch(self) -> None:
        done = self.epoch + 1
        if not torch.isfinite(self.loss):
            raise RunError(
                f"training: the loss became {float(self.loss)} in epoch {done}; lower learning_rate"
            )
        seconds = self.seconds_before + time.time() - float(self.train_time_start)
        self._fit_into_time(done, seconds)
        loss = {name: float(value) for name, value in self.tloss.items()}
        state = partial(self._state, done, seconds)
        self.on_epoch(Epoch(done, self.epochs, seconds, loss, state))

    def _fit_into_time(self, done: int, seconds: float) -> None:
        """Fewer epochs than asked for, so that the learning rate still falls to its end in time."""
        limit = self.settings.seconds
        if limit is None:
            return
        affordable = min(self.settings.epochs, max(done, int(limit / (seconds / done))))
        if affordable != self.epochs:
            self.epochs = self.args.epochs = affordable
            self._setup_scheduler()
            self.scheduler.last_epoch = self.epoch

    def _state(self, done: int, seconds: float) -> bytes:
        buffer = io.BytesIO()
        state = {
            "model": self.model.state_dict(),
            "average": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "done": done,
            "epochs": self.epochs,
            "seconds": seconds,
        }
        torch.save(state, buffer)
        return buffer.getvalue()

    def resume_training(self, ckpt: Any) -> None:
        """Continues from the given state, exactly; ultralytics' own way rounds to float16."""
        del ckpt
        if self.state is None:
            return
        self.model.load_state_dict(self.state["model"])
        self.ema.ema.load_state_dict(self.state["average"])
        self.ema.updates = self.state["updates"]
        self.optimizer.load_state_dict(self.state["optimizer"])
        self.epochs = self.args.epochs = self.state["epochs"]
        self.start_epoch = self.state["done"]

    def validate(self) -> tuple[dict[str, float], float]:
        """Nothing: no held-out row may choose an epoch."""
        return {}, 0.0

    def final_eval(self) -> None:
        """Nothing: the model is judged elsewhere, by one who says on which rows."""

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Nothing."""

    def save_model(self) -> bool:
        """Nothing: each epoch's state goes to `on_epoch`."""
        return False

    def checkpoint(self) -> bytes:
        """The averaged weights as an ultralytics checkpoint, without paths and dates."""
        model = deepcopy(self.ema.ema).half()
        model.criterion = None
        model.args = {"task": "detect", "imgsz": self.settings.image_size}
        model.yaml["yaml_file"] = Path(model.yaml.get("yaml_file", _ARCHITECTURE)).name
        buffer = io.BytesIO()
        content = {
            "model": model,
            "ema": None,
            "train_args": model.args,
            "version": __version__,
            "license": "AGPL-3.0",
        }
        torch.save(content, buffer)
        return buffer.getvalue()


def _overrides(folder: Path, settings: FineTuning) -> dict[str, Any]:
    """The settings by ultralytics' names; what it would do beside training is off."""
    device = default_device()
    return {
        "task": "detect",
        "mode": "train",
        "model": str(settings.weights or _ARCHITECTURE),
        "pretrained": settings.weights is not None,
        "save_dir": str(folder / "run"),
        "imgsz": settings.image_size,
        "epochs": settings.epochs,
        "batch": settings.batch_size,
        "nbs": settings.batch_size,  # a step a batch: nothing is carried into the next epoch
        "optimizer": "AdamW",
        "lr0": settings.learning_rate,
        "lrf": _FINAL_RATE,
        "warmup_epochs": _WARMUP_EPOCHS,
        "warmup_bias_lr": 0.0,
        "freeze": settings.freeze,
        "seed": settings.seed,
        "device": "" if device.type == "cuda" else "cpu",  # "": the current GPU
        "patience": 0,
        "workers": 0,
        "close_mosaic": 0,
        "deterministic": True,
        "amp": False,  # its check downloads a model
        "augmentations": [],  # albumentations, where it happens to be installed
        "val": False,
        "plots": False,
        "save": False,
        "verbose": False,
        **settings.augment,
    }
