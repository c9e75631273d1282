"""The label's print as a sheet of ink: a five-by-seven dot font, a logo and a barcode."""

from functools import lru_cache

import numpy as np

from pipeline.samples.canvas import Floats

# Seven rows of five dots, read as binary numbers; only the letters that the label needs.
GLYPHS: dict[str, tuple[int, ...]] = {
    "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 2, 4, 8, 31),
    "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    " ": (0, 0, 0, 0, 0, 0, 0),
}
# The sheet in dots: wide enough for eight large letters beside the logo.
ROWS, COLUMNS = 180, 240
# Bar and gap widths of the product's code, the same on every label.
BARS = (2, 1, 1, 3, 2, 1, 1, 1, 3, 2, 1, 2, 2, 1, 3, 1, 1, 2, 1, 3, 2, 2, 1, 1, 2, 3, 1, 1, 2, 1, 2)


@lru_cache(maxsize=64)
def sheet(lot: int) -> Floats:
    """Ink (ROWS, COLUMNS), 0 or 1, of a label with the four-digit lot number, read-only."""
    page = np.zeros((ROWS, COLUMNS), dtype=np.float32)
    _logo(page, centre=(44, 44), radius=28)
    _write(page, "LINES", top=20, left=88, dot=4)
    _write(page, "COIL 12", top=56, left=88, dot=3)
    _write(page, f"LOT {lot:04d}", top=88, left=16, dot=4)
    _barcode(page, top=126, bottom=164, left=16, unit=4)
    page.setflags(write=False)
    return page


def _write(page: Floats, text: str, *, top: int, left: int, dot: int) -> None:
    for letter in text:
        rows = [[(row >> (4 - column)) & 1 for column in range(5)] for row in GLYPHS[letter]]
        dots = np.kron(np.asarray(rows, dtype=np.float32), np.ones((dot, dot), dtype=np.float32))
        page[top : top + 7 * dot, left : left + 5 * dot] = dots
        left += 6 * dot


def _logo(page: Floats, *, centre: tuple[int, int], radius: int) -> None:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    down, right = rows - centre[0], columns - centre[1]
    distance = np.hypot(down, right)
    ring = (distance < radius) & (distance > 0.72 * radius)
    wedge = (np.abs(right) < (down + 0.5 * radius) * 0.55) & (down < 0.4 * radius)
    page[ring | wedge] = 1


def _barcode(page: Floats, *, top: int, bottom: int, left: int, unit: int) -> None:
    for number, width in enumerate(BARS):
        if number % 2 == 0:
            page[top:bottom, left : left + width * unit] = 1
        left += width * unit
