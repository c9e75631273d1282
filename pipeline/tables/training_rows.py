"""The labelled rows of a manifest that training may draw on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.manifest import with_all_columns
from pipeline.tables.roles import ROLES

_COLUMNS = [
    "image_id",
    "uri",
    "sha256",
    "bytes",
    "category",
    "role",
    "fold",
    "group_id",
    "defect_type",
    "is_defect",
]


@dataclass(frozen=True)
class TrainingRows:
    """N labelled rows, ordered by image id.

    Attributes:
        table: them, with the columns that reading an image needs.
        ids: (N,) int64.
        categories: (N,) str.
        kinds: (N,) str; the defect type, or good.
        roles: (N,) str.
        groups: (N,) int64.
        is_defect: (N,) bool.
    """

    table: pa.Table
    ids: np.ndarray
    categories: np.ndarray
    kinds: np.ndarray
    roles: np.ndarray
    groups: np.ndarray
    is_defect: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, chosen: np.ndarray) -> TrainingRows:
        """The rows of a mask (N,) bool."""
        return rows_from(self.table.filter(pa.array(chosen)))

    def of(self, ids: np.ndarray) -> TrainingRows:
        """The rows with these ids."""
        return self.where(np.isin(self.ids, ids))

    @property
    def strata(self) -> tuple[list[str], list[str]]:
        """(category, defect type) of each row, and the coarser good or defect."""
        fine = [f"{c} / {k}" for c, k in zip(self.categories, self.kinds, strict=True)]
        return fine, ["defect" if defect else "good" for defect in self.is_defect]


def rows_from(table: pa.Table) -> TrainingRows:
    """Rows of a table as `labelled_rows` prepares it."""
    categories, kinds, roles = (
        np.array(table.column(name).to_pylist(), dtype=object)
        for name in ("category", "defect_type", "role")
    )
    return TrainingRows(
        table,
        table.column("image_id").to_numpy(),
        categories,
        kinds,
        roles,
        table.column("group_id").to_numpy(),
        np.array(table.column("is_defect").to_pylist(), dtype=bool),
    )


def labelled_rows(manifest: str, roles: tuple[str, ...]) -> TrainingRows:
    """Rows with one of the roles whose label is known, ordered by image id.

    A row without a group is a group of its own, by its image id. Files that could not be read
    when they were indexed are left out.

    Raises:
        InputError: no row has a role, or a row has no category or a role that doesn't exist.
    """
    table = with_all_columns(storage.read_parquet(manifest))
    _check_roles(table, manifest)
    known = pc.and_(pc.is_valid(table["is_defect"]), pc.is_valid(table["sha256"]))
    wanted = pc.is_in(table["role"], pa.array(roles, pa.string()))
    rows = table.filter(pc.fill_null(pc.and_(known, wanted), False)).select(_COLUMNS)
    lacking = rows.filter(pc.is_null(rows["category"]))
    if lacking.num_rows:
        raise InputError(
            f"manifest: {manifest}: {lacking.num_rows} labelled rows have no category, such as "
            f"{lacking['uri'][0].as_py()}; index with category=NAME"
        )
    groups = pc.coalesce(rows["group_id"], rows["image_id"])
    kinds = pc.coalesce(rows["defect_type"], pc.if_else(rows["is_defect"], "defect", "good"))
    for name, column in (("group_id", groups), ("defect_type", kinds)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows_from(rows.sort_by("image_id").combine_chunks())


def _check_roles(table: pa.Table, manifest: str) -> None:
    found = set(pc.unique(table["role"]).to_pylist())
    if found <= {None}:
        raise InputError(
            f"manifest: {manifest}: no row has a role; give roles by splitting the manifest first"
        )
    strange = found - {*ROLES, None}
    if strange:
        raise InputError(
            f"manifest: {manifest}: role {min(strange)!r} doesn't exist; known: {', '.join(ROLES)}"
        )


def balanced_weights(categories: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N,) float32 weights with which good and defects of each category weigh the same.

    n_c / (2 n_cy) for the n_cy rows of category c and kind y: nothing is gained by knowing how
    often a category is defective. A kind that a category lacks has no rows to weigh.
    """
    _, place = np.unique(categories, return_inverse=True)
    cells = np.zeros((place.max(initial=0) + 1, 2))
    np.add.at(cells, (place, truth.astype(int)), 1)
    weights: np.ndarray = cells.sum(1)[place] / (2 * cells[place, truth.astype(int)])
    return weights.astype(np.float32)
