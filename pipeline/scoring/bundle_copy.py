"""Copies of remote bundles on a machine's own disk: one for all its processes."""

from __future__ import annotations

import fcntl
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.tables import storage


@dataclass(frozen=True)
class BundleCopy:
    """Where a remote bundle's files belong on this machine.

    Attributes:
        uri: the bundle's place in the store.
        folder: of the copy.
        field_name: the setting, for errors.
    """

    uri: str
    folder: Path
    field_name: str

    def complete(self, files: Mapping[str, Any], sized: frozenset[str]) -> dict[str, Any]:
        """Fetches the files that the copy lacks; of several processes at once one fetches.

        Args:
            files: size and sha256 by name.
            sized: those of which a file of the right size is believed to be the right one.

        Returns:
            Those that were lacking, whoever fetched them: nobody has verified them.

        Raises:
            InputError: a file is gone from the store.
        """
        lacking, before = {}, {}
        for name, entry in files.items():
            before[name] = _state(self.folder / name)
            if not _is_there(self.folder / name, entry, sized=name in sized):
                lacking[name] = entry
        if lacking:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _alone(self.folder):
                for name in lacking:
                    # Another one's file has come meanwhile.
                    if _state(self.folder / name) in (None, before[name]):
                        self._fetch(name)
        return lacking

    def _fetch(self, name: str) -> None:
        fs, path = storage.filesystem(self.uri)
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = target.with_name(f"{target.name}.{uuid.uuid4().hex[:8]}")
        try:
            fs.get_file(f"{path}/{name}", str(partial))
        except FileNotFoundError:
            raise gone(f"{self.uri}/{name}", self.field_name) from None
        partial.replace(target)


def require_there(uri: str, files: Mapping[str, Any], field_name: str) -> None:
    """Looks for a remote bundle's files in the store's listing; fetches none.

    Whoever may read and not list, or whose listing has no sizes, learns of it when a file is
    fetched.

    Args:
        uri: the bundle's place.
        files: size and sha256 by name.
        field_name: the setting, for errors.

    Raises:
        InputError: a file is gone, or its size isn't the one that the bundle says.
    """
    fs, path = storage.filesystem(uri)
    fs.invalidate_cache()
    try:
        listed = fs.find(path, detail=True)
    except (PermissionError, NotImplementedError):
        return
    for name, entry in files.items():
        found = listed.get(f"{path}/{name}")
        if found is None:
            raise gone(f"{uri}/{name}", field_name)
        if found.get("size") not in (None, entry["bytes"]):
            raise InputError(
                f"{field_name}: {uri}/{name}: is damaged: {found['size']} bytes, where the bundle "
                f"says {entry['bytes']}; fit again, or restore the bundle"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process of this machine fetches; whoever is killed waits for nobody.

    On a disk without locks all fetch side by side, as each writes files of its own at first.
    """
    with folder.with_name(f"{folder.name}.lock").open("wb") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _state(path: Path) -> tuple[int, int] | None:
    """What tells that a file was put in its place anew; None: there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _is_there(path: Path, entry: Mapping[str, Any], *, sized: bool) -> bool:
    if not path.is_file() or path.stat().st_size != entry["bytes"]:
        return False
    return sized or file_digest(path) == entry["sha256"]


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gone(uri: str, field_name: str) -> InputError:
    """What to tell of a file that a bundle lacks."""
    return InputError(f"{field_name}: {uri}: is gone; fit again, or restore the bundle")
