"""Roles and records of training: no step uses a row that belongs to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.tables.roles import ROLES, require_roles
from pipeline.tables.trained_on import (
    record_beside,
    seen_by,
    trained_on_bytes,
    trained_on_file,
    trained_on_ids,
)


def rows(*roles: str | None) -> pa.Table:
    return pa.table(
        {"image_id": pa.array(range(10, 10 + len(roles))), "role": pa.array(roles, pa.string())}
    )


def test_rows_of_the_steps_own_roles_pass() -> None:
    require_roles(rows("fit", "validation", "fit"), {"fit", "validation"}, "training")
    require_roles(rows(), {"fit"}, "training")


@pytest.mark.parametrize("role", [*set(ROLES) - {"fit"}, None])
def test_another_role_is_refused_with_the_image_and_the_count(role: str | None) -> None:
    with pytest.raises(InputError, match=rf"training: image 11 .*{role!r}.* 2 of 4 .*fit"):
        require_roles(rows("fit", role, role, "fit"), {"fit"}, "training")


def test_trained_on_ids_come_back_whatever_their_use_was(tmp_path: Path) -> None:
    content = trained_on_bytes(np.array([9, 2**62, 3]), np.array([5]))
    assert trained_on_ids(content, "x").tolist() == [3, 5, 9, 2**62]
    assert trained_on_file("a/b/weights.pt") == "a/b/trained_on.parquet"
    assert trained_on_file("weights.pt") == "./trained_on.parquet"


def test_a_record_is_never_taken_for_that_of_other_weights(tmp_path: Path) -> None:
    weights, other = tmp_path / "a.pt", tmp_path / "b.pt"
    weights.write_bytes(b"these")
    other.write_bytes(b"others")
    assert record_beside(str(weights)) is None
    assert len(seen_by(str(weights))) == 0
    content = trained_on_bytes(np.array([9]), np.array([5]), weights=b"these")
    (tmp_path / "trained_on.parquet").write_bytes(content)
    assert record_beside(str(weights)) == content
    assert seen_by(str(weights)).tolist() == [5, 9]
    with pytest.raises(InputError, match=r"b\.pt: .* is the record of other weights"):
        seen_by(str(other))


def test_a_damaged_record_of_training_is_refused() -> None:
    with pytest.raises(InputError, match=r"x: is no table of trained-on images"):
        trained_on_ids(b"PAR1nothing", "x")
