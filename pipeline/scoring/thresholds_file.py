"""`thresholds.json`: its name, its digest, and whether a file is what its bundle says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

THRESHOLDS_FILE = "thresholds.json"
THRESHOLDS_VERSION = "1"
# Not covered by the digest: the same calibration at another time is the same.
_UNCOVERED = ("digest", "calibrated_at")


def canonical_digest(value: Any) -> str:
    """sha256 of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def sealed(content: Mapping[str, Any], calibrated_at: str) -> dict[str, Any]:
    """The content with its version, its digest and the time, in the order that people read."""
    body = {"schema_version": THRESHOLDS_VERSION} | dict(content)
    head = {
        "schema_version": THRESHOLDS_VERSION,
        "digest": canonical_digest(body),
        "calibrated_at": calibrated_at,
    }
    return head | body


def check_thresholds(file: Path, digest: str, field: str) -> None:
    """Refuses thresholds that are not those of the bundle.

    Raises:
        InputError: no file, another version, or a digest that isn't that of the content.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{field}: {file}: is gone; restore the bundle, or calibrate again"
        ) from None
    except OSError as error:
        raise InputError(f"{field}: {file}: can't be read: {error.strerror}") from None
    try:
        content = json.loads(data)
        version = content["schema_version"]
        body = {name: value for name, value in content.items() if name not in _UNCOVERED}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{field}: {file}: is no table of thresholds ({error}); calibrate again"
        ) from None
    if version != THRESHOLDS_VERSION:
        raise InputError(
            f"{field}: {file}: has version {version!r}; this linescore reads "
            f"{THRESHOLDS_VERSION!r}: calibrate again"
        )
    if not canonical_digest(body) == content.get("digest") == digest:
        raise InputError(
            f"{field}: {file}: was changed: its digest doesn't match it; calibrate again"
        )
