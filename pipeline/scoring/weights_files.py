"""Weights that a config names: on a local disk, or in a store such as S3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InputError
from pipeline.models.weights import State, load_state
from pipeline.tables import storage


def read_state(weights: str, field: str) -> State:
    """A ResNet-18's state dict, from torchvision's name or a file wherever it lies.

    Raises:
        InputError: as `load_state`; the store can't be read.
    """
    content = _remote_bytes(weights, field) if storage.is_remote(weights) else None
    return load_state(weights, field, content)


def read_weights(weights: str, field: str) -> bytes:
    """A weights file's content, wherever it lies.

    Args:
        weights: its path or URI.
        field: the setting that named it, for errors.

    Raises:
        InputError: it can't be read.
    """
    if storage.is_remote(weights):
        return _remote_bytes(weights, field)
    try:
        return Path(storage.absolute(weights)).read_bytes()
    except OSError as error:
        raise InputError(f"{field}: {weights}: can't be read: {error.strerror}") from None


@contextmanager
def local_weights(weights: str, field: str) -> Iterator[Path]:
    """A local file with the weights, for a library that reads nothing else.

    Raises:
        InputError: they can't be read.
    """
    if not storage.is_remote(weights):
        yield Path(storage.absolute(weights))
        return
    content = _remote_bytes(weights, field)
    with tempfile.TemporaryDirectory(prefix="linescore-weights-") as folder:
        file = Path(folder) / (weights.rsplit("/", 1)[-1] or "weights")
        file.write_bytes(content)
        yield file


def _remote_bytes(uri: str, field: str) -> bytes:
    with storage.errors_for(uri, field):
        try:
            return storage.read_bytes(uri)
        except OSError as error:
            if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
                raise
            raise InputError(f"{field}: {uri}: can't be read: {error}") from None
