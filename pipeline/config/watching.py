"""Settings of what a run tells while it lasts and at its end: hooks, and its page."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.sections import RunId, S3Config, Section


class HookConfig(Section):
    """Who is told; a command, a webhook, or both."""

    command: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Program and arguments, such as [python, alert.py]; no shell; gets the notice on stdin."""
    webhook_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the environment variable that holds the URL to POST the notice to: https, or http
    to this machine. The URL itself stands in no config, since it is mostly a secret."""


class NotifyConfig(Section):
    """What is told at the job's end; a hook that fails is a warning, never a failed job."""

    on_success: HookConfig = HookConfig()
    """When the work is done."""
    on_failure: HookConfig = HookConfig()
    """When it failed: bad input, a failed run, a crash, an interruption; not a SIGKILL."""
    on_drift: HookConfig = HookConfig()
    """When jobs/monitor.py found drift; empty: on_failure is told of it."""
    on_no_verdict: HookConfig = HookConfig()
    """When jobs/monitor.py or jobs/evaluate.py had too few images to say anything; empty:
    on_success is told of it."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Seconds that a command, or one try of a webhook, may take."""
    attempts: int = Field(default=3, ge=1, le=10)
    """Tries of a webhook that doesn't answer, is throttled or fails by itself."""


class ReportConfig(Section):
    """Settings of jobs/report.py."""

    run_id: RunId
    """A published run of jobs/score.py."""
    store: str
    """The store with the run; the page is written to <store>/runs/<run id>/report.html."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
