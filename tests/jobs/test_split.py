"""Splitting a small archive, as a user does: groups, roles, folds, warnings and refusals."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import IndexConfig, SplitConfig, load
from pipeline.errors import InputError
from pipeline.report.split import split_summary
from pipeline.stages.fit import good_training_ids
from pipeline.stages.index import run_index
from pipeline.stages.split import run_split
from pipeline.tables.roles import ROLES
from pipeline.tables.schemas import MANIFEST
from tests.conftest import run_job, save
from tests.images.test_fingerprint import lamp, surface

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

# Parts of category `plate`; each even one is photographed under a second lamp.
GOOD_PARTS, DEFECT_PARTS = 16, 6
SIDE = 72


def write_parts(root: Path) -> Path:
    """Category `plate`: parts, some with a second view in another folder; one broken file."""
    for part in range(GOOD_PARTS + DEFECT_PARTS):
        kind = "good" if part < GOOD_PARTS else ("dent" if part % 2 else "rust")
        grey = surface(part, SIDE)
        folder = "train/good" if part < GOOD_PARTS - 4 else f"test/{kind}"
        save(root / "plate" / folder / f"part{part:02d}_a.png", as_pixels(grey))
        if part % 2 == 0:
            second = as_pixels(grey * lamp(SIDE) * 0.8)
            save(root / "plate" / f"test/{kind}" / f"part{part:02d}_b.png", second)
    (root / "plate/train/good/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    return root


def as_pixels(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


@dataclass(frozen=True)
class Parts:
    """The small archive's manifest, and how to split it."""

    folder: Path
    manifest: str

    def config(self, **changes: Any) -> SplitConfig:
        """Settings of a split into this folder's store."""
        values = {"manifest": self.manifest, "store": str(self.folder / "store"), "name": "split"}
        return SplitConfig.model_validate(values | {"smallest_stratum": 1} | changes)

    def changed(self, name: str, **columns: list[Any]) -> str:
        """A manifest with other values in some columns."""
        table = pq.read_table(self.manifest)
        for column, values in columns.items():
            field = MANIFEST.field(column)
            place = table.schema.get_field_index(column)
            table = table.set_column(place, field, pa.array(values, field.type))
        pq.write_table(table, self.folder / name)
        return str(self.folder / name)


@pytest.fixture(scope="module")
def parts(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("parts")
    archive = write_parts(folder / "archive")
    config = IndexConfig(source=str(archive), store=str(folder / "store"), name="parts")
    return Parts(folder, run_index(config)["manifest"])


@pytest.fixture(scope="module")
def report(parts: Parts) -> dict[str, Any]:
    return run_split(parts.config(folds=3))


def by_part(manifest: str, column: str) -> dict[str, set[Any]]:
    """The values of a column that the views of each part have, by the part's file name."""
    found: dict[str, set[Any]] = {}
    for row in pq.read_table(manifest).to_pylist():
        found.setdefault(Path(row["uri"]).name.split("_")[0], set()).add(row[column])
    return found


def test_views_of_a_part_are_one_group_and_parts_are_groups_of_their_own(report) -> None:
    groups = by_part(report["manifest"], "group_id")
    assert {len(ids) for ids in groups.values()} == {1}
    assert len({next(iter(ids)) for ids in groups.values()}) == GOOD_PARTS + DEFECT_PARTS + 1
    rows = pq.read_table(report["manifest"]).to_pylist()
    smallest: dict[int, int] = {}
    for row in rows:
        smallest[row["group_id"]] = min(row["image_id"], smallest.get(row["group_id"], 2**63))
    assert all(group == smallest[group] for group in smallest)


def test_no_group_straddles_and_every_readable_image_has_a_role(report) -> None:
    assert {len(roles) for roles in by_part(report["manifest"], "role").values()} == {1}
    assert {len(folds) for folds in by_part(report["manifest"], "fold").values()} == {1}
    for row in pq.read_table(report["manifest"]).to_pylist():
        assert (row["role"] in ROLES) == (not row["uri"].endswith("broken.png"))
        assert not (row["role"] == "normal_calibration" and row["is_defect"])
        assert (row["fold"] in range(3)) == (row["role"] in ("fit", "validation"))
        assert (row["fold"] is None) == (row["role"] not in ("fit", "validation"))


def test_every_other_column_is_as_it_was(report, parts: Parts) -> None:
    given, found = pq.read_table(parts.manifest), pq.read_table(report["manifest"])
    assert found.schema.equals(given.schema, check_metadata=True)
    same = [name for name in MANIFEST.names if name not in ("role", "group_id", "fold")]
    assert found.select(same).equals(given.select(same))


def test_the_report_counts_and_says_what_leaks(report) -> None:
    counts = {entry["defect_type"]: entry for entry in report["counts"]}
    rows = pq.read_table(report["manifest"]).to_pylist()
    for kind, entry in counts.items():
        roles = Counter(row["role"] for row in rows if row["defect_type"] == kind)
        assert [entry[role] for role in ROLES] == [roles[role] for role in ROLES]
        assert entry["images"] == sum(roles.values())
        assert entry["none"] == roles[None] == (kind == "good")  # the broken one
    # Good parts 0, 2 … 10 have their first view in train; 12 to 15 lie in test alone.
    assert report["leaks"] == [
        {"category": "plate", "good_test_images": 12, "with_twin_in_train": 6}
    ]
    assert len(report["unreadable"]) == 1 and "broken.png" in report["unreadable"][0]
    rows = pq.read_table(report["manifest"]).to_pylist()
    (broken,) = [row for row in rows if row["uri"].endswith("broken.png")]
    assert broken["role"] is None and broken["fold"] is None
    facts = report["groups"][0]
    assert facts["groups"] == 23 and facts["groups_by_size"] == {"1": 12, "2": 11}
    stored = json.loads(
        Path(report["manifest"]).parents[1].joinpath("reports/split/split.json").read_text()
    )
    assert stored == report
    text = split_summary(report)
    assert "6 of 12 good images of the folder test" in text
    assert report["manifest"] in text and "normal_calibration" in text


def test_the_contact_sheet_shows_pairs_on_either_side(report) -> None:
    (sheet,) = report["contact_sheets"]
    assert Path(sheet).name == "near_duplicates_00_plate.png"
    with Image.open(sheet) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0, 110, 40), (170, 30, 30)} <= colours


def test_shuffled_rows_give_the_same_bytes_and_another_seed_another_split(
    report, parts: Parts
) -> None:
    table = pq.read_table(parts.manifest)
    order = np.random.default_rng(0).permutation(len(table))
    pq.write_table(table.take(order), parts.folder / "shuffled.parquet")
    changes = {"folds": 3, "near_duplicates": {"contact_sheet": False}}
    manifest = str(parts.folder / "shuffled.parquet")
    again = run_split(parts.config(name="again", manifest=manifest, **changes))
    assert again["manifest_digest"] == report["manifest_digest"]
    other = run_split(parts.config(name="other", seed=1, **changes))
    assert by_part(other["manifest"], "group_id") == by_part(report["manifest"], "group_id")
    assert by_part(other["manifest"], "role") != by_part(report["manifest"], "role")


def test_a_fit_uses_the_good_images_of_its_role_alone(report) -> None:
    rows = pq.read_table(report["manifest"]).to_pylist()
    wanted = [r["image_id"] for r in rows if r["role"] == "fit" and not r["is_defect"]]
    assert good_training_ids(report["manifest"])["plate"].tolist() == sorted(wanted)


# What makes groups besides content.

OFF = {"find": False}


def test_file_names_can_tell_the_part(parts: Parts) -> None:
    pattern = {"part_pattern": r"part(\d+)_", "near_duplicates": OFF}
    found = run_split(parts.config(name="named", **pattern))
    assert {len(ids) for ids in by_part(found["manifest"], "group_id").values()} == {1}
    assert found["groups"][0]["groups"] == 23 and found["contact_sheets"] == []


def test_groups_that_the_manifest_has_stay_together(parts: Parts) -> None:
    uris = pq.read_table(parts.manifest)["uri"].to_pylist()
    lots = [7 if "part00" in uri or "part01" in uri else None for uri in uris]
    manifest = parts.changed("lots.parquet", group_id=lots)
    kept = run_split(parts.config(name="lots", manifest=manifest, near_duplicates=OFF))
    groups = by_part(kept["manifest"], "group_id")
    assert groups["part00"] == groups["part01"] and len(groups["part00"]) == 1
    assert len(groups["part02"]) == 2  # two views, and nothing that says so
    anew = parts.config(name="lots-2", manifest=manifest, near_duplicates=OFF, keep_groups=False)
    assert len(by_part(run_split(anew)["manifest"], "group_id")["part01"]) == 1
    assert run_split(anew)["groups"][0]["groups"] == len(uris)


def test_train_can_be_kept_out_of_test(parts: Parts) -> None:
    for seed in range(3):
        apart = parts.config(name="apart", seed=seed, train_to_test=False)
        rows = pq.read_table(run_split(apart)["manifest"]).to_pylist()
        trained = {row["group_id"] for row in rows if row["split"] == "train"}
        tested = [row for row in rows if row["role"] == "test"]
        assert tested and not [row for row in tested if row["group_id"] in trained]
        assert {row["is_defect"] for row in tested} == {True, False}


def test_images_without_a_label_have_a_group_but_no_role(parts: Parts) -> None:
    truth = pq.read_table(parts.manifest)["is_defect"].to_pylist()
    manifest = parts.changed("unlabelled.parquet", is_defect=[None] * 9 + truth[9:])
    found = run_split(parts.config(name="unlabelled", manifest=manifest))
    rows = pq.read_table(found["manifest"]).to_pylist()
    for row in rows:
        usable = row["is_defect"] is not None and not row["uri"].endswith("broken.png")
        assert (row["role"] is not None) == usable
    assert all(row["group_id"] is not None for row in rows)
    assert "9 images without a label or a category have no role" in found["warnings"]


# What has to be said, and what is refused.


def test_a_group_larger_than_a_role_is_named(parts: Parts) -> None:
    whole = {"find": True, "by_category": {"plate": 128}, "contact_sheet": False}
    found = run_split(parts.config(name="large", near_duplicates=whole))
    (line,) = [line for line in found["warnings"] if "more than" in line and "of good" in line]
    assert "plate: group " in line and ".png" in line
    assert "lower near_duplicates.by_category.plate" in line
    # The one group goes where the Gaussians need it, and what is lacking is said.
    assert any(line.startswith("plate: no good image in ") for line in found["warnings"])
    assert found["groups"][0]["max_distance_from"] == "config"


def test_small_defect_types_are_named(parts: Parts) -> None:
    found = run_split(parts.config(name="small", smallest_stratum=5, near_duplicates=OFF))
    assert [line for line in found["warnings"] if "dent (3 groups)" in line]


def test_a_category_without_good_images_is_named(parts: Parts) -> None:
    table = pq.read_table(parts.manifest)
    names = ["bolt" if defect else "plate" for defect in table["is_defect"].to_pylist()]
    manifest = parts.changed("bolt.parquet", category=names)
    found = run_split(parts.config(name="bolt", manifest=manifest, near_duplicates=OFF))
    assert (
        "bolt: has no labelled good image; without good fit images it can't be fitted, and "
        "jobs/fit.py refuses it"
    ) in found["warnings"]
    assert "plate: has no labelled defect image" in found["warnings"]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"part_pattern": r"serial(\d+)"}, ["part_pattern", "serial", "matches no file name"]),
        ({"near_duplicates": {"by_category": {"plates": 5}}}, ["'plates'", "did you mean plate?"]),
        ({"name": "parts"}, ["name: parts", "would replace", "another name"]),
        ({"folds": 60, "near_duplicates": OFF}, ["folds: 60", "groups", "fewer folds"]),
        ({"manifest": "none.parquet"}, ["manifest", "none.parquet", "no such file"]),
    ],
)
def test_what_can_not_be_split_is_refused(parts: Parts, changes, names: list[str]) -> None:
    before = sorted(parts.folder.rglob("*.parquet"))
    with pytest.raises(InputError) as refusal:
        run_split(parts.config(**({"name": "refused"} | changes)))
    for name in names:
        assert name in str(refusal.value)
    assert sorted(parts.folder.rglob("*.parquet")) == before


def test_a_manifest_without_any_good_image_is_refused(parts: Parts) -> None:
    count = pq.read_table(parts.manifest).num_rows
    manifest = parts.changed("defects.parquet", is_defect=[True] * count)
    with pytest.raises(InputError, match="no readable image with a category and is_defect = false"):
        run_split(parts.config(name="refused", manifest=manifest, near_duplicates=OFF))


BASE = ["manifest=m", "store=s", "name=n"]


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("good.fit=0.9", ["good", "fit 0.9 + normal_calibration 0.15", "is 1.35", "add up to 1"]),
        ("defects.test=-0.1", ["defects.test", "greater than or equal to 0"]),
        ("part_pattern=part", ["part_pattern", "needs a capture group"]),
        ("part_pattern=(", ["part_pattern", "is no regular expression"]),
        ("folds=1", ["folds", "greater than or equal to 2"]),
        ("near_duplicates.max_distance=300", ["max_distance", "less than or equal to 128"]),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: str, names: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        load(SplitConfig, None, [*BASE, setting])
    for name in names:
        assert name in str(refusal.value)


def test_the_job_prints_the_table_and_the_place(parts: Parts, cluster: str) -> None:
    settings = [f"manifest={parts.manifest}", f"store={parts.folder}/store", "name=by-hand"]
    done = run_job("split", *settings, address=cluster, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "normal_calibration" in done.stdout and "contact sheet: " in done.stdout
    assert done.stdout.strip().endswith("manifests/by-hand.parquet")
    refused = run_job("split", *settings[:2], "name=parts", address=cluster, timeout=120)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
