"""Settings of the inspection app."""

from __future__ import annotations

from pydantic import Field, field_validator

from pipeline.config.sections import LimitsConfig, S3Config, Section


class AppConfig(Section):
    """Settings of jobs/app.py."""

    store: str
    """The store with the runs, a folder or s3:// prefix."""
    policies: tuple[str, ...] = ("configs/policies/linescore",)
    """Policy files, or folders of them."""
    thresholds: tuple[str, ...] = ()
    """JSON files of your own thresholds: name to number, or to category to number."""
    bundle: str | None = None
    """Whose thresholds policies refer to, and what uploads are scored with: its folder, digest, or
    latest; empty: the bundle that the chosen run was scored with, and for thresholds, where that
    has none, the last one that was calibrated around the same scorer."""
    port: int = Field(default=8501, ge=1, le=65535)
    """Port to listen on."""
    address: str = "127.0.0.1"
    """Address to listen on; this machine alone unless another one is given. The app asks nobody
    who they are: beyond loopback, put a proxy with a login before it."""
    allow_labels: bool = False
    """Let people label images: labels are added to <store>/labels, nothing is ever changed there.
    Without, the app writes nothing at all."""
    allow_uploads: bool = False
    """Let people score images of their own with a bundle, in the app's process."""
    max_upload_mb: int = Field(default=32, ge=1, le=1024)
    """Largest file that is taken for an upload, in MB."""
    max_uploads: int = Field(default=64, ge=1, le=1000)
    """Files that are scored at once."""
    limits: LimitsConfig = LimitsConfig()
    """What is refused of images, shown or uploaded."""
    cache_mb: int = Field(default=128, ge=8)
    """Memory for thumbnails, in MB."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""

    @field_validator("policies", "thresholds", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        """`policies=night.json` is a list of one."""
        return (value,) if isinstance(value, str) else value
