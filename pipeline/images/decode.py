"""Bytes of an image file to RGB pixels; nothing about the file is believed.

What Pillow itself lets pass is passed on: damage inside a JPEG that still ends properly, and a
PNG whose writer stored fewer rows than its header says.
"""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, IMAGELENGTH, IMAGEWIDTH, TiffImageFile
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as PHOTOMETRIC
from PIL.WebPImagePlugin import WebPImageFile

# fmt: off
ErrorType = Literal[
    "empty_file", "not_an_image", "truncated", "decode_failed",
    "too_large", "too_small", "animated", "unsupported_pixels",
]
# fmt: on
ERROR_TYPES: tuple[ErrorType, ...] = get_args(ErrorType)

# A 16k line-scan camera over 12,000 lines still passes. Decoding peaks at 10 bytes a pixel for RGB
# (14 with alpha), so 2.8 GB at this limit: Pillow keeps 4, its copy out and the array 3 each.
MAX_PIXELS = 200_000_000
# Below this a side is an icon or a placeholder, not a picture of a part; the backbone's stride
# of 32 would have stretched it out of nothing.
MIN_SIDE = 16

# Recognised by content, as strictly as the format allows: two letters of a text file ("BM", "P5")
# don't make it a broken image. Nothing outside this list is tried.
_PLUGINS: tuple[tuple[re.Pattern[bytes], type[ImageFile]], ...] = tuple(
    (re.compile(signature, re.DOTALL), plugin)
    for signature, plugin in (
        (rb"\x89PNG\r\n\x1a\n", PngImageFile),
        # The class, not Pillow's factory, which turns a phone's JPEG with an embedded preview
        # into a multi-picture MPO: the first picture is the one every viewer shows.
        (rb"\xff\xd8\xff", JpegImageFile),
        (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", BmpImageFile),
        (rb"II[*+]\0|MM\0[*+]", TiffImageFile),
        (rb"RIFF.{4}WEBP", WebPImageFile),
        (rb"GIF8[79]a", GifImageFile),
        (rb"P[1-6f]\s+[#\d]", PpmImageFile),
    )
)

# Eight bits a channel; Pillow converts each to RGB by itself, an alpha channel is dropped and the
# colour under it kept as stored. Premultiplied ones go through the straight one first.
_EIGHT_BIT_MODES = frozenset({"1", "P", "PA", "LA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}

_UINT16_MAX = 65_535
_BLACK_IS_ZERO = 1  # TIFF 6.0, PhotometricInterpretation

# EXIF 2.32, tag 274: what undoes each orientation, on (H, W, 3).
_UPRIGHT: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p.swapaxes(0, 1)[:, ::-1],
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p.swapaxes(0, 1)[::-1],
}

# The marker EOI (ITU-T T.81, B.1.1.3).
_JPEG_END = b"\xff\xd9"
# A marker within a scan's data, other than the restarts that belong there.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# How Pillow and Python word a file that ends too early ("cannot load this image": no pixel data
# was reached at all; "chunk b''": a PNG stops between two chunks).
_ENDS_EARLY = re.compile(
    r"truncated|EOF|not enough image data|requires a buffer|out of range|cannot load this image"
    r"|chunk b''",
    re.IGNORECASE,
)


class ImageError(Exception):
    """One image that can't be used: `error_type` for tables, the message for people."""

    def __init__(self, error_type: ErrorType, message: str) -> None:
        # Both go to Exception, or the error could not be unpickled on the other side of Ray.
        super().__init__(error_type, message)
        self.error_type = error_type
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class DecodeLimits:
    """Sizes outside which an image is refused, in pixels of the file's header."""

    max_pixels: int = MAX_PIXELS
    min_side: int = MIN_SIDE


@dataclass(frozen=True)
class DecodedImage:
    """An upright RGB image; `pixels` is (H, W, 3) uint8, C-contiguous and writable.

    `width` and `height` are those of `pixels`; `format` ("PNG") and `mode` ("I;16") are what the
    content said, in Pillow's terms.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    mode: str


DEFAULT_LIMITS = DecodeLimits()


def decode(data: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> DecodedImage:
    """Decodes a whole image file; 16-bit grey keeps its high byte, alpha is dropped.

    Raises:
        ImageError: for every file that can't be used, and nothing else for any bytes.
    """
    plugin = _plugin_for(data)
    try:
        return _decode(plugin, data, limits)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            "too_large",
            f"the {plugin.format} file is beyond what Pillow allocates for this format: {error} "
            "Cut the image into tiles or save it as PNG",
        ) from error
    # The per-image border: on hostile bytes Pillow raises a dozen unrelated types (OSError,
    # SyntaxError, struct.error, zlib.error, MemoryError, ...), and one file must not end a run.
    except Exception as error:
        raise _unreadable(plugin, data, error) from error


def _plugin_for(data: bytes) -> type[ImageFile]:
    """Picks Pillow's class for the content.

    `Image.open` is left out on purpose. Its bomb check compares with a global of the process and
    warns below our limit; ultralytics replaces it by a version that runs pip when a file is no
    image; and it reports a known format with a damaged header as no image.
    """
    if not data:
        raise ImageError("empty_file", "the file has 0 bytes: fetch or export it again")
    for signature, plugin in _PLUGINS:
        if signature.match(data):
            return plugin
    known = ", ".join(str(plugin.format) for _, plugin in _PLUGINS)
    raise ImageError(
        "not_an_image",
        f"the first bytes {data[:8]!r} are of none of the formats {known}: "
        "convert the file or take it out of the manifest",
    )


def _decode(plugin: type[ImageFile], data: bytes, limits: DecodeLimits) -> DecodedImage:
    image = plugin(io.BytesIO(data))  # reads the header only
    _check_header(image, limits)
    mode = image.mode
    if isinstance(image, TiffImageFile):
        # Given its memory, the TIFF plugin skips its own bomb check (global limit, warning). GIF
        # (a frame beyond its canvas) and WebP keep theirs: `decode` maps it to too_large.
        size = (image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH])
        image.im = Image.new(mode, size).im
    found = _fast_jpeg(image, data) if isinstance(image, JpegImageFile) else None
    if found is None:
        image.load()
        found = _rgb(image)
    pixels = np.ascontiguousarray(_UPRIGHT[_orientation(image)](found))
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, width, height, str(image.format), mode)


def _fast_jpeg(image: JpegImageFile, data: bytes) -> NDArray[np.uint8] | None:
    """(H, W, 3) by OpenCV, two thirds of Pillow's time; None: Pillow has to look at the file.

    Both call libjpeg-turbo and give the same pixels. But OpenCV says nothing of a file that ends
    too early or whose scan is damaged, so that one which may be is left to Pillow.
    """
    grey = image.mode == "L"
    if not (grey or image.mode == "RGB") or not _ends_with_its_scan(image, data):
        return None
    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB
    content = np.frombuffer(data, np.uint8)
    # The orientation is undone for all formats alike, later.
    try:
        pixels = cv2.imdecode(content, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # beyond its own limits
        return None
    if pixels is None or pixels.shape[:2] != (image.height, image.width):
        return None
    return np.stack([pixels] * 3, axis=-1) if grey else np.asarray(pixels, np.uint8)


def _ends_with_its_scan(image: JpegImageFile, data: bytes) -> bool:
    """Whether the file's end marker is there, and the first marker behind a baseline scan.

    A marker within the scan is what an overwritten sector, or a file that was begun twice, leaves.
    """
    if data[-2:] != _JPEG_END:
        return False
    if "progressive" in image.info:  # has many scans
        return True
    if image.fp is None:
        return False
    found = _JPEG_MARKER.search(data, image.fp.tell())
    return found is not None and found.start() == len(data) - 2


def _check_header(image: ImageFile, limits: DecodeLimits) -> None:
    """Refuses by what the header says, before a single pixel is decoded."""
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_large",
            f"{width} × {height} = {width * height} pixels, the limit is {limits.max_pixels}: "
            "cut the image into tiles, or raise max_pixels if the memory is there",
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            "too_small",
            f"{width} × {height} pixels, the shorter side must have at least {limits.min_side}: "
            "take thumbnails and placeholders out of the manifest, or lower min_side",
        )
    if getattr(image, "is_animated", False):
        raise ImageError(
            "animated",
            f"the {image.format} file holds more than 1 frame or page, the limit is 1: "
            "save each as a file of its own",
        )


def _rgb(image: ImageFile) -> NDArray[np.uint8]:
    """(H, W, 3) from a loaded image of any mode; raises ImageError for pixels beyond 16 bits."""
    mode = image.mode
    if mode == "RGB":
        return np.array(image)
    if mode == "L":
        return np.stack([np.asarray(image)] * 3, axis=-1)  # ten times as fast as by Pillow
    if mode.startswith("I"):
        return np.stack([_high_byte(image)] * 3, axis=-1)
    if mode in _EIGHT_BIT_MODES:
        image.info.pop("transparency", None)  # alpha is dropped; converting it would only warn
        straight = image.convert(_STRAIGHT_ALPHA[mode]) if mode in _STRAIGHT_ALPHA else image
        return np.array(straight.convert("RGB"))
    raise ImageError(
        "unsupported_pixels",
        f"pixels of mode {mode} have no fixed range to scale to 8 bits: "
        "save the image as 8- or 16-bit grey or RGB",
    )


def _high_byte(image: ImageFile) -> NDArray[np.uint8]:
    """High byte of 16-bit grey, (H, W), for the modes "I;16*" and "I" (Pillow's 32-bit integers).

    "I" is taken as 16-bit when every value fits, which is how Pillow reads 16-bit PGM.
    """
    if isinstance(image, TiffImageFile) and image.mode == "I;16":
        _check_tiff_grey(image)
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > _UINT16_MAX:
        raise ImageError(
            "unsupported_pixels",
            f"pixels of mode {image.mode} go from {low} to {high}, the limit is 0 to "
            f"{_UINT16_MAX}: save the image as 8- or 16-bit",
        )
    return (values >> 8).astype(np.uint8)


def _check_tiff_grey(image: TiffImageFile) -> None:
    """Refuses what Pillow hands over unscaled or uninverted as if it were plain 16-bit grey."""
    bits = image.tag_v2.get(BITSPERSAMPLE)
    photometric = image.tag_v2.get(PHOTOMETRIC)
    if bits != (16,) or photometric != _BLACK_IS_ZERO:
        raise ImageError(
            "unsupported_pixels",
            f"TIFF grey with BitsPerSample {bits} and PhotometricInterpretation {photometric}, "
            f"supported above 8 bits are (16,) and {_BLACK_IS_ZERO}: save it as 16-bit "
            "BlackIsZero",
        )


def _orientation(image: ImageFile) -> int:
    """EXIF orientation of a loaded image, 1 (upright) where there is none to be read.

    Pillow has already turned a TIFF upright and removed its tag. Damaged EXIF doesn't cost the
    image: no viewer turns it either.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, OSError, struct.error):
        return 1
    return value if value in _UPRIGHT else 1


def _unreadable(plugin: type[ImageFile], data: bytes, error: Exception) -> ImageError:
    """Wraps Pillow's reason, telling a file that ends too early from one that is damaged."""
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    promised = _promised_bytes(plugin, data)
    missing = len(data) < promised
    if missing or _ENDS_EARLY.search(reason):
        needed = f" where its header promises {promised}" if missing else ""
        return ImageError(
            "truncated",
            f"the {plugin.format} file ends too early, after {len(data)} bytes{needed} ({reason}): "
            "fetch or export it again",
        )
    return ImageError(
        "decode_failed",
        f"the {plugin.format} file of {len(data)} bytes can't be decoded ({reason}): "
        "export it again",
    )


def _promised_bytes(plugin: type[ImageFile], data: bytes) -> int:
    """Bytes the header says there are, for the formats where Pillow's reason doesn't tell."""
    if plugin is WebPImageFile:
        return int.from_bytes(data[4:8], "little") + 8  # the RIFF size leaves out its own 8 bytes
    if plugin is TiffImageFile and data[2:4] in (b"*\0", b"\0*"):
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        return int.from_bytes(data[4:8], order)  # where the directory starts, often at the end
    return 0
