"""Settings of the demo."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.sections import RayConfig, Section


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
