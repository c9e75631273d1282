"""Typed settings of every job, from YAML and the command line; imports nothing heavy."""

from pipeline.config.archive import (
    DefectSharesConfig,
    GoodSharesConfig,
    IndexConfig,
    NearDuplicatesConfig,
    SplitConfig,
)
from pipeline.config.command_line import parse
from pipeline.config.demo import DemoConfig
from pipeline.config.evaluation import EvaluateConfig, HoldoutConfig
from pipeline.config.housekeeping import RunsConfig, parse_runs
from pipeline.config.inspection import AppConfig
from pipeline.config.monitoring import DriftLimitsConfig, MonitorConfig
from pipeline.config.reading import checked, load
from pipeline.config.scoring import (
    BackboneConfig,
    CalibrateConfig,
    ClassifierConfig,
    CostConfig,
    DetectorConfig,
    FitConfig,
    PoolsConfig,
    ScoreColumn,
    ScoreConfig,
    StagesConfig,
)
from pipeline.config.sections import Layer, LimitsConfig, PoolConfig, RayConfig, S3Config, Section
from pipeline.config.training import (
    BoxesConfig,
    ClassifierAugmentationConfig,
    DetectorAugmentationConfig,
    ExportDetectionConfig,
    TrainClassifierConfig,
    TrainDetectorConfig,
)
from pipeline.config.watching import HookConfig, NotifyConfig, ReportConfig

__all__ = [
    "AppConfig",
    "BackboneConfig",
    "BoxesConfig",
    "CalibrateConfig",
    "ClassifierAugmentationConfig",
    "ClassifierConfig",
    "CostConfig",
    "DefectSharesConfig",
    "DemoConfig",
    "DetectorAugmentationConfig",
    "DetectorConfig",
    "DriftLimitsConfig",
    "EvaluateConfig",
    "ExportDetectionConfig",
    "FitConfig",
    "GoodSharesConfig",
    "HoldoutConfig",
    "HookConfig",
    "IndexConfig",
    "Layer",
    "LimitsConfig",
    "MonitorConfig",
    "NearDuplicatesConfig",
    "NotifyConfig",
    "PoolConfig",
    "PoolsConfig",
    "RayConfig",
    "ReportConfig",
    "RunsConfig",
    "S3Config",
    "ScoreColumn",
    "ScoreConfig",
    "Section",
    "SplitConfig",
    "StagesConfig",
    "TrainClassifierConfig",
    "TrainDetectorConfig",
    "checked",
    "load",
    "parse",
    "parse_runs",
]
