"""Which pools a run's chain has: one a model, or one whose actors hold them all."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.scoring.bundle import Bundle
from pipeline.stages.chain import PoolStage
from pipeline.stages.cluster import FUSED, PoolPlan
from pipeline.stages.decode import LETTERBOXED, SQUARE
from pipeline.stages.pools import (
    ActorSettings,
    ClassifierActor,
    DetectorActor,
    FeatureActor,
    FusedActor,
    FusedSettings,
)

# In the order of the chain: the one with the largest image first, so that it is dropped early.
ACTORS = {"detector": DetectorActor, "features": FeatureActor, "classifier": ClassifierActor}
IMAGE_OF = {"detector": LETTERBOXED, "features": SQUARE, "classifier": SQUARE}


def pool_names(models: tuple[str, ...], fuse: bool) -> tuple[str, ...]:
    """The pools that these models need."""
    return (FUSED,) if fuse and models else models


def pool_stages(
    bundle: Bundle, models: tuple[str, ...], plans: Mapping[str, PoolPlan], keep_features: str
) -> tuple[PoolStage, ...]:
    """The pools of a chain whose images go through these models.

    Args:
        bundle: what the actors load.
        models: names, in the order of the chain.
        plans: sizes and shares, by pool.
        keep_features: which features are added: none, pooled or cells.
    """
    fused = plans.get(FUSED)
    settings = {
        name: _settings(bundle, models, name, (fused or plans[name]).threads, keep_features)
        for name in models
    }
    if fused is not None:
        actors = tuple((name, ACTORS[name], settings[name]) for name in models)
        return (PoolStage(FusedActor, FusedSettings(actors), fused, None),)
    return tuple(PoolStage(ACTORS[name], settings[name], plans[name], name) for name in models)


def _settings(
    bundle: Bundle, models: tuple[str, ...], name: str, threads: int, keep_features: str
) -> ActorSettings:
    later = models[models.index(name) + 1 :]
    image = IMAGE_OF[name]
    drop = () if any(IMAGE_OF[other] == image for other in later) else (image,)
    keep = keep_features if name == "features" else "none"
    return ActorSettings(bundle.uri, threads, drop, keep)
