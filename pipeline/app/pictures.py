"""Pixels for the page: thumbnails that are kept for a while, and one image large with its marks."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.app.images import Box, require_allowed
from pipeline.config import LimitsConfig
from pipeline.errors import InputError
from pipeline.images.boxes import marked
from pipeline.images.thumbnail import thumbnail
from pipeline.scoring.prepare import Failure, options_for, read_image

# Pixels of the longer side in the gallery, and of one image large.
SMALL, LARGE = 192, 1280
_QUALITY = 90
# Images that are read at once: a bucket answers slowly, and decoding takes a core.
_READERS = 8
# Drawn twice, so that they stand out on any image: dark, then light and thinner.
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
_BOX_COLOUR, _MASK_COLOUR = (255, 214, 0), (0, 229, 255)

Pixels = npt.NDArray[np.uint8]


def pixels_of(uri: str, limits: LimitsConfig) -> Pixels:
    """(H, W, 3) of an image that a table names.

    Raises:
        InputError: it can't be read, or is no image.
    """
    found = read_image(require_allowed(uri), None, options_for(limits))
    if isinstance(found, Failure):
        raise InputError(f"{found.error_type}: {found.message}")
    return found.pixels


class Thumbnails:
    """Thumbnails by place, the ones that were asked for last, up to so many bytes.

    One for all sessions; may be used by several threads.
    """

    def __init__(self, limits: LimitsConfig, most_bytes: int) -> None:
        self._limits = limits
        self._most = most_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    @property
    def kept_bytes(self) -> int:
        """What is kept now."""
        return self._size

    def of(self, uris: Sequence[str]) -> dict[str, bytes | str]:
        """By uri a JPEG, or why there is none, in words."""
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(uris, pool.map(self._one, uris), strict=True))

    def _one(self, uri: str) -> bytes | str:
        with self._lock:
            if uri in self._kept:
                self._kept.move_to_end(uri)
                return self._kept[uri]
        try:
            found = thumbnail(pixels_of(uri, self._limits), SMALL)
        except InputError as error:
            return str(error)
        self._keep(uri, found)
        return found

    def _keep(self, uri: str, picture: bytes) -> None:
        with self._lock:
            if uri not in self._kept:
                self._kept[uri] = picture
                self._size += len(picture)
            while self._size > self._most:
                _, old = self._kept.popitem(last=False)
                self._size -= len(old)


def large(pixels: Pixels, boxes: Sequence[Box] = (), mask: Pixels | None = None) -> bytes:
    """A JPEG of an image with its boxes, numbered, and the outline of its mask.

    Args:
        pixels: (H, W, 3).
        boxes: in px of the image.
        mask: (H, W, 3) of the ground truth, of the image's size or scaled to it.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((LARGE, LARGE), Image.Resampling.BOX, reducing_gap=None)
    scale = (image.width / pixels.shape[1], image.height / pixels.shape[0])
    # A small image is enlarged, so that lines and numbers have room.
    times = max(1, -(-512 // max(image.size)))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    if mask is not None:
        _draw_mask(image, mask)
    _draw_boxes(image, boxes, (scale[0] * times, scale[1] * times))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _draw_mask(image: Image.Image, mask: Pixels) -> None:
    """The mask's outline, dashed: two pixels of the enlarged mask's rim."""
    inside = Image.fromarray((marked(mask, "mask") * 255).astype(np.uint8)).resize(image.size)
    flags = np.asarray(inside) > 127
    rim = flags & ~_shrunk(flags, 3)
    y, x = np.nonzero(rim)
    canvas = np.asarray(image).copy()
    dashes = (x + y) // 6 % 2 == 0
    canvas[y[dashes], x[dashes]] = _MASK_COLOUR
    canvas[y[~dashes], x[~dashes]] = _DARK
    image.paste(Image.fromarray(canvas))


def _shrunk(flags: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
    for _ in range(times):
        padded = np.pad(flags, 1)
        flags = flags & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return flags


def _draw_boxes(image: Image.Image, boxes: Sequence[Box], scale: tuple[float, float]) -> None:
    draw = ImageDraw.Draw(image)
    font: Any = ImageFont.load_default(max(14, image.width // 40))
    for number, box in enumerate(boxes, 1):
        corners = [c * scale[n % 2] for n, c in enumerate(box.corners)]
        left, right = sorted((corners[0], corners[2]))
        top, bottom = sorted((corners[1], corners[3]))
        draw.rectangle((left, top, right, bottom), outline=_DARK, width=4)
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_BOX_COLOUR, width=2)
        place = draw.textbbox((left + 6, top + 4), str(number), font=font)
        draw.rectangle((place[0] - 4, place[1] - 3, place[2] + 4, place[3] + 3), fill=_DARK)
        draw.text((left + 6, top + 4), str(number), fill=_LIGHT, font=font)


def read_mask(uri: str | None, read: Callable[[str], Pixels]) -> tuple[Pixels | None, str | None]:
    """A mask's pixels, and why there are none where it was named."""
    if uri is None:
        return None, None
    try:
        found = read(uri)
        marked(found, uri)
    except InputError as error:
        return None, str(error)
    return found, None
