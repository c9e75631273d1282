"""What each training may see, decided before any image is read; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.config import TrainClassifierConfig
from pipeline.errors import InputError
from pipeline.stages.classifier_plan import check_fit, plan_fits
from pipeline.tables.manifest import write_manifest
from pipeline.tables.schemas import MANIFEST
from pipeline.tables.training_rows import TrainingRows, balanced_weights, labelled_rows

ALL = ("fit", "validation", "test")


def table(count: int = 12, **changes: Any) -> pa.Table:
    """`count` rows per role, category and kind; two neighbours share a group."""
    rows = []
    for category in ("bolt", "tile"):
        for role in (*ALL, "normal_calibration"):
            for kind in ("good",) if role == "normal_calibration" else ("good", "dent", "hole"):
                for number in range(count):
                    place = len(rows)
                    rows.append(
                        {
                            "image_id": place,
                            "uri": f"{place}.png",
                            "sha256": "a" * 64,
                            "duplicate_uris": [],
                            "category": category,
                            "role": role,
                            "defect_type": kind,
                            "is_defect": kind != "good",
                            "group_id": place - number % 2,
                        }
                    )
    for row in rows:
        row |= {name: change(row) for name, change in changes.items()}
    return pa.Table.from_pylist(rows, schema=MANIFEST)


def config(**changes: Any) -> TrainClassifierConfig:
    values = {"manifest": "m", "store": "s", "name": "n"}
    return TrainClassifierConfig.model_validate(values | changes)


def rows_of(content: pa.Table, folder: Path, roles: tuple[str, ...] = ALL) -> TrainingRows:
    uri = str(folder / "m.parquet")
    write_manifest(uri, content)
    return labelled_rows(uri, roles)


def test_folds_cover_fit_and_validation_once_and_never_touch_test(tmp_path: Path) -> None:
    rows = rows_of(table(), tmp_path)
    plan = plan_fits(rows, config(folds=3, score_test=True), "m")
    fixed, *folds = plan.fits
    inside = rows.ids[np.isin(rows.roles, ["fit", "validation"])]
    assert np.array_equal(np.sort(np.concatenate([f.scored for f in folds])), inside)
    assert set(fixed.scored) == set(rows.ids[rows.roles == "test"])
    for fit in folds:
        seen = np.concatenate([fit.training, fit.stopping])
        assert np.array_equal(np.sort(np.concatenate([seen, fit.scored])), inside)
        groups = [set(rows.of(i).groups) for i in (fit.training, fit.stopping, fit.scored)]
        assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
        assert all(len(set(rows.of(i).is_defect)) == 2 for i in (fit.training, fit.stopping))


def test_the_fixed_model_learns_from_fit_alone_and_is_judged_on_validation(tmp_path: Path) -> None:
    rows = rows_of(table(), tmp_path, ("fit", "validation"))
    (fixed,) = plan_fits(rows, config(), "m").fits
    seen = np.concatenate([fixed.training, fixed.stopping])
    assert set(seen) == set(rows.ids[rows.roles == "fit"])
    assert set(fixed.scored) == set(rows.ids[rows.roles == "validation"])


def test_folds_of_the_manifest_are_taken_as_they_are(tmp_path: Path) -> None:
    content = table(fold=lambda row: int(row["group_id"] // 2 % 4))
    rows = rows_of(content, tmp_path)
    _, *folds = plan_fits(rows, config(folds=4), "m").fits
    for fit in folds:
        assert set(rows.of(fit.scored).table["fold"].to_pylist()) == {fit.fold}
    with pytest.raises(InputError, match="folds: 3: the manifest's column fold holds 4"):
        plan_fits(rows, config(folds=3), "m")


def test_a_type_left_out_is_never_trained_on_and_good_rows_are_held_out(tmp_path: Path) -> None:
    rows = rows_of(table(), tmp_path)
    _, *fits = plan_fits(rows, config(leave_one_defect_type_out=True), "m").fits
    assert len(fits) == 4
    for fit in fits:
        seen = rows.of(np.concatenate([fit.training, fit.stopping]))
        pairs = set(zip(seen.categories, seen.kinds, strict=True))
        assert fit.left_out not in pairs
        assert len(pairs) == 5
        judged = rows.of(fit.scored)
        assert set(zip(judged.categories, judged.kinds, strict=True)) == {
            fit.left_out,
            (fit.left_out[0], "good"),
        }
        assert set(judged.roles[~judged.is_defect]) == {"validation"}


@pytest.mark.parametrize("side", ["training", "stopping"])
@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_row_of_another_step_in_training_or_stopping_is_refused(
    tmp_path: Path, side: str, role: str
) -> None:
    rows = rows_of(table(), tmp_path)
    (fixed,) = plan_fits(rows, config(), "m").fits
    intruder = rows.ids[rows.roles == role][:1]
    forced = replace(fixed, **{side: np.sort(np.append(getattr(fixed, side), intruder))})
    with pytest.raises(InputError, match=rf"image {intruder[0]} has the role '{role}'"):
        check_fit(forced, rows, "m")


def test_a_group_on_both_sides_is_refused_by_its_number(tmp_path: Path) -> None:
    shared = table(group_id=lambda row: 7 if row["image_id"] in (0, 40) else row["image_id"])
    rows = rows_of(shared, tmp_path)
    assert list(rows.of(np.array([0, 40])).roles) == ["fit", "validation"]
    with pytest.raises(InputError, match=r"group_id 7: lies in .* and in scoring of fixed"):
        plan_fits(rows, config(), "m")


def test_what_cannot_be_trained_is_refused_with_what_is_lacking(tmp_path: Path) -> None:
    good = {"is_defect": lambda _: False, "defect_type": lambda _: "good"}
    with pytest.raises(InputError, match="no defect among the 72 labelled rows with role fit"):
        plan_fits(rows_of(table(**good), tmp_path), config(), "m")
    bad = {"is_defect": lambda _: True, "defect_type": lambda _: "dent"}
    with pytest.raises(InputError, match="no good image among"):
        plan_fits(rows_of(table(**bad), tmp_path), config(), "m")
    moved = table(
        role=lambda r: "test" if (r["category"], r["role"]) == ("tile", "fit") else r["role"]
    )
    with pytest.raises(InputError, match="category tile: has no row with role fit"):
        plan_fits(rows_of(moved, tmp_path), config(), "m")
    lone = table(group_id=lambda r: 1 if r["is_defect"] and r["role"] == "fit" else r["image_id"])
    with pytest.raises(InputError, match=r"fixed: .* 1 groups of defects .* at least 2 of each"):
        plan_fits(rows_of(lone, tmp_path), config(), "m")
    half = table(fold=lambda row: 0 if row["image_id"] % 2 else None)
    with pytest.raises(InputError, match="column fold: 72 of 144 rows"):
        plan_fits(rows_of(half, tmp_path), config(folds=2), "m")


def test_a_fold_of_one_kind_is_marked(tmp_path: Path) -> None:
    content = table(fold=lambda row: int(row["is_defect"]) if row["image_id"] % 4 < 2 else 2)
    plan = plan_fits(rows_of(content, tmp_path), config(folds=3), "m")
    assert [w.split(":")[0] for w in plan.warnings] == ["fold 0", "fold 1"]


def test_a_fold_that_leaves_one_kind_to_train_on_is_refused(tmp_path: Path) -> None:
    content = table(fold=lambda row: int(row["is_defect"]))
    with pytest.raises(InputError, match=r"fold-0: .* 0 of good|fold-0: .* 0 groups of"):
        plan_fits(rows_of(content, tmp_path), config(folds=2), "m")


def test_a_manifest_without_roles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row has a role"):
        rows_of(table(role=lambda _: None), tmp_path)
    with pytest.raises(InputError, match="role 'train' doesn't exist"):
        rows_of(table(role=lambda _: "train"), tmp_path)


def test_weights_make_good_and_defects_of_a_category_equal() -> None:
    categories = np.array(["a"] * 10 + ["b"] * 4, dtype=object)
    truth = np.array([True] * 8 + [False] * 2 + [True] + [False] * 3)
    weights = balanced_weights(categories, truth)
    for name, half in (("a", 5.0), ("b", 2.0)):
        for kind in (True, False):
            assert weights[(categories == name) & (truth == kind)].sum() == pytest.approx(half)
