"""A decoder with a bug: PNG files whose text says so kill the process that decodes them, or hang.

Python imports this module by its name when the folder is on PYTHONPATH.
"""

import ctypes
import os
import time
from typing import Any

from PIL.PngImagePlugin import PngImageFile

DEADLY_TEXT = "kills"
_load = PngImageFile.load


def load(image: PngImageFile) -> Any:
    manner = image.info.get(DEADLY_TEXT)
    if manner == "segfault":
        ctypes.string_at(0)
    if manner == "hang":
        time.sleep(3600)
    if manner == "exit":
        os._exit(3)
    return _load(image)


PngImageFile.load = load
