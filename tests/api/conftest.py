"""A store with a calibrated bundle and a published run, made without models or Ray."""

from __future__ import annotations

import pytest

from pipeline.api import Run, load_run
from pipeline.config import CalibrateConfig
from pipeline.scoring.calibrate import run_calibrate
from tests.scoring.runs import FIT_IDS, image_rows, make_bundle, make_run, usual_rows

ERROR = {"error_type": "not_found", "error_message": "gone"}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Run `r`: two categories with every role, and one image that could not be scored."""
    place = str(tmp_path_factory.mktemp("api") / "store")
    bundle = make_bundle(place, {"gaussians": FIT_IDS, "classifier": [], "detector": []})
    rows = usual_rows() + image_rows(6000, 8, "test", False)
    make_run(place, bundle, rows, [image_rows(9000, 1, "test", True)[0] | ERROR])
    run_calibrate(CalibrateConfig(run_id="r", store=place))
    return place


@pytest.fixture
def run(store: str) -> Run:
    return load_run(store)
