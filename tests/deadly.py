"""Images that kill the process which decodes them, where tests/deadly_decoder is on its path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

DECODER = Path(__file__).parent / "deadly_decoder"


def deadly_png(path: Path, manner: str) -> Path:
    """Writes one; `manner` is segfault, exit or hang."""
    text = PngInfo()
    text.add_text("kills", manner)
    pixels = np.full((64, 64, 3), len(manner), np.uint8)
    Image.fromarray(pixels).save(path, pnginfo=text)
    return path
