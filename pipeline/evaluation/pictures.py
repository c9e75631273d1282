"""Thumbnails of the images that a report shows."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import InputError
from pipeline.images.decode import DecodeLimits
from pipeline.images.thumbnail import thumbnail
from pipeline.scoring.prepare import Failure, PrepareOptions, read_image
from pipeline.tables import storage

# A picture is tried once, and not at all beyond this size: a report is no reason to wait.
_OPTIONS = PrepareOptions(DecodeLimits(), attempts=1, max_bytes=256 << 20)


def thumbnails(uris: Sequence[str], folder: str) -> dict[str, bytes]:
    """JPEG bytes by uri; an image that can't be had is left out.

    A table may be somebody else's: only what lies on this disk, or in the report's own kind of
    store, is asked for.

    Args:
        uris: of the images.
        folder: of the report.
    """
    found: dict[str, bytes] = {}
    for uri in uris:
        if storage.is_remote(uri) and _scheme(uri) != _scheme(folder):
            continue
        try:
            image = read_image(uri, None, _OPTIONS)
        except InputError:  # no credentials for that store
            continue
        if not isinstance(image, Failure):
            found[uri] = thumbnail(image.pixels)
    return found


def _scheme(uri: str) -> str:
    return uri.partition("://")[0]
