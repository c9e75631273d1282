"""Labels that people gave in the app, joined while an archive is indexed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import IndexConfig
from pipeline.errors import InputError
from pipeline.report.summary import index_summary
from pipeline.stages.index import run_index
from pipeline.tables import storage
from pipeline.tables.labels import Label, append_label, labels_folder
from tests.conftest import write_archive

pytestmark = pytest.mark.ray


def rows(manifest: str) -> dict[str, dict[str, Any]]:
    """Rows of a manifest by the end of their place."""
    table = storage.read_parquet(manifest)
    return {"/".join(row["uri"].rsplit("/", 4)[-4:]): row for row in table.to_pylist()}


def test_an_index_takes_the_labels_that_people_gave(cluster: str, tmp_path: Path) -> None:
    archive, store = write_archive(tmp_path / "archive", good=2, test=2), str(tmp_path / "store")
    config = IndexConfig(source=str(archive), store=store, name="m")
    before = rows(run_index(config)["manifest"])
    missed = before["bolt/test/good/000.png"]
    alarm = before["tile/test/dent/001.png"]
    assert (missed["is_defect"], alarm["is_defect"]) == (False, True)
    append_label(store, Label(missed["image_id"], "defect", "crack"))
    append_label(store, Label(alarm["image_id"], "unsure"))
    again = config.model_copy(update={"labels": labels_folder(store)})
    report = run_index(again)
    after = rows(report["manifest"])
    changed = {name: row for name, row in after.items() if row != before[name]}
    assert {name: (row["is_defect"], row["defect_type"]) for name, row in changed.items()} == {
        "bolt/test/good/000.png": (True, "crack"),
        "tile/test/dent/001.png": (None, None),
    }
    assert report["labelled"] == 2
    assert "2 images have labels that people gave" in index_summary(report)
    # The next night takes the rows over, and no label is taken for a new one.
    night = run_index(again.model_copy(update={"since": "m"}))
    assert night["since"]["relabelled"] == []
    assert rows(night["manifest"]) == after


@pytest.mark.parametrize("listed", [True, False], ids=["a list that says so", "a plain folder"])
def test_unsure_takes_away_what_an_earlier_night_knew(
    cluster: str, tmp_path: Path, *, listed: bool
) -> None:
    """Whether the source or only the earlier manifest says that the image is a defect."""
    folder = write_archive(tmp_path / "archive", good=1, test=1) / "bolt/test/dent"
    store = str(tmp_path / "store")
    source = tmp_path / "list.csv"
    (image,) = folder.iterdir()
    source.write_text(f"uri,category,is_defect,defect_type\n{image},bolt,true,dent\n")
    first = IndexConfig(source=str(source), store=store, name="m")
    (before,) = rows(run_index(first)["manifest"]).values()
    assert (before["is_defect"], before["defect_type"]) == (True, "dent")
    append_label(store, Label(before["image_id"], "unsure"))
    changes = {"since": "m", "labels": labels_folder(store)}
    if not listed:
        changes |= {"source": str(folder), "category": "bolt"}
    for _ in range(2):
        night = run_index(first.model_copy(update=changes))
        (after,) = rows(night["manifest"]).values()
        assert (after["is_defect"], after["defect_type"]) == (None, None)
        assert night["labelled"] == 1
        assert night["since"]["relabelled"] == []


def test_a_label_without_a_type_keeps_the_type_that_the_archive_knows(
    cluster: str, tmp_path: Path
) -> None:
    archive, store = write_archive(tmp_path / "archive", good=1, test=1), str(tmp_path / "store")
    config = IndexConfig(source=str(archive), store=store, name="m")
    before = rows(run_index(config)["manifest"])
    confirmed, missed = before["bolt/test/dent/000.png"], before["bolt/test/good/000.png"]
    for row in (confirmed, missed):
        append_label(store, Label(row["image_id"], "defect"))
    labelled = {"labels": labels_folder(store)}
    whole = rows(run_index(config.model_copy(update=labelled | {"name": "whole"}))["manifest"])
    night = rows(run_index(config.model_copy(update=labelled | {"since": "m"}))["manifest"])
    assert night == whole
    kinds = [night[f"bolt/test/{name}/000.png"]["defect_type"] for name in ("dent", "good")]
    assert kinds == ["dent", None]


def test_what_people_call_good_has_no_mask(cluster: str, tmp_path: Path) -> None:
    """A detector's training refuses a mask of a good image, and nobody could take it away."""
    archive, store = write_archive(tmp_path / "archive", good=1, test=1), str(tmp_path / "store")
    config = IndexConfig(source=str(archive), store=store, name="m")
    before = rows(run_index(config)["manifest"])["bolt/test/dent/000.png"]
    assert before["mask_uri"] == str(archive / "bolt/ground_truth/dent/000_mask.png")
    append_label(store, Label(before["image_id"], "good"))
    for since in (None, "m", "m"):
        changes = {"since": since, "labels": labels_folder(store)}
        found = rows(run_index(config.model_copy(update=changes))["manifest"])
        after = found["bolt/test/dent/000.png"]
        assert (after["is_defect"], after["defect_type"], after["mask_uri"]) == (
            False,
            "good",
            None,
        )


def test_a_night_before_the_first_label(cluster: str, tmp_path: Path) -> None:
    archive, store = write_archive(tmp_path / "archive", good=1, test=1), str(tmp_path / "store")
    config = IndexConfig(source=str(archive), store=store, name="m", labels=labels_folder(store))
    assert run_index(config)["labelled"] == 0
    with pytest.raises(InputError, match="there is no label"):
        run_index(config.model_copy(update={"labels": str(tmp_path / "labels")}))
