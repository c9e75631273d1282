"""From a URI to the arrays that the models take; a failure is a value with its reason."""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipeline.errors import InputError, RunError
from pipeline.images.decode import DecodedImage, DecodeLimits, ImageError, decode
from pipeline.images.facts import ImageFacts, image_facts
from pipeline.images.geometry import letterbox, resize_square
from pipeline.tables import storage
from pipeline.tables.patience import StoreAwayError, StoreBrokenError
from pipeline.tables.store_errors import no_access

if TYPE_CHECKING:  # every worker opens this module, and none needs the configs
    from pipeline.config import LimitsConfig

# An uncompressed RGB image of the largest size that is decoded has 600 MB.
MAX_BYTES = 1_000_000_000
# Reads of a remote store that a task has in flight, and bytes that they may bring: a whole block,
# so that one slow answer does not make others wait for their turn.
READS_IN_FLIGHT = 32
_BYTES_IN_FLIGHT = 256 * 1024**2
T = TypeVar("T")
# Waits between tries grow from this, in seconds, with jitter, so that workers that were
# refused together don't come back together.
_FIRST_WAIT_S = 0.5
# Failures of a file system that another try can't mend.
_FINAL = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    storage.FileTooLargeError,
    storage.NotAFileError,
    InputError,
    RunError,
)


@dataclass(frozen=True)
class PrepareOptions:
    """What is made of each image.

    Attributes:
        limits: what is refused.
        attempts: tries to read a file.
        max_bytes: largest file that is read.
        square: side of the resized square, px; None: not made.
        letterboxed: side of the letterboxed square, px; None: not made.
        verify: compare the content with the sha256 that is expected.
        facts: measure light, contrast and focus.
    """

    limits: DecodeLimits
    attempts: int = 3
    max_bytes: int = MAX_BYTES
    square: int | None = None
    letterboxed: int | None = None
    verify: bool = True
    facts: bool = False


def options_for(
    limits: LimitsConfig, square: int | None = None, letterboxed: int | None = None
) -> PrepareOptions:
    """Options under a job's limits, with the sides in px of what is made of each image."""
    sizes = DecodeLimits(limits.max_pixels, limits.min_side)
    return PrepareOptions(sizes, limits.fetch_attempts, limits.max_bytes, square, letterboxed)


@dataclass(frozen=True)
class Prepared:
    """One image, ready for the models.

    Attributes:
        width: px, after EXIF rotation.
        height: px, after EXIF rotation.
        format: file format by content.
        square: (S, S, 3) uint8 or None.
        letterboxed: (L, L, 3) uint8 or None.
        facts: of the whole image, or None.
    """

    width: int
    height: int
    format: str
    square: np.ndarray | None
    letterboxed: np.ndarray | None
    facts: ImageFacts | None = None


@dataclass(frozen=True)
class Failure:
    """Why an image can't be scored."""

    error_type: str
    message: str


def prepare(uri: str, sha256: str | None, options: PrepareOptions) -> Prepared | Failure:
    """Reads, checks, decodes and resizes one image; never raises for what the image is."""
    return prepare_content(uri, fetch(uri, options.attempts, options.max_bytes), sha256, options)


def prepare_content(
    uri: str, content: bytes | Failure, sha256: str | None, options: PrepareOptions
) -> Prepared | Failure:
    """The same of a file that was read, or could not be."""
    image = _decoded(uri, content, sha256, options)
    return image if isinstance(image, Failure) else _resized(image, options)


def read_image(uri: str, sha256: str | None, options: PrepareOptions) -> DecodedImage | Failure:
    """Reads, checks and decodes one image; never raises for what the image is."""
    return _decoded(uri, fetch(uri, options.attempts, options.max_bytes), sha256, options)


def _decoded(
    uri: str, content: bytes | Failure, sha256: str | None, options: PrepareOptions
) -> DecodedImage | Failure:
    if isinstance(content, Failure):
        return content
    if options.verify and sha256 is not None:
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            return Failure(
                "content_changed",
                f"{uri}: its sha256 is {found[:12]}…, the manifest says {sha256[:12]}…; "
                "index again",
            )
    try:
        return decode(content, options.limits)
    except ImageError as error:
        return Failure(error.error_type, f"{uri}: {error}")


def prepare_pixels(image: DecodedImage, options: PrepareOptions) -> Prepared | Failure:
    """The same of an image that is in memory already."""
    smallest, pixels = min(image.width, image.height), image.width * image.height
    if smallest < options.limits.min_side:
        least = options.limits.min_side
        return Failure("too_small", f"its shorter side has {smallest} px; it needs {least}")
    if pixels > options.limits.max_pixels:
        most = options.limits.max_pixels
        return Failure("too_large", f"it has {pixels} pixels, beyond limits.max_pixels={most}")
    return _resized(image, options)


def _resized(image: DecodedImage, options: PrepareOptions) -> Prepared:
    return Prepared(
        image.width,
        image.height,
        image.format,
        resize_square(image.pixels, options.square) if options.square else None,
        letterbox(image.pixels, options.letterboxed) if options.letterboxed else None,
        image_facts(image.pixels) if options.facts else None,
    )


def each_in_flight(
    read: Callable[[str], T], uris: Sequence[str], most: int = READS_IN_FLIGHT
) -> Iterator[T]:
    """Results of a read for each URI, in order; of a remote store up to `most` ahead."""
    if not any(storage.is_remote(uri) for uri in uris):
        yield from map(read, uris)
        return
    with ThreadPoolExecutor(most) as pool:
        ahead: deque[Future[T]] = deque()
        for uri in uris:
            ahead.append(pool.submit(read, uri))
            if len(ahead) >= most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def reads_ahead(sizes: Iterable[int | None]) -> int:
    """How many files of these sizes, in bytes, may be held while the first is decoded."""
    largest = max((size for size in sizes if size), default=1)
    return max(1, min(READS_IN_FLIGHT, _BYTES_IN_FLIGHT // largest))


def fetch(uri: str, attempts: int, max_bytes: int = MAX_BYTES) -> bytes | Failure:
    """A file's content, or why it can't be had.

    A store in S3 is waited for by its client. Of other places, what may pass (time-outs, resets)
    is tried again.
    """
    for attempt in range(1, attempts + 1):
        try:
            return storage.read_at_most(uri, max_bytes)
        except _FINAL as error:
            return _failure(uri, error)
        except Exception as error:  # noqa: BLE001 - the per-image border; the reason is kept
            if access := no_access(error):
                raise InputError(f"{uri}: on this worker: {access}") from None
            if attempt == attempts:
                return _failure(uri, error, attempts)
            time.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311
    raise AssertionError("attempts is at least 1")


def _failure(uri: str, error: Exception, attempts: int = 1) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("not_found", f"{uri}: there is no such file")
    if isinstance(error, PermissionError):
        return Failure("permission_denied", f"{uri}: access denied; check the rights of the user")
    if isinstance(error, storage.FileTooLargeError):
        return Failure("too_large", f"{uri}: {error}, beyond limits.max_bytes; raise it, or cut it")
    if isinstance(error, storage.NotAFileError | IsADirectoryError):
        return Failure("not_a_file", f"{uri}: {error}; take it out of the manifest")
    if isinstance(error, StoreBrokenError):
        return Failure("broken_body", str(error))
    if isinstance(error, StoreAwayError):
        return Failure("read_error", str(error))
    tries = f" after {attempts} tries" if attempts > 1 else ""
    return Failure("read_error", f"{uri}: can't be read{tries}: {type(error).__name__}: {error}")
