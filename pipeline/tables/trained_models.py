"""Trained models in a store: where their files lie, and whether a training may continue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.runs import differences
from pipeline.tables.schemas import SCHEMA_VERSION


@dataclass(frozen=True)
class ModelPlaces:
    """Where the pieces of one trained model lie in a store."""

    store: str
    name: str

    @property
    def folder(self) -> str:
        """Everything of the model."""
        return storage.join(self.store, "models", self.name)

    @property
    def record(self) -> str:
        """What is trained: identity, config, versions; written first."""
        return storage.join(self.folder, "run.json")

    @property
    def training(self) -> str:
        """What came of it, written last: the model is finished when it is there."""
        return storage.join(self.folder, "training.json")

    @property
    def checkpoints(self) -> str:
        """What a killed training goes on from."""
        return storage.join(self.folder, "checkpoints")

    def file(self, *parts: str) -> str:
        """A file in the folder."""
        return storage.join(self.folder, *parts)


def begin_training(places: ModelPlaces, identity: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Writes a new training's record, or checks that the old one is of the same training.

    Args:
        places: the model.
        identity: what its weights and figures depend on.
        facts: config, versions and the like, for people.

    Returns:
        True when it had been begun before.

    Raises:
        InputError: the name belongs to a training with another identity; names each difference.
    """
    if not storage.exists(places.record):
        record = {"schema_version": SCHEMA_VERSION, "identity": identity} | facts
        storage.write_json(places.record, record)
        return False
    changes = differences(storage.read_json(places.record).get("identity", {}), identity)
    if changes:
        raise InputError(
            f"name {places.name}: was trained with other settings; "
            + "; ".join(changes)
            + ". Use another name, or the settings it was begun with"
        )
    return True
