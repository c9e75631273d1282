"""A store on the border, the same for all processes of a test, that notes what is fetched."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

# Variables with the file of notes, and with the name of a file whose fetch stands still.
NOTES, STUCK = "NOTES_OF_FETCHES", "STUCK_FETCH"
_FETCH_S, _STUCK_S = 0.02, 60.0


class NotedFileSystem(LocalFileSystem):
    """Files of a disk under `noted://`."""

    protocol = "noted"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("noted://")))

    def get_file(self, rpath: str, lpath: str, *_: Any, **__: Any) -> None:
        """Notes the file's name; lines of several processes don't mix."""
        name = Path(rpath).name
        with Path(os.environ[NOTES]).open("a") as file:
            file.write(f"{name}\n")
        # Others who would fetch the same are given the time to begin.
        time.sleep(_STUCK_S if name == os.environ.get(STUCK) else _FETCH_S)
        Path(lpath).write_bytes(Path(rpath).read_bytes())


fsspec.register_implementation("noted", NotedFileSystem, clobber=True)


def fetched() -> Counter[str]:
    """How often files of each name were fetched."""
    notes = Path(os.environ[NOTES])
    return Counter(notes.read_text().split()) if notes.exists() else Counter()
