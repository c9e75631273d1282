"""Settings of indexing and splitting an archive."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.sections import LimitsConfig, RayConfig, S3Config, Section

# Shares are added in floating point.
_SHARE_TOLERANCE = 1e-6


class IndexConfig(Section):
    """Settings of jobs/index.py."""

    source: str
    """A folder or s3:// prefix of images, or a CSV/Parquet list with a column `uri`."""
    store: str
    """The store, a folder or s3:// prefix: the manifest is <store>/manifests/<name>.parquet."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The manifest's name."""
    since: str | None = None
    """A manifest, or its name in the store, from which unchanged files are taken over with their
    roles, so that only new and changed ones are read. With the manifest's own name, the first
    night indexes everything and each later one what came since."""
    max_gone: float = Field(default=0.2, ge=0, le=1)
    """Share of the files of `since` that may be gone, beyond a handful; with more the job stops,
    as in an outage."""
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the files that are read which may be missing, denied or unreadable, beyond a
    handful; with more the job stops, as in an outage, and writes no manifest. Those that could not
    be read the time before, by `since`, don't count."""
    layout: Literal["auto", "mvtec", "folder", "list"] = "auto"
    """How the source is laid out; auto: a list by its suffix, MVTec AD by its folders."""
    category: str | None = None
    """Category of the images of a plain folder, or of list rows without one."""
    labels: str | None = None
    """Labels that people gave, such as <store>/labels, where the app adds them: the latest one of
    an image counts instead of the source's own; unsure: nobody knows."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Largest file that is read."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""


class GoodSharesConfig(Section):
    """Which part of the good images each role gets; they add up to 1."""

    fit: float = Field(default=0.55, ge=0, le=1)
    """For the Gaussians, whose covariances need many images, and for training."""
    normal_calibration: float = Field(default=0.15, ge=0, le=1)
    """For false-positive targets: at least 1/α − 1 images for a rate of α."""
    validation: float = Field(default=0.15, ge=0, le=1)
    """For choosing and certifying thresholds."""
    test: float = Field(default=0.15, ge=0, le=1)
    """Looked at once."""

    @model_validator(mode="after")
    def _whole(self) -> GoodSharesConfig:
        _require_whole(self)
        return self


class DefectSharesConfig(Section):
    """Which part of the defects each role gets; they add up to 1."""

    fit: float = Field(default=0.4, ge=0, le=1)
    """For training classifier and detector."""
    validation: float = Field(default=0.3, ge=0, le=1)
    """For choosing and certifying thresholds: 0 missed of 29 bounds the miss rate at 10 %."""
    test: float = Field(default=0.3, ge=0, le=1)
    """Looked at once."""

    @model_validator(mode="after")
    def _whole(self) -> DefectSharesConfig:
        _require_whole(self)
        return self


def _require_whole(shares: Section) -> None:
    values = shares.model_dump()
    if abs(sum(values.values()) - 1) > _SHARE_TOLERANCE:
        listed = " + ".join(f"{name} {value:g}" for name, value in values.items())
        raise ValueError(f"{listed} is {sum(values.values()):g}, and shares add up to 1")


Bits = Annotated[int, Field(ge=0, le=128)]


class NearDuplicatesConfig(Section):
    """Images of a category that are near-duplicates by content and share a group."""

    find: bool = True
    """Off: only group_id and part_pattern make groups."""
    max_distance: Bits | None = None
    """Bits of 256 in which near-duplicates may differ; empty: from each category's images."""
    by_category: dict[str, Bits] = Field(default={})
    """The same for single categories, such as {label: 12}."""
    contact_sheet: bool = True
    """Draw the pairs around the threshold, so that people can judge and move it."""


def _captures(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if not groups:
        raise ValueError(r"needs a capture group, such as part(\d+)_")
    return pattern


class SplitConfig(Section):
    """Settings of jobs/split.py."""

    manifest: str
    """A manifest, as jobs/index.py writes it."""
    store: str
    """The store: the new manifest is <store>/manifests/<name>.parquet."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The new manifest's name; reports go to <store>/reports/<name>/."""
    seed: int = Field(default=0, ge=0)
    """Another seed, another split; the same seed gives the same on every machine."""
    good: GoodSharesConfig = GoodSharesConfig()
    """Shares of the good images."""
    defects: DefectSharesConfig = DefectSharesConfig()
    """Shares of the defects."""
    train_to_test: bool = True
    """Off: no image of the folder `train` becomes `test`, nor its near-duplicates."""
    smallest_stratum: int = Field(default=5, ge=1)
    """Defect types with fewer groups are shared out together with others of the category."""
    folds: int | None = Field(default=None, ge=2, le=100)
    """Folds for cross-fitting over `fit` and `validation`; empty: none."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """How near-duplicates are found."""
    part_pattern: Annotated[str, AfterValidator(_captures)] | None = None
    """Regular expression on the file name; images of a category with equal groups are one part."""
    keep_groups: bool = True
    """Whether images that share a group_id in the manifest stay together."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused."""
    max_unreachable: float = Field(default=0.2, ge=0, le=1)
    """Share of the images whose files may be missing, denied or unreadable, beyond a handful; with
    more the job stops, as in an outage."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """The cluster."""
