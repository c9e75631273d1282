"""Settings of evaluating policies."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.config.sections import RayConfig, RunId, S3Config, Section
from pipeline.config.watching import NotifyConfig

_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
_Role = Literal["fit", "normal_calibration", "validation", "test", "none"]


class HoldoutConfig(Section):
    """Which rows choose a policy of a sweep, and which judge it."""

    by: Literal["auto", "group", "role", "none"] = "auto"
    """By role, by a hash of the group (of the image, where it has none), or not at all: then every
    figure of a sweep is in-sample and says so. auto: by role, if there are rows of both sides."""
    share: float = Field(default=0.5, gt=0, lt=1)
    """By group: the share of the groups that chooses."""
    tuning: tuple[_Role, ...] = ("validation",)
    """By role: roles that choose."""
    judging: tuple[_Role, ...] = ("test",)
    """By role: roles that judge."""
    seed: int = Field(default=0, ge=0)
    """By group: another seed, another half."""


class EvaluateConfig(Section):
    """Settings of jobs/evaluate.py."""

    store: str
    """The store; results go to <store>/reports/<name>/."""
    name: str = Field(default="evaluation", pattern=_ID)
    """The report's name; an older one of that name is replaced."""
    run_id: tuple[RunId, ...] = ()
    """Published runs of one scorer, such as run_id=[monday,tuesday]."""
    table: str | None = None
    """Instead of runs: a Parquet file with scores, or a folder of them."""
    columns: dict[str, str] = Field(default={})
    """With table: names of columns by meaning, such as columns.is_defect=label."""
    labels: str | None = None
    """Labels that people gave, such as <store>/labels, where the app adds them: the latest one of
    an image counts instead of the table's own; unsure: nobody knows. Joined by image_id."""
    policies: tuple[str, ...] = ()
    """Policy files, or folders of them."""
    bundle: str = "latest"
    """Whose thresholds.json gives references such as anomaly_score.safe their numbers: its folder,
    digest, or latest; read only where a policy asks."""
    thresholds: tuple[str, ...] = ()
    """JSON files of your own thresholds: name to number, or to category to number."""
    roles: tuple[str, ...] | None = None
    """Rows that are judged, none standing for rows without a role; empty: test and none, which is
    all but those that trained a model or chose a threshold (fit, normal_calibration, validation).
    With columns.role= the names that your own column has."""
    scores: tuple[str, ...] | None = None
    """Scores whose AUROC and average precision are given; empty: those of the policies."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of all intervals."""
    mistakes: int = Field(default=200, ge=0)
    """False positives and false negatives listed per policy, nearest to a threshold first."""
    sweep: str | None = None
    """A sweep file: policies by template, and how to choose among them."""
    guarantee: str | None = None
    """With a sweep: what the chosen policy must be certified for, such as fnr<=0.01@0.95."""
    holdout: HoldoutConfig = HoldoutConfig()
    """With a sweep: choosing and judging on different rows."""
    champion: str | None = None
    """Name of a policy that all others are compared with, image by image."""
    decide: str | None = None
    """Name of a policy: its decision and reason for every image go to decisions.parquet."""
    explain: str | None = None
    """An image_id or uri: why each policy decides it so; nothing is written."""
    keep_cells: bool = False
    """Keep what was counted of each run in <store>/cells: with the same thresholds and groups,
    later evaluations read that instead of its rows."""
    cluster: bool = False
    """Count where the tables lie: on a Ray cluster, a file per task. On one machine slower."""
    s3: S3Config = S3Config()
    """How a store in S3 is reached."""
    ray: RayConfig = RayConfig()
    """With cluster: which."""
    memory_mb: int = Field(default=1024, ge=16)
    """Memory for counting."""
    html: bool = True
    """Write report.html."""
    thumbnails: bool = True
    """Show false negatives and false positives in report.html, where they can be read."""
    seed: int = Field(default=0, ge=0)
    """Of bootstrap intervals."""
    notify: NotifyConfig = NotifyConfig()
    """Who is told at the end."""

    @field_validator("run_id", "policies", "thresholds", "scores", "roles", mode="before")
    @classmethod
    def _one_alone(cls, value: object) -> object:
        """`run_id=monday` is a list of one."""
        return (value,) if isinstance(value, str) else value

    @field_validator("run_id", mode="before")
    @classmethod
    def _no_joined_names(cls, value: object) -> object:
        """Runs' names have no commas."""
        if isinstance(value, str) and "," in value:
            raise ValueError(f"is no run's name; several are run_id=[{value}]")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> EvaluateConfig:
        if bool(self.run_id) == (self.table is not None):
            raise ValueError(
                "give run_id= (published runs) or table= (a Parquet file), one of both"
            )
        if not self.policies and self.sweep is None:
            raise ValueError("give policies= (files or folders), sweep= (a sweep file), or both")
        if self.explain is not None and not self.policies:
            raise ValueError("explain= says why policies decide as they do: give policies= too")
        if self.labels is not None and self.keep_cells:
            raise ValueError(
                "keep_cells= keeps counts of a run's own labels, and labels= gives it others: "
                "leave one of them out"
            )
        if self.guarantee is not None and self.sweep is None:
            raise ValueError("guarantee= certifies what a sweep chose: give sweep= too")
        return self
