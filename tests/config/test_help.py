"""Every config file loads, and every job tells its settings without loading what is heavy."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from jobs.cli import verbs
from pipeline.config import (
    AppConfig,
    CalibrateConfig,
    DemoConfig,
    EvaluateConfig,
    ExportDetectionConfig,
    FitConfig,
    IndexConfig,
    MonitorConfig,
    ReportConfig,
    RunsConfig,
    ScoreConfig,
    Section,
    SplitConfig,
    TrainClassifierConfig,
    TrainDetectorConfig,
    load,
    parse,
)

ROOT = Path(__file__).parents[2]
MODELS: dict[str, type[Section]] = {
    "app": AppConfig,
    "index": IndexConfig,
    "fit": FitConfig,
    "score": ScoreConfig,
    "calibrate": CalibrateConfig,
    "evaluate": EvaluateConfig,
    "monitor": MonitorConfig,
    "split": SplitConfig,
    "train_classifier": TrainClassifierConfig,
    "demo": DemoConfig,
    "export_detection": ExportDetectionConfig,
    "train_detector": TrainDetectorConfig,
    "report": ReportConfig,
    "runs": RunsConfig,
}
# Policies, the dashboard, the manifests for Kubernetes and the night's script have tests of their
# own.
OTHERS = {"grafana", "policies", "kuberay", "nightly.sh"}
FILES = sorted(file for file in (ROOT / "configs").glob("*") if file.name not in OTHERS)
# What only the work needs: each takes longer to load than the rest of a --help together.
HEAVY = {"torch", "torchvision", "ray", "ultralytics", "cv2", "pandas", "pyarrow", "scipy", "numpy"}


def settings(model: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of a model by its dotted key; sections are followed, not named."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *typing.get_args(field.annotation))
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
        if inner:
            yield from settings(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_in_configs_loads_with_the_model_of_its_name(file: Path) -> None:
    assert file.suffix == ".yaml"
    assert load(MODELS[file.stem], str(file)) is not None


@pytest.mark.parametrize("job", MODELS)
def test_every_setting_has_a_description(job: str) -> None:
    described = dict(settings(MODELS[job]))
    assert len(described) > 1
    assert [key for key, field in described.items() if not field.description] == []


@pytest.mark.parametrize("job", MODELS)
def test_help_names_every_setting_and_loads_nothing_heavy(job: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", f"jobs/{job}.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for key, field in settings(MODELS[job]):
        assert f"\n  {key} (" in done.stdout
        assert str(field.description) in done.stdout
    loaded = {
        line.rsplit("|", 1)[-1].strip().split(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "pydantic" in loaded  # the list is that of the job, not of an early end
    assert loaded & HEAVY == set()


def help_text(model: type[Section], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(model, "What it does.", ["--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_tells_defaults_and_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(FitConfig, capsys)
    assert "What it does." in text
    assert "\n  manifest (required)\n" in text
    assert "\n  backbone.grids (default (4, 8))\n" in text
    assert "\n  run_id (default None)\n" in text


def test_help_does_not_require_what_belongs_to_an_optional_section(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_text(FitConfig, capsys)
    assert "\n  detector.weights (required where there is a detector)\n" in text
    assert re.findall(r"^  (\S+) \(required\)$", text, re.M) == ["manifest", "store"]


def linescore(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_console_command_has_the_jobs_as_verbs(tmp_path: Path) -> None:
    assert set(verbs()) == set(MODELS)
    listed = linescore()
    assert listed.returncode == 0
    assert all(f"\n  {name} " in listed.stdout for name in MODELS)
    assert "\n  max_unreachable (" in linescore("score", "--help").stdout
    refused = linescore("score", f"--config={tmp_path}/none.yaml")
    assert refused.returncode == 2
    assert "no such file" in refused.stderr


def test_a_verb_that_is_none(tmp_path: Path) -> None:
    done = linescore("scores")
    assert done.returncode == 2
    assert "error: scores: no such verb" in done.stderr
    assert "Traceback" not in done.stderr
