"""What every job's settings share: the base of all sections, the cluster, pools and limits."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipeline.tables.access import checked_endpoint

Layer = Literal["layer1", "layer2", "layer3", "layer4"]


# A run's id is part of the names of files and keys: the longest that still leaves room for
# their endings on every file system (255 bytes).
_ID_LENGTH = 100
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _run_id(value: str) -> str:
    if _ID.fullmatch(value) is None or len(value) > _ID_LENGTH:
        raise ValueError(
            "a run id has letters, digits, '.', '_' and '-' only, begins with a letter or digit, "
            f"and is at most {_ID_LENGTH} characters long"
        )
    return value


# The name of a run: one that can't lead out of the run's own folder.
RunId = Annotated[str, AfterValidator(_run_id)]


class Section(BaseModel):
    """A part of a config: frozen, described field by field; unknown keys, inf and nan refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a setting of this type holds; None: it holds none."""
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


class RayConfig(Section):
    """Which Ray cluster does the work."""

    address: str | None = None
    """Address of a running cluster; empty: the job's own cluster, else a local one is started."""
    num_cpus: int | None = Field(default=None, ge=1)
    """Logical CPUs of a local Ray; empty: those of the machine, at least 2."""
    min_cpus: int | None = Field(default=None, ge=1)
    """CPUs that a cluster which grows must have before the pools are sized: its autoscaler is asked
    for them. Empty: what is there counts."""
    min_gpus: int | None = Field(default=None, ge=1)
    """The same of GPUs."""
    startup_wait_s: float = Field(default=900.0, ge=0)
    """Seconds to wait for min_cpus and min_gpus."""
    resource_wait_s: float = Field(default=15.0, ge=0)
    """Seconds to wait for CPUs and GPUs that other jobs hold before giving up."""


class S3Config(Section):
    """How a store in S3 is reached; keys come from the environment, a profile or a role."""

    endpoint_url: Annotated[str, AfterValidator(checked_endpoint)] | None = None
    """Address of a store that isn't Amazon's, such as http://minio:9000; empty: AWS_ENDPOINT_URL,
    else Amazon's."""
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$")
    """Region of the bucket; empty: AWS_REGION or AWS_DEFAULT_REGION, else the profile's."""
    profile: str | None = None
    """Profile of ~/.aws on every node; empty: AWS_PROFILE, else keys or the instance role."""
    retry_s: float = Field(default=150.0, ge=0, le=86400)
    """Seconds that a store may be away, or throttle, before the job gives up."""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    """Seconds for a connection."""
    read_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds between two packets of an answer."""


class PoolConfig(Section):
    """One actor pool."""

    size: int | None = Field(default=None, ge=1)
    """Actors in the pool; empty: from the CPUs and GPUs there are."""
    num_cpus: float | None = Field(default=None, gt=0)
    """Logical CPUs an actor reserves; empty: an equal share that leaves one for reading."""
    num_gpus: float | None = Field(default=None, ge=0)
    """Fraction of a GPU an actor reserves; empty: an equal share of the GPUs there are."""
    threads: int = Field(default=1, ge=1)
    """Threads of the arithmetic in one actor; fixed, so that scores don't depend on the machine."""


class LimitsConfig(Section):
    """What an image may be before it goes to the errors table."""

    max_pixels: int = Field(default=200_000_000, ge=1)
    """Largest width × height that is decoded."""
    max_bytes: int = Field(default=1_000_000_000, ge=1)
    """Largest file that is read: an uncompressed RGB image of 200 million pixels has 600 MB."""
    min_side: int = Field(default=16, ge=1)
    """Shortest side in pixels that is scored."""
    fetch_attempts: int = Field(default=3, ge=1)
    """Tries to read a file when the failure can pass (throttling, time-outs)."""
