"""Contact sheets: pairs of images side by side with a line of text each, for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# Pixels: of one image, of the text above a pair, between pairs, and of the frame.
TILE = 160
_TEXT, _GAP, _LINE = 28, 12, 2
_PAPER, _JOINED, _APART = (255, 255, 255), (0, 110, 40), (170, 30, 30)


@dataclass(frozen=True)
class SheetPair:
    """Two images (TILE, TILE, 3) uint8, whether they count as one, and up to two lines."""

    left: NDArray[np.uint8]
    right: NDArray[np.uint8]
    joined: bool
    lines: tuple[str, ...]


def contact_sheet(pairs: Sequence[SheetPair], columns: int) -> Image.Image:
    """The pairs in rows, in their order; joined ones are green, others red."""
    width, height = 2 * TILE + _GAP, TILE + _TEXT + _GAP
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, pair in enumerate(pairs):
        x, y = _GAP + place % columns * width, _GAP + place // columns * height
        text = "\n".join(pair.lines)
        colour = _JOINED if pair.joined else _APART
        draw.text((x, y), text, fill=colour, spacing=2)
        sheet.paste(Image.fromarray(pair.left), (x, y + _TEXT))
        sheet.paste(Image.fromarray(pair.right), (x + TILE, y + _TEXT))
        frame = (
            x - _LINE,
            y + _TEXT - _LINE,
            x + 2 * TILE + _LINE - 1,
            y + _TEXT + TILE + _LINE - 1,
        )
        draw.rectangle(frame, outline=colour, width=_LINE)
    return sheet
