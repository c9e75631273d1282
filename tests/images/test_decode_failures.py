"""Every file that can't be used ends as an ImageError that says what, which value, which limit."""

import io
import pickle
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.images.decode import ERROR_TYPES, DecodeLimits, ImageError, decode

WIDTH, HEIGHT = 40, 24
NOISE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
IMAGE = Image.fromarray(NOISE)
GREY16 = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)
INTEGERS = GREY16.astype(np.int32)
FLOATS = Image.fromarray(GREY16.astype(np.float32))
FORMATS = ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM"]


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int, *extra: bytes) -> bytes:
    """A 1-bit PNG whose header claims a size, with one row of pixels behind it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(width // 8 + 2)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + chunk(b"IEND", b"")


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def animation(fmt: str) -> bytes:
    other = Image.fromarray(255 - NOISE)
    return encoded(IMAGE, fmt, save_all=True, append_images=[other, IMAGE])


def riff_cut() -> bytes:
    return encoded(IMAGE, "WEBP")[:-20]


def tiff_without_directory() -> bytes:
    """libtiff writes the directory last, so a cut file has lost it."""
    return encoded(IMAGE, "TIFF", compression="tiff_lzw")[:-400]


def tiff_tag(tag: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, 1, value)


def tiff_16_bit_with(tag: int, old: int, new: int) -> bytes:
    data = encoded(Image.fromarray(GREY16), "TIFF")
    return patched(data, tiff_tag(tag, 3, old), tiff_tag(tag, 3, new))


TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 * 1024 * 1024)))

# name: file, error type, what the message must quote
REFUSED: dict[str, tuple[Callable[[], bytes], str, list[str]]] = {
    "nothing": (lambda: b"", "empty_file", ["0 bytes"]),
    "text": (lambda: b"uri,category\n", "not_an_image", ["uri,cate", "PNG, JPEG, BMP, TIFF"]),
    "text like BMP": (lambda: b"BMW, line 3, shift 2, camera 4\n", "not_an_image", ["BMW"]),
    "text like PPM": (lambda: b"P5 is the press\n", "not_an_image", ["P5 is"]),
    "html": (lambda: b"<!DOCTYPE html><p>404</p>", "not_an_image", ["<!DOC"]),
    "zeros": (lambda: bytes(5_000), "not_an_image", [r"\x00"]),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_an_image", ["%!PS"]),
    "icon": (lambda: encoded(IMAGE, "ICO"), "not_an_image", [r"\x00\x00\x01"]),
    "png cut": (lambda: encoded(IMAGE, "PNG")[:-900], "truncated", ["image file is truncated"]),
    "png signature only": (lambda: b"\x89PNG\r\n\x1a\n", "truncated", ["after 8 bytes"]),
    "jpeg cut": (lambda: encoded(IMAGE, "JPEG")[:-50], "truncated", ["image file is truncated"]),
    "jpeg header cut": (lambda: encoded(IMAGE, "JPEG")[:300], "truncated", ["after 300 bytes"]),
    "bmp cut": (lambda: encoded(IMAGE, "BMP")[:1000], "truncated", ["after 1000 bytes"]),
    "gif cut": (lambda: encoded(IMAGE, "GIF")[:-90], "truncated", ["image file is truncated"]),
    "ppm cut": (lambda: encoded(IMAGE, "PPM")[:500], "truncated", ["after 500 bytes"]),
    "webp cut": (riff_cut, "truncated", ["header promises"]),
    "tiff cut": (lambda: encoded(IMAGE, "TIFF")[:-90], "truncated", ["image file is truncated"]),
    "tiff directory lost": (tiff_without_directory, "truncated", ["header promises"]),
    "png bad checksum": (
        lambda: patched(encoded(IMAGE, "PNG"), b"IHDR\0", b"IHDR\1"),
        "decode_failed", ["SyntaxError", "bad header checksum"],
    ),
    "png text bomb": (
        lambda: png_claiming(40, 40, TEXT_BOMB), "decode_failed", ["Decompressed data too large"],
    ),
    "webp broken": (
        lambda: patched(encoded(IMAGE, "WEBP"), b"\x9d\x01\x2a", b"\x9d\x01\x2b"),
        "decode_failed", ["OSError"],
    ),
    "tiff without width": (
        lambda: patched(encoded(IMAGE, "TIFF"), tiff_tag(256, 4, WIDTH), tiff_tag(255, 4, WIDTH)),
        "decode_failed", ["Missing dimensions"],
    ),
    "png bomb": (
        lambda: png_claiming(60_000, 60_000), "too_large",
        ["60000 × 60000", "3600000000", "200000000", "max_pixels"],
    ),
    "one pixel": (
        lambda: encoded(IMAGE.resize((1, 1)), "PNG"), "too_small", ["1 × 1", "16", "min_side"],
    ),
    "a line": (lambda: encoded(IMAGE.resize((500, 15)), "JPEG"), "too_small", ["500 × 15", "16"]),
    "gif animation": (lambda: animation("GIF"), "animated", ["GIF", "more than 1", "limit is 1"]),
    "webp animation": (lambda: animation("WEBP"), "animated", ["WEBP", "more than 1"]),
    "apng": (lambda: animation("PNG"), "animated", ["PNG", "more than 1"]),
    "tiff pages": (lambda: animation("TIFF"), "animated", ["TIFF", "page"]),
    "tiff float": (lambda: encoded(FLOATS, "TIFF"), "unsupported_pixels", ["mode F"]),
    "pfm float": (lambda: encoded(FLOATS, "PPM"), "unsupported_pixels", ["mode F"]),
    "tiff 32 bit": (
        lambda: encoded(Image.fromarray(INTEGERS * 70), "TIFF"),
        "unsupported_pixels", ["mode I", "from 0 to 67130", "0 to 65535"],
    ),
    "tiff signed": (
        lambda: encoded(Image.fromarray(INTEGERS - 5), "TIFF"),
        "unsupported_pixels", ["from -5 to 954", "0 to 65535"],
    ),
    "tiff lab": (lambda: encoded(IMAGE.convert("LAB"), "TIFF"), "unsupported_pixels", ["mode LAB"]),
    # Pillow hands both over as "I;16": the one neither scaled, the other not inverted.
    "tiff 12 bit": (
        lambda: tiff_16_bit_with(258, 16, 12),
        "unsupported_pixels", ["BitsPerSample (12,)", "(16,)"],
    ),
    "tiff white is zero": (
        lambda: tiff_16_bit_with(262, 1, 0), "unsupported_pixels", ["PhotometricInterpretation 0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:Truncated File Read", "ignore:Corrupt EXIF")
def test_a_refusal_has_its_type_and_quotes_value_and_limit(name: str) -> None:
    build, error_type, quoted = REFUSED[name]
    with pytest.raises(ImageError) as refusal:
        decode(build())
    assert refusal.value.error_type == error_type
    missing = [part for part in quoted if part not in str(refusal.value)]
    assert not missing, str(refusal.value)


def test_every_error_type_is_proved_above_and_the_set_is_closed() -> None:
    assert {error_type for _, error_type, _ in REFUSED.values()} == set(ERROR_TYPES)


def test_the_limits_are_inclusive() -> None:
    data = encoded(IMAGE, "PNG")
    assert decode(data, DecodeLimits(max_pixels=WIDTH * HEIGHT, min_side=HEIGHT)).width == WIDTH
    with pytest.raises(ImageError, match="960 pixels, the limit is 959"):
        decode(data, DecodeLimits(max_pixels=WIDTH * HEIGHT - 1))
    with pytest.raises(ImageError, match="40 × 24 pixels, the shorter side must have at least 25"):
        decode(data, DecodeLimits(min_side=HEIGHT + 1))


BOMB_SCRIPT = """
import pathlib, resource, sys
from pipeline.images.decode import ImageError, decode
data = pathlib.Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(data)
except ImageError as error:
    assert error.error_type == "too_large", error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_is_refused_by_its_header_in_no_time_and_no_memory(tmp_path: Any) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_claiming(60_000, 60_000))
    start = time.perf_counter()
    with pytest.raises(ImageError):
        decode(bomb.read_bytes())
    assert time.perf_counter() - start < 0.5
    grown_kib = subprocess.run(
        [sys.executable, "-c", BOMB_SCRIPT, str(bomb)], capture_output=True, check=True, text=True
    ).stdout
    assert int(grown_kib) < 20_000  # the pixels would have been 3.6 GB


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_truncation_is_an_error_or_the_whole_image(fmt: str) -> None:
    """No file cut short may pass as another picture."""
    data = encoded(IMAGE, fmt)
    whole = decode(data).pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for length in range(0, len(data), 3):
            try:
                cut = decode(data[:length]).pixels
            except ImageError as error:
                assert error.error_type in {
                    "empty_file",
                    "not_an_image",
                    "truncated",
                    "decode_failed",
                }
            else:
                np.testing.assert_array_equal(cut, whole)


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.filterwarnings("error")
def test_pillows_global_bomb_limit_plays_no_part(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encoded(IMAGE, fmt)).width == WIDTH
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="960 pixels, the limit is 100"):
        decode(encoded(IMAGE, fmt), DecodeLimits(max_pixels=100))


def test_where_pillow_keeps_its_own_limit_it_ends_as_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="960 pixels") as refusal:
        decode(encoded(IMAGE, "WEBP"))
    assert refusal.value.error_type == "too_large"


def test_image_open_is_not_involved(monkeypatch: pytest.MonkeyPatch) -> None:
    # ultralytics replaces it by one that installs packages when a file can't be identified.
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("Image.open was called")

    monkeypatch.setattr(Image, "open", forbidden)
    assert decode(encoded(IMAGE, "PNG")).width == WIDTH
    with pytest.raises(ImageError, match="none of the formats"):
        decode(b"not an image")


def test_pillow_is_left_strict_about_truncated_files() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_an_error_survives_the_way_through_ray() -> None:
    error = ImageError("truncated", "cut after 8 bytes")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.error_type, copy.message, str(copy)) == ("truncated", error.message, str(error))


def test_threads_do_not_disturb_each_other() -> None:
    files = [
        encoded(IMAGE, fmt, **({"lossless": True} if fmt == "WEBP" else {})) for fmt in FORMATS
    ]
    alone = [decode(data).pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda data: decode(data).pixels, files * 20))
    for index, pixels in enumerate(together):
        np.testing.assert_array_equal(pixels, alone[index % len(files)])


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [16, 64, 512])
def test_a_damaged_jpeg_that_pillow_refuses_is_refused(size: int, *, progressive: bool) -> None:
    """OpenCV alone would accept most of them, with wrong rows."""
    from PIL import Image as PillowImage

    rng = np.random.default_rng(size)
    smooth = np.cumsum(rng.normal(0, 3, (160, 160, 3)), axis=0) + 128
    pixels = smooth.clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PillowImage.fromarray(pixels).save(buffer, "JPEG", quality=92, progressive=progressive)
    whole = buffer.getvalue()
    scan = whole.index(b"\xff\xda") + 14
    damaged = [whole[: len(whole) // 3] + whole]
    for _ in range(40):
        start = int(rng.integers(scan, len(whole) - size - 2))
        damaged.append(whole[:start] + rng.bytes(size) + whole[start + size :])
    refused = 0
    for content in damaged:
        try:
            wanted = np.asarray(PillowImage.open(io.BytesIO(content)).convert("RGB"))
        except OSError:
            refused += 1
            with pytest.raises(ImageError):
                decode(content)
        else:
            assert np.array_equal(decode(content).pixels, wanted)
    assert np.array_equal(decode(whole).pixels, np.asarray(PillowImage.open(buffer)))
    assert refused or progressive or size < 64
