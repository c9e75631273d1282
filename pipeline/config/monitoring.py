"""Settings of watching runs for drift."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from pipeline.config.sections import RunId, S3Config, Section
from pipeline.config.watching import NotifyConfig

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class DriftLimitsConfig(Section):
    """How large a change has to be, beside being more than chance."""

    psi_watch: float = Field(default=0.1, gt=0)
    """Population stability index, less what chance gives, from which a measure is watched; a shift
    by d standard deviations gives about d²."""
    psi_drift: float = Field(default=0.25, gt=0)
    """The same from which it has drifted: a shift by half a standard deviation."""
    fact_change: float = Field(default=0.05, ge=0)
    """A fact of the images has drifted only if its mean changed by this share of itself: a lamp
    that is held to a thousandth shows changes that no score sees."""
    rate_watch: float = Field(default=1.25, gt=1)
    """Factor by which a share of flagged or failed images rises or falls to be watched."""
    rate_drift: float = Field(default=2.0, gt=1)
    """Factor by which it has drifted."""

    @model_validator(mode="after")
    def _ordered(self) -> DriftLimitsConfig:
        if self.psi_drift < self.psi_watch or self.rate_drift < self.rate_watch:
            raise ValueError("a measure is watched before it has drifted: *_watch is the smaller")
        return self


class MonitorConfig(Section):
    """Settings of jobs/monitor.py."""

    store: str
    """The store; results go to <store>/reports/<name>/."""
    run_id: RunId | None = None
    """The published run that is looked at."""
    reference: RunId | None = None
    """The published run that it is compared with."""
    frozen: str | None = Field(default=None, pattern=_ID)
    """Instead: the name of a reference that was frozen, whose run need not exist any more."""
    freeze: str | None = Field(default=None, pattern=_ID)
    """Keep what is needed of reference= in <store>/references/<freeze>.parquet."""
    name: str | None = Field(default=None, pattern=_ID)
    """The report's name; an older one of that name is replaced. Empty: drift-<run_id>."""
    roles: tuple[str, ...] | None = None
    """Rows of both runs that are compared, none standing for rows without a role; empty: all but
    fit, whose distances are smaller because the Gaussians know them."""
    good_only: bool = False
    """Leave out rows that are labelled as defects: for a reference with more of them than a line
    has. Rows without a label stay."""
    scores: tuple[str, ...] | None = None
    """Score columns; empty: anomaly_score, defect_logit, detection_max_confidence and
    detection_count, as far as there are any, and what the policies read."""
    policies: tuple[str, ...] = ()
    """Files, or folders, of the policies in use: their flagged rates are compared."""
    bundle: str = "latest"
    """Whose thresholds.json gives references such as anomaly_score.safe their numbers: its folder,
    digest, or latest; read only where a policy asks."""
    thresholds: tuple[str, ...] = ()
    """JSON files of your own thresholds: name to number, or to category to number."""
    near: float = Field(default=0.1, gt=0)
    """Scores this near to a threshold are counted, in standard deviations of the reference."""
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """How often a run without any change may raise an alarm, over all its comparisons together."""
    min_images: int = Field(default=30, ge=2)
    """A category with fewer independent images in one of both runs is not compared."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the intervals of rates."""
    limits: DriftLimitsConfig = DriftLimitsConfig()
    """How large a change has to be."""
    html: bool = True
    """Write report.html."""

    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    notify: NotifyConfig = NotifyConfig()
    """Who is told at the end; what is told says the verdict."""

    @field_validator("policies", "thresholds", "scores", "roles", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        """`policies=FILE` is a list of one."""
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_reference(self) -> MonitorConfig:
        if (self.reference is None) == (self.frozen is None):
            raise ValueError("give reference= (a published run) or frozen= (a name), one of both")
        if self.freeze is not None and self.reference is None:
            raise ValueError("freeze= keeps what is needed of a run: give reference= too")
        if self.run_id is None and self.freeze is None:
            raise ValueError("give run_id= (the run that is looked at), freeze=, or both")
        if self.run_id is not None and self.run_id == self.reference:
            raise ValueError(f"reference= is run_id= itself, {self.run_id!r}: name another run")
        return self
