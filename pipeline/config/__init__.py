"""Typed settings of every job, from YAML and the command line; imports nothing heavy."""

from pipeline.config.archive import (
    DefectSharesConfig,
    GoodSharesConfig,
    IndexConfig,
    NearDuplicatesConfig,
    SplitConfig,
)
from pipeline.config.demo import DemoConfig
from pipeline.config.evaluation import EvaluateConfig, HoldoutConfig
from pipeline.config.housekeeping import RunsConfig, parse_runs
from pipeline.config.reading import load, parse
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
from pipeline.config.sections import Layer, LimitsConfig, PoolConfig, RayConfig, Section
from pipeline.config.training import (
    BoxesConfig,
    ClassifierAugmentationConfig,
    DetectorAugmentationConfig,
    ExportDetectionConfig,
    TrainClassifierConfig,
    TrainDetectorConfig,
)

__all__ = [
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
    "EvaluateConfig",
    "ExportDetectionConfig",
    "FitConfig",
    "GoodSharesConfig",
    "HoldoutConfig",
    "IndexConfig",
    "Layer",
    "LimitsConfig",
    "NearDuplicatesConfig",
    "PoolConfig",
    "PoolsConfig",
    "RayConfig",
    "RunsConfig",
    "ScoreColumn",
    "ScoreConfig",
    "Section",
    "SplitConfig",
    "StagesConfig",
    "TrainClassifierConfig",
    "TrainDetectorConfig",
    "load",
    "parse",
    "parse_runs",
]
