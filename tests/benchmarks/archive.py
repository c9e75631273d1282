"""Archives to measure on: textured pictures in the formats of cameras, all different."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

# One file: its ending, and how it is encoded.
FORMATS: dict[str, tuple[str, list[int]]] = {
    "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 3]),
    "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 92]),
}


def picture(seed: int, side: int, *, grey: bool) -> np.ndarray:
    """(side, side, 3) or (side, side) uint8: structure at every scale, and a camera's noise."""
    rng = np.random.default_rng(seed)
    channels = 1 if grey else 3
    total = np.zeros((side, side, channels), np.float32)
    size = 4
    while size <= side:
        noise = rng.normal(size=(size, size, channels)).astype(np.float32) / np.sqrt(size)
        grown = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        total += grown.reshape(side, side, channels)
        size *= 4
    pixels = 128 + 60 * total + rng.normal(0, 2, total.shape)
    return pixels.clip(0, 255).astype(np.uint8).squeeze()


def encoded(seed: int, side: int, kind: str, *, grey: bool) -> bytes:
    """A picture as a file's content."""
    ending, options = FORMATS[kind]
    done, content = cv2.imencode(ending, picture(seed, side, grey=grey), options)
    assert done
    return content.tobytes()


def write_pictures(folder: Path, count: int, side: int, kind: str = "jpeg") -> None:
    """An archive of one category in the MVTec AD layout; each file differs by its last bytes.

    A few pictures are drawn and each is written many times with a comment of its own: drawing
    takes longer than what is measured.
    """
    ending, _ = FORMATS[kind]
    drawn = [encoded(seed, side, kind, grey=False) for seed in range(16)]
    for number in range(count):
        place = folder / "part" / ("train/good" if number % 4 else "test/good")
        place.mkdir(parents=True, exist_ok=True)
        content = with_comment(drawn[number % len(drawn)], f"{number}".encode(), kind)
        (place / f"{number:06d}{ending}").write_bytes(content)


def with_comment(content: bytes, comment: bytes, kind: str) -> bytes:
    """The same picture with a comment in its file, so that its digest is its own."""
    if kind == "jpeg":
        segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
        return content[:2] + segment + content[2:]
    import zlib

    body = b"tEXt" + b"n\x00" + comment
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return content[:-12] + chunk + content[-12:]
