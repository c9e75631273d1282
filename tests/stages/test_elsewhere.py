"""Whether work may be done on other machines than the driver's, which alone it can judge."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from pipeline.config import FitConfig, RayConfig
from pipeline.errors import InputError
from pipeline.models import precision
from pipeline.stages.cluster import elsewhere
from pipeline.stages.fit import run_fit
from tests.conftest import TinyModels, TinyStore, tiny_fit_config

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("address", "variable", "there"),
    [
        (None, None, False),
        ("local", None, False),
        ("10.0.0.1:6379", None, True),
        ("auto", None, True),
        (None, "10.0.0.1:6379", True),
        (None, "local", False),
    ],
)
def test_a_job_that_is_not_connected_goes_by_its_address(
    monkeypatch: pytest.MonkeyPatch, address: str | None, variable: str | None, there: bool
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert elsewhere(RayConfig(address=address)) is there


def test_a_job_that_is_connected_goes_by_its_nodes(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not elsewhere(RayConfig(address=cluster))
    nodes = ray.nodes()
    for alive in (False, True):
        another = {"Alive": alive, "NodeID": "0" * 56}
        monkeypatch.setattr(ray, "nodes", lambda another=another: [*nodes, another])
        assert elsewhere(RayConfig()) is alive


def test_a_fit_here_is_refused_before_any_work_where_the_hardware_lacks(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    config = tiny_fit_config(tiny_store.manifest, tmp_path, tiny_models)
    wanted = FitConfig.model_validate(config.model_dump() | {"precision": "bfloat16"})
    with pytest.raises(InputError, match=r"^precision: bfloat16: this machine has no hardware"):
        run_fit(wanted)
    assert list(tmp_path.iterdir()) == []
