"""Bad input: one message with file, field, value and way out; status 2; nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import InputError
from pipeline.stages.fit import run_fit
from pipeline.stages.score import run_score
from pipeline.tables.runs import load_table
from tests.conftest import ROOT, TinyModels, TinyStore, job_environment, tiny_fit_config

pytestmark = pytest.mark.timeout(240)


def refused(job: str, *arguments: str, names: list[str], environment: dict | None = None) -> str:
    """Runs a job that must refuse its input; what it said."""
    done = subprocess.run(
        [sys.executable, f"jobs/{job}.py", *arguments],
        cwd=ROOT,
        env=job_environment(None) | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for name in names:
        assert name in errors[0], errors[0]
    return errors[0]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write_config(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# What the commands refuse before any work: no cluster is started.


def test_an_unknown_key(tmp_path: Path) -> None:
    config = write_config(tmp_path / "night.yaml", "manifest: m\nbundle: b\nstore: s\npool: {}\n")
    refused("score", "--config", config, names=[config, "pool", "pools"])


def test_a_wrong_type(tmp_path: Path) -> None:
    text = "manifest: m\nbundle: b\nstore: s\npools:\n  features:\n    size: many\n"
    config = write_config(tmp_path / "night.yaml", text)
    refused("score", "--config", config, names=[config, "pools.features.size", "'many'"])


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.yaml")
    refused("score", "--config", missing, names=["--config", missing, "no such file"])


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.parquet")
    settings = [f"manifest={missing}", "bundle=b", f"store={tmp_path}"]
    refused("score", *settings, names=["manifest", missing, "no such file"])
    assert files_below(tmp_path) == []


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    refused("index", f"source={missing}", f"store={tmp_path}", "name=m", names=["source", missing])


def test_an_s3_source_without_credentials(tmp_path: Path) -> None:
    bare = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    settings = ["source=s3://archive-of-line-1/april", f"store={tmp_path}", "name=m"]
    refused(
        "index",
        *settings,
        names=["source", "s3://archive-of-line-1/april", "credentials", "AWS_ACCESS_KEY_ID"],
        environment=bare,
    )
    assert files_below(tmp_path) == []


def test_weights_that_are_a_pickle_of_something_else(tmp_path: Path, tiny_store: TinyStore) -> None:
    import pickle

    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps({"a": os.getcwd}))
    settings = [f"manifest={tiny_store.manifest}", f"store={tmp_path}"]
    refused(
        "fit", *settings, f"backbone.weights={weights}", names=["backbone.weights", str(weights)]
    )
    assert files_below(tmp_path) == ["weights.pth"]


def test_a_detector_that_is_not_named_as_trusted(
    tmp_path: Path, tiny_store: TinyStore, tiny_models: TinyModels
) -> None:
    refused(
        "fit",
        f"manifest={tiny_store.manifest}",
        f"store={tmp_path}",
        f"backbone.weights={tiny_models.backbone}",
        f"detector.weights={tiny_models.detector}",
        names=["detector.weights", str(tiny_models.detector), "detector.trusted=true"],
    )
    assert files_below(tmp_path) == []


def test_s3_images_of_a_list_without_credentials(tmp_path: Path) -> None:
    """Found by a worker, in the middle of Ray Data: still one line, and nothing is written."""
    bare = {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }
    images = write_config(tmp_path / "list.csv", "uri\ns3://archive-of-line-1/april/a.png\n")
    refused(
        "index",
        f"source={images}",
        f"store={tmp_path / 'store'}",
        "name=m",
        names=["s3://archive-of-line-1/april/a.png", "on this worker: no S3 credentials ("],
        environment=bare,
    )
    assert files_below(tmp_path) == ["list.csv"]


# What is refused when the tables and bundles are opened.


def changed_manifest(tiny: TinyStore, target: Path, change) -> str:
    table = change(pq.read_table(tiny.manifest))
    pq.write_table(table, target)
    return str(target)


def drop_uri(table: pa.Table) -> pa.Table:
    return table.drop_columns(["uri"])


def text_ids(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("image_id")
    return table.set_column(place, "image_id", table["image_id"].cast(pa.string()))


def null_uri(table: pa.Table) -> pa.Table:
    uris = table["uri"].to_pylist()
    uris[3] = None
    place = table.schema.get_field_index("uri")
    return table.set_column(place, pa.field("uri", pa.string()), pa.array(uris))


def twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


@pytest.mark.ray
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (drop_uri, ["'uri'", "jobs/index.py"]),
        (text_ids, ["'image_id'", "string", "int64"]),
        (null_uri, ["row 3", "uri"]),
        (twice, ["image_id", "more than once"]),
    ],
)
def test_a_manifest_that_can_not_be_used(
    tiny_store: TinyStore, tmp_path: Path, change, names: list[str]
) -> None:
    manifest = changed_manifest(tiny_store, tmp_path / "m.parquet", change)
    store = tmp_path / "store"
    with pytest.raises(InputError) as refusal:
        run_score(tiny_store.score_config(store, manifest=manifest))
    for name in [manifest, *names]:
        assert name in str(refusal.value)
    assert not store.exists()


@pytest.mark.ray
def test_a_damaged_bundle(tiny_store: TinyStore, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_store.bundle, bundle)
    damaged = next(bundle.glob("gaussians/*/cells_factor.npy"))
    content = bytearray(damaged.read_bytes())
    content[-5] ^= 1
    damaged.write_bytes(content)
    settings = [f"manifest={tiny_store.manifest}", f"bundle={bundle}", f"store={tmp_path / 's'}"]
    refused("score", *settings, names=["bundle", damaged.name, "sha256"])
    assert not (tmp_path / "s").exists()


@pytest.mark.ray
def test_a_store_that_can_not_be_written(tiny_store: TinyStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = tmp_path / "file" / "store"
    settings = [f"manifest={tiny_store.manifest}", f"bundle={tiny_store.bundle}", f"store={store}"]
    refused("score", *settings, names=["store", str(store)])


@pytest.mark.ray
def test_a_category_without_good_training_images(
    tiny_store: TinyStore, tiny_models: TinyModels, tmp_path: Path
) -> None:
    def only_tests(table: pa.Table) -> pa.Table:
        keep = np.array(table["category"].to_pylist()) != "tile"
        keep |= np.array(table["split"].to_pylist()) == "test"
        return table.filter(pa.array(keep))

    manifest = changed_manifest(tiny_store, tmp_path / "m.parquet", only_tests)
    with pytest.raises(InputError, match="tile: no good image with split = 'train'"):
        run_fit(tiny_fit_config(manifest, tmp_path / "store", tiny_models))
    assert not (tmp_path / "store").exists()


@pytest.mark.ray
def test_an_unknown_category_gets_null_distances_and_one_warning(
    tiny_store: TinyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def renamed(table: pa.Table) -> pa.Table:
        names = ["washer" if name == "tile" else name for name in table["category"].to_pylist()]
        place = table.schema.get_field_index("category")
        return table.set_column(place, "category", pa.array(names, pa.string()))

    manifest = changed_manifest(tiny_store, tmp_path / "m.parquet", renamed)
    with caplog.at_level("WARNING", "linescore"):
        run_score(tiny_store.score_config(tmp_path / "store", manifest=manifest, run_id="r"))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "20 images" in warnings[0] and "washer 20" in warnings[0]
    for row in load_table(str(tmp_path / "store"), "r", "scores").to_pylist():
        strange = row["category"] == "washer"
        for column in ("anomaly_score", "anomaly_cells", "anomaly_pooled"):
            assert (row[column] is None) == strange
        assert row["defect_probability"] is not None
        assert row["detection_count"] is not None


@pytest.mark.ray
def test_pools_that_do_not_fit_end_with_what_is_missing(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    def score(size: int, **share: int) -> None:
        pools = {"features": {"size": size, **share}}
        run_score(tiny_store.score_config(tmp_path / "s", pools=pools, fuse_models=False))

    with pytest.raises(InputError, match=r"need 13.* CPUs .*has 4: 9.* CPUs are missing"):
        score(4, num_cpus=3)
    with pytest.raises(InputError, match=r"need 1 GPUs .*has 0: 1 GPUs are missing"):
        score(1, num_gpus=1)
    assert not (tmp_path / "s" / "runs").exists()


@pytest.mark.ray
def test_a_run_id_that_is_no_name(tiny_store: TinyStore, tmp_path: Path) -> None:
    settings = [f"manifest={tiny_store.manifest}", f"bundle={tiny_store.bundle}"]
    refused("score", *settings, f"store={tmp_path}", "run_id=../x", names=["run_id", "../x"])
    assert json.dumps(files_below(tmp_path)) == "[]"
