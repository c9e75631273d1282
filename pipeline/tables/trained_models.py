"""Trained models in a store: where their files lie, and whether a training may continue."""

from __future__ import annotations

import hashlib
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
    require_same(places, identity)
    return True


def require_same(places: ModelPlaces, identity: dict[str, Any]) -> None:
    """Refuses a name whose training was another one; writes nothing.

    Raises:
        InputError: names each difference, or says that the training's record is gone.
    """
    if not storage.exists(places.record):
        raise InputError(
            f"name {places.name}: {places.record}: is missing, so that nobody can tell what the "
            "model was trained with; use another name"
        )
    changes = differences(storage.read_json(places.record).get("identity", {}), identity)
    if changes:
        raise InputError(
            f"name {places.name}: was trained with other settings; "
            + "; ".join(changes)
            + ". Use another name, or the settings it was begun with"
        )


def require_kind(folder: str, kind: str) -> None:
    """Refuses the folder of a model of another kind, finished or begun; writes nothing.

    Args:
        folder: of the model.
        kind: `classifier` or `detector`.

    Raises:
        InputError: the name belongs to a model of another kind.
    """
    found = _kind_in(folder)
    if found not in (None, kind):
        raise InputError(
            f"name: {folder}: holds a {found}, and this would be a {kind}; use another name"
        )


def _kind_in(folder: str) -> str | None:
    """What a folder's model is, as far as its records say."""
    training = storage.join(folder, "training.json")
    if storage.exists(training):
        return str(_kind_of(storage.read_json(training)) or "model of an unknown kind")
    begun = {"run.json": "classifier", "work/started.json": "detector"}
    for name, kind in begun.items():
        if storage.exists(storage.join(folder, name)):
            return kind
    return None


def _kind_of(record: dict[str, Any]) -> Any:
    """What a finished training's record says that it trained; a detector's says `model`."""
    return record.get("kind") or record.get("model")


def trained_side(weights: str, kind: str) -> int | None:
    """Side in px of the squares that a model was trained on, of the record beside its weights.

    Args:
        weights: of the model.
        kind: `classifier` or `detector`.

    Returns:
        None: there is no record, or it is of other weights.

    Raises:
        InputError: the weights can't be read.
    """
    folder, _, name = weights.rpartition("/")
    place = storage.join(folder or ".", "training.json")
    with storage.errors_for(weights, "weights"):
        if not name or not storage.exists(place):
            return None
        record = storage.read_json(place)
        found = record if isinstance(record, dict) and _kind_of(record) == kind else {}
        side = (found.get("config") or {}).get("image_size")
        digest = hashlib.sha256(storage.read_bytes(weights)).hexdigest()
    return side if isinstance(side, int) and found.get("weights_sha256") == digest else None
