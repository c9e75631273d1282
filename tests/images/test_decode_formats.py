"""Every kind of file a line delivers, built here and decoded to the pixels it was built from."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from pipeline.images.decode import DecodedImage, decode

Pixels = npt.NDArray[np.uint8]

HEIGHT, WIDTH = 20, 30
rng = np.random.default_rng(7)
COLOUR: Pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY: Pixels = COLOUR[..., 0].copy()
GREY16 = rng.integers(0, 65_536, (HEIGHT, WIDTH), dtype=np.uint16)
COLOUR16 = rng.integers(0, 65_536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
ALPHA: Pixels = rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
FLAT: Pixels = np.broadcast_to(np.array([200, 90, 30], np.uint8), (HEIGHT, WIDTH, 3)).copy()


def encoded(image: Image.Image, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def by_opencv(extension: str, pixels: npt.NDArray[Any]) -> bytes:
    """Pillow can't write 16-bit colour; OpenCV can (and wants BGR)."""
    ok, data = cv2.imencode(extension, pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    assert ok
    return bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits: int, colour_type: int, rows: list[bytes]) -> bytes:
    """A PNG of the depths that Pillow doesn't write, filter 0 on every row."""
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def three(grey: npt.NDArray[Any]) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def palette_image() -> tuple[Image.Image, Pixels]:
    """64 random colours, so that GIF keeps the indices and their order doesn't matter."""
    colours = rng.integers(0, 256, (64, 3), dtype=np.uint8)
    indices = rng.integers(0, 64, (HEIGHT, WIDTH), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    return image, colours[indices]


GREY16_HIGH = three(GREY16 >> 8)
HIGH_BYTES = (COLOUR16 >> 8).astype(np.uint8)
RGB_IMAGE = Image.fromarray(COLOUR)
L_IMAGE = Image.fromarray(GREY)
BITS = GREY > 127
BIT_IMAGE = Image.fromarray(BITS)
P_IMAGE, P_COLOURS = palette_image()
LA_IMAGE = Image.merge("LA", (L_IMAGE, Image.fromarray(ALPHA)))
RGBA_IMAGE = Image.merge("RGBA", (*RGB_IMAGE.split(), Image.fromarray(ALPHA)))
CMYK_IMAGE = RGB_IMAGE.convert("CMYK")
I_IMAGE = Image.fromarray(GREY16.astype(np.int32))

LA16_ROWS = [np.stack([grey, grey[::-1]], axis=-1).astype(">u2").tobytes() for grey in GREY16]
FOUR_BITS = GREY >> 4
FOUR_BIT_ROWS = [((row[0::2] << 4) | row[1::2]).tobytes() for row in FOUR_BITS]

# name: file, expected pixels (exact), format, Pillow's mode
LOSSLESS: dict[str, tuple[bytes, Pixels, str, str]] = {
    "png grey": (encoded(L_IMAGE, "PNG"), three(GREY), "PNG", "L"),
    "png colour": (encoded(RGB_IMAGE, "PNG"), COLOUR, "PNG", "RGB"),
    "png 1 bit": (encoded(BIT_IMAGE, "PNG"), three(BITS * 255), "PNG", "1"),
    "png 4 bit grey": (png(4, 0, FOUR_BIT_ROWS), three(FOUR_BITS * 17), "PNG", "L"),
    "png 16 bit grey": (by_opencv(".png", GREY16), GREY16_HIGH, "PNG", "I;16"),
    "png 16 bit colour": (by_opencv(".png", COLOUR16), HIGH_BYTES, "PNG", "RGB"),
    "png 16 bit grey and alpha": (png(16, 4, LA16_ROWS), GREY16_HIGH, "PNG", "RGBA"),
    "png palette": (encoded(P_IMAGE, "PNG"), P_COLOURS, "PNG", "P"),
    "png palette, one clear": (encoded(P_IMAGE, "PNG", transparency=3), P_COLOURS, "PNG", "P"),
    "png palette, alphas": (
        encoded(P_IMAGE, "PNG", transparency=bytes(range(64))), P_COLOURS, "PNG", "P",
    ),
    "png grey, one clear": (encoded(L_IMAGE, "PNG", transparency=9), three(GREY), "PNG", "L"),
    "png grey and alpha": (encoded(LA_IMAGE, "PNG"), three(GREY), "PNG", "LA"),
    "png colour and alpha": (encoded(RGBA_IMAGE, "PNG"), COLOUR, "PNG", "RGBA"),
    "bmp grey": (encoded(L_IMAGE, "BMP"), three(GREY), "BMP", "L"),
    "bmp colour": (encoded(RGB_IMAGE, "BMP"), COLOUR, "BMP", "RGB"),
    "bmp colour and alpha": (encoded(RGBA_IMAGE, "BMP"), COLOUR, "BMP", "RGB"),
    "bmp palette": (encoded(P_IMAGE, "BMP"), P_COLOURS, "BMP", "P"),
    "bmp 1 bit": (encoded(BIT_IMAGE, "BMP"), three(BITS * 255), "BMP", "1"),
    "tiff grey": (encoded(L_IMAGE, "TIFF"), three(GREY), "TIFF", "L"),
    "tiff colour, lzw": (encoded(RGB_IMAGE, "TIFF", compression="tiff_lzw"), COLOUR, "TIFF", "RGB"),
    "tiff colour, deflate": (
        encoded(RGB_IMAGE, "TIFF", compression="tiff_adobe_deflate"), COLOUR, "TIFF", "RGB",
    ),
    "tiff big": (encoded(RGB_IMAGE, "TIFF", big_tiff=True), COLOUR, "TIFF", "RGB"),
    "tiff 1 bit, fax": (
        encoded(BIT_IMAGE, "TIFF", compression="group4"), three(BITS * 255), "TIFF", "1",
    ),
    "tiff palette": (encoded(P_IMAGE, "TIFF"), P_COLOURS, "TIFF", "P"),
    "tiff palette, lzw": (encoded(P_IMAGE, "TIFF", compression="tiff_lzw"), P_COLOURS, "TIFF", "P"),
    "tiff grey and alpha": (encoded(LA_IMAGE, "TIFF"), three(GREY), "TIFF", "LA"),
    "tiff colour and alpha": (encoded(RGBA_IMAGE, "TIFF"), COLOUR, "TIFF", "RGBA"),
    "tiff 16 bit grey": (encoded(Image.fromarray(GREY16), "TIFF"), GREY16_HIGH, "TIFF", "I;16"),
    "tiff 16 bit grey, big-endian": (
        encoded(Image.fromarray(GREY16.astype(">u2")), "TIFF"), GREY16_HIGH, "TIFF", "I;16B",
    ),
    "tiff 16 bit grey, lzw": (by_opencv(".tiff", GREY16), GREY16_HIGH, "TIFF", "I;16"),
    "tiff 16 bit colour": (
        by_opencv(".tiff", COLOUR16), HIGH_BYTES, "TIFF", "RGB",
    ),
    "tiff 32 bit within 16": (encoded(I_IMAGE, "TIFF"), GREY16_HIGH, "TIFF", "I"),
    "webp colour": (encoded(RGB_IMAGE, "WEBP", lossless=True), COLOUR, "WEBP", "RGB"),
    "webp colour and alpha": (
        encoded(RGBA_IMAGE, "WEBP", lossless=True, exact=True), COLOUR, "WEBP", "RGBA",
    ),
    "gif grey": (encoded(L_IMAGE, "GIF"), three(GREY), "GIF", "P"),
    "gif palette": (encoded(P_IMAGE, "GIF"), P_COLOURS, "GIF", "P"),
    "gif palette, one clear": (encoded(P_IMAGE, "GIF", transparency=3), P_COLOURS, "GIF", "P"),
    "ppm colour": (encoded(RGB_IMAGE, "PPM"), COLOUR, "PPM", "RGB"),
    "pgm grey": (encoded(L_IMAGE, "PPM"), three(GREY), "PPM", "L"),
    "pgm 16 bit grey": (encoded(I_IMAGE, "PPM"), GREY16_HIGH, "PPM", "I"),
    "pbm 1 bit": (encoded(BIT_IMAGE, "PPM"), three(BITS * 255), "PPM", "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.filterwarnings("error")
def test_a_lossless_file_gives_the_pixels_it_was_built_from(name: str) -> None:
    data, expected, fmt, mode = LOSSLESS[name]
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.format, image.mode) == (fmt, mode)
    assert_sound(image)


def assert_sound(image: DecodedImage) -> None:
    assert image.pixels.shape == (image.height, image.width, 3)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable  # torch.from_numpy warns about anything else


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"keep_rgb": True}),
        ("WEBP", {}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_a_lossy_file_gives_what_pillow_reads_and_about_the_original(
    fmt: str, options: dict[str, Any]
) -> None:
    smooth = cv2.GaussianBlur(COLOUR, (0, 0), 4)
    data = encoded(Image.fromarray(smooth), fmt, quality=95, **options)
    image = decode(data)
    np.testing.assert_array_equal(
        image.pixels, np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    )
    assert np.abs(image.pixels.astype(int) - smooth).max() < 24
    assert image.format == fmt
    assert_sound(image)


def test_an_adobe_cmyk_jpeg_is_not_inverted() -> None:
    data = encoded(Image.fromarray(FLAT).convert("CMYK"), "JPEG", quality=100)
    image = decode(data)
    assert np.abs(image.pixels.astype(int) - FLAT).max() <= 3
    assert (image.format, image.mode) == ("JPEG", "CMYK")


def test_a_ycck_jpeg_gives_the_colour_behind_its_transform() -> None:
    # The inks as YCbCr and an inverted black. Pillow writes only untransformed CMYK, so the planes
    # are put in by hand and the Adobe marker is patched to say "YCCK" (2).
    inks = ImageOps.invert(Image.fromarray(FLAT)).convert("YCbCr").split()
    no_black = Image.new("L", (WIDTH, HEIGHT), 255)
    stored = Image.merge("CMYK", [ImageOps.invert(plane) for plane in (*inks, no_black)])
    data = bytearray(encoded(stored, "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    image = decode(bytes(data))
    by_libjpeg_in_opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(image.pixels.astype(int) - by_libjpeg_in_opencv).max() <= 2
    assert np.abs(image.pixels.astype(int) - FLAT).max() <= 4
    assert image.mode == "CMYK"


def test_cmyk_tiff_is_converted_without_a_profile() -> None:
    image = decode(encoded(CMYK_IMAGE, "TIFF"))
    np.testing.assert_array_equal(image.pixels, np.array(CMYK_IMAGE.convert("RGB")))
    assert image.mode == "CMYK"


def test_premultiplied_grey_is_undone() -> None:
    grey, alpha = Image.new("L", (WIDTH, HEIGHT), 45), Image.new("L", (WIDTH, HEIGHT), 128)
    data = encoded(Image.merge("LA", (grey, alpha)), "TIFF")
    extra_samples = struct.pack("<HHI", 338, 3, 1)  # 2: straight alpha, 1: premultiplied
    assert extra_samples + b"\2" in data
    image = decode(data.replace(extra_samples + b"\2", extra_samples + b"\1"))
    assert image.mode == "La"
    assert np.abs(image.pixels.astype(int) - 90).max() <= 1


def test_a_phone_jpeg_with_a_second_picture_gives_the_first() -> None:
    first, second = Image.fromarray(FLAT), Image.new("RGB", (WIDTH, HEIGHT))
    image = decode(encoded(first, "MPO", save_all=True, append_images=[second], quality=100))
    assert np.abs(image.pixels.astype(int) - FLAT).max() <= 3
    assert image.format == "JPEG"


def test_an_apng_of_one_frame_is_a_picture() -> None:
    data = bytearray(
        encoded(RGB_IMAGE, "PNG", save_all=True, append_images=[L_IMAGE.convert("RGB")])
    )
    control = data.index(b"acTL")
    data[control + 4 : control + 8] = struct.pack(">I", 1)
    data[control + 12 : control + 16] = struct.pack(">I", zlib.crc32(data[control : control + 12]))
    np.testing.assert_array_equal(decode(bytes(data)).pixels, COLOUR)


ORIENTED: dict[str, Callable[[Image.Image, Image.Exif], bytes]] = {
    "PNG": lambda image, exif: encoded(image, "PNG", exif=exif),
    "PNG 16 bit": lambda image, exif: encoded(Image.fromarray(GREY16), "PNG", exif=exif),
    "JPEG": lambda image, exif: encoded(image, "JPEG", exif=exif),
    "TIFF": lambda image, exif: encoded(image, "TIFF", exif=exif),
    "TIFF lzw": lambda image, exif: encoded(image, "TIFF", exif=exif, compression="tiff_lzw"),
    "WEBP": lambda image, exif: encoded(image, "WEBP", exif=exif, lossless=True),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ORIENTED)
def test_every_exif_orientation_is_turned_upright(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = ORIENTED[name](RGB_IMAGE, exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected = np.array(upright)
    if expected.ndim == 2:
        expected = three(expected >> 8)  # the 16-bit file
    image = decode(data)
    np.testing.assert_array_equal(image.pixels, expected)
    assert (image.width, image.height) == ((WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH))
    assert_sound(image)


def test_orientation_6_means_that_the_first_stored_row_is_the_right_edge() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encoded(RGB_IMAGE, "PNG", exif=exif))
    np.testing.assert_array_equal(image.pixels[:, -1], COLOUR[0])


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_outside_the_standard_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(RGB_IMAGE, "PNG", exif=exif)).pixels, COLOUR)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage, no TIFF header", b"Exif\0\0II", b"II*\0\xff\xff\xff\xff"]
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_does_not_cost_the_image(exif: bytes) -> None:
    np.testing.assert_array_equal(decode(encoded(RGB_IMAGE, "PNG", exif=exif)).pixels, COLOUR)
