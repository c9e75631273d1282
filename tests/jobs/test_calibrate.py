"""The whole way on a small archive: fit, score, calibrate; and the run goes on as it was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import calibrate
from pipeline.scoring.bundle import open_bundle
from pipeline.stages.score import run_score
from pipeline.tables.manifest import write_manifest
from pipeline.tables.runs import load_table
from tests.conftest import TinyStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def manifest(tiny_store: TinyStore, tmp_path: Path) -> str:
    """The small archive with roles: of a category 2 good held out, 2 good and 4 to validate on."""
    table = pq.read_table(tiny_store.manifest)
    held_out: Counter[str] = Counter()
    roles = []
    for row in table.to_pylist():
        role = "validation" if row["split"] == "test" else "fit"
        if role == "validation" and not row["is_defect"] and held_out[row["category"]] < 2:
            held_out[row["category"]] += 1
            role = "normal_calibration"
        roles.append(role)
    for name, values in (("role", roles), ("group_id", table["image_id"].to_pylist())):
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        table = table.set_column(place, field, pa.array(values, field.type))
    uri = str(tmp_path / "roles.parquet")
    write_manifest(uri, table)
    return uri


def test_recalibrating_never_asks_for_rescoring(
    tiny_store: TinyStore, manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, plain = tmp_path / "store", tiny_store.bundle
    config = tiny_store.score_config(store, manifest=manifest, run_id="r")
    run_score(config)
    before = load_table(str(store), "r", "scores")
    published = (store / "published" / "r.json").read_bytes()

    settings = ["run_id=r", f"store={store}", f"bundle={plain}"]
    settings += ["false_positive_rate=0.5", "misses_allowed=1"]
    assert calibrate.main(settings) == 0
    printed = capsys.readouterr().out
    assert "1 missed of 4 (allowed: 1): FNR ≤ 75.14 % at 95 %" in printed

    bundle = open_bundle("latest", str(store))
    assert bundle.uri in printed
    assert bundle.uri != plain
    rows = before.to_pandas()
    for category in ("bolt", "tile"):
        mine = rows[(rows.category == category) & (rows.role == "validation")]
        lowest = mine.anomaly_score[mine.is_defect.astype(bool)].sort_values()
        assert bundle.thresholds is not None
        entry = bundle.thresholds["anomaly_score"]["categories"][category]["safe"]
        assert entry["value"] == float(lowest.iloc[1])
    seen = bundle.trained_on("gaussians")
    assert seen is not None
    assert sorted(rows.image_id[rows.role == "fit"]) == seen.tolist()
    detector = bundle.thresholds["detection_max_confidence"]["overall"]["safe"]
    assert detector["bound"] is None  # nobody recorded what it was trained on

    for reference in (bundle.uri, bundle.bundle_digest, "latest"):
        again = run_score(config.model_copy(update={"bundle": reference}))
        assert again["already_published"] is True
    assert (store / "published" / "r.json").read_bytes() == published
    assert load_table(str(store), "r", "scores").equals(before)


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate.main(["run_id=none", f"store={tmp_path}"]) == 2
    assert capsys.readouterr().err == (
        f"error: run none: isn't in the store {tmp_path}, which has no published run\n"
    )
    assert calibrate.main(["run_id=r", f"store={tmp_path}", "cost.false_positive=-1"]) == 2
    assert "cost.false_positive" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
