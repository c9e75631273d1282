"""What a run takes from earlier runs: the same tables as if all had been computed anew."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.config import IndexConfig
from pipeline.errors import InputError
from pipeline.scoring.bundle import RECORD
from pipeline.stages.fit import run_fit
from pipeline.stages.index import run_index
from pipeline.stages.score import run_score
from pipeline.tables import storage
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import load_published, load_table
from tests.conftest import TinyModels, TinyStore, tiny_fit_config, write_archive

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

TABLES = ("scores", "detections", "errors")
ORIGINS = ["origin", "features_origin"]


def score(tiny: TinyStore, store: Path, run_id: str, **changes: Any) -> dict[str, Any]:
    return run_score(tiny.score_config(store, run_id=run_id, **changes))


def plain(store: Path, run_id: str, table: str) -> pa.Table:
    rows = load_table(str(store), run_id, table)
    return rows.drop_columns([name for name in ORIGINS if name in rows.schema.names])


def check_equal(store: Path, run_id: str, other: Path, other_id: str) -> None:
    """The tables of two runs; distances within 1e-5, all else to the last bit."""
    for table in TABLES:
        found, wanted = plain(store, run_id, table), plain(other, other_id, table)
        assert found.num_rows == wanted.num_rows, table
        for name in wanted.schema.names:
            if name.startswith("anomaly"):
                assert pc.is_valid(found[name]).equals(pc.is_valid(wanted[name])), name
                np.testing.assert_allclose(
                    found[name].to_numpy(), wanted[name].to_numpy(), rtol=1e-5
                )
            else:
                assert found[name].equals(wanted[name]), (table, name)


@pytest.fixture(scope="module")
def first(tiny_store: TinyStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the archive was scored once, with all features kept."""
    store = tmp_path_factory.mktemp("first")
    report = score(tiny_store, store, "one", keep_features="cells")
    assert report["images"]["decoded"] == report["images"]["manifest"] > 30
    return store


@pytest.fixture
def store(first: Path, tmp_path: Path) -> Path:
    """A copy of the store, to be added to."""
    shutil.copytree(first, tmp_path / "store")
    return tmp_path / "store"


def test_an_unchanged_bundle_carries_everything(tiny_store: TinyStore, store: Path) -> None:
    report = score(tiny_store, store, "two")
    images = report["images"]
    assert images["carried"] == images["manifest"]
    assert images["decoded"] == images["reused"] == images["skipped"] == 0
    check_equal(store, "two", store, "one")
    assert set(load_table(str(store), "two", "scores")["origin"].to_pylist()) == {"one"}
