"""Checks of arrays at the border of the package; every message carries the value found."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]


def require_float64(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `array` is float64 of exactly `shape`."""
    if array.shape != shape or array.dtype != np.float64:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, needs float64 {shape}")


def require_groups(name: str, array: npt.NDArray[Any]) -> tuple[int, int]:
    """Return (G groups, D features) of `array`, or raise ValueError if it has another shape."""
    if array.ndim != 2 or min(array.shape) < 1:
        raise ValueError(f"{name} has shape {array.shape}, needs (groups >= 1, features >= 1)")
    return array.shape[0], array.shape[1]


def require_features(features: Features, groups: tuple[int, int]) -> None:
    """Raise ValueError unless `features` (N, G, D) is finite and (G, D) equals `groups`."""
    if features.ndim != 3 or features.shape[1:] != groups:
        wanted = ("N images", *groups)
        raise ValueError(f"features have shape {features.shape}, need {wanted}")
    finite = np.isfinite(features)
    if not finite.all():
        row, group, feature = np.argwhere(~finite)[0].tolist()
        raise ValueError(
            f"row {row} of {len(features)}: feature {feature} of group {group} is "
            f"{features[row, group, feature]}; drop the image, features must be finite"
        )


def centred(features: Features, group: int, centre: Array, out: Array | None = None) -> Array:
    """Features of one group less `centre` (D,), as a row-major float64 (N, D): fresh, or `out`.

    The fixed layout keeps the bits of later products independent of how `features` is stored.
    """
    return np.subtract(features[:, group, :], centre, out=out, dtype=np.float64, order="C")
