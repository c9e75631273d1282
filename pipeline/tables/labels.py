"""Labels that people gave images: an append-only table, of which an image's latest row counts."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.tables import storage
from pipeline.tables.schemas import IMAGE_ID, described, table_schema

GOOD, DEFECT, UNSURE = "good", "defect", "unsure"
KINDS = (GOOD, DEFECT, UNSURE)
# What a label says of `is_defect`.
_TRUTH = {GOOD: False, DEFECT: True, UNSURE: None}
# A defect type is a folder's name in most archives; a longer one is a mistake of the hand.
MAX_TYPE = 100
# Control characters and lone surrogates, as pages replace them.
_UNPRINTABLE = ("Cc", "Cs")
# A label is a small file: reading many waits for the store, not for the processor.
_READERS = 16

LABELS = table_schema(
    "labels",
    [
        IMAGE_ID,
        described("label", pa.string(), "good, defect or unsure", null=False),
        described("defect_type", pa.string(), "the kind of defect; null: not said"),
        described(
            "labelled_at", pa.timestamp("us", tz="UTC"), "when; the latest row counts", null=False
        ),
        described("labelled_by", pa.string(), "who, in their own words; null: not said"),
        described("run_id", pa.string(), "the run in which the image was looked at"),
        described("uri", pa.string(), "where the image lay then"),
    ],
)


def holds_controls(name: str) -> bool:
    """Whether a name holds what no page shows and no file takes.

    Other spaces than the usual one, joiners and marks of direction are letters of names:
    `isprintable` refuses them.
    """
    return not name.isprintable() and any(unicodedata.category(c) in _UNPRINTABLE for c in name)


@dataclass(frozen=True)
class Label:
    """What a person says of an image.

    Attributes:
        image_id: whose.
        label: good, defect or unsure.
        defect_type: of a defect, where they said so.
        labelled_by: who.
        run_id: the run in which they looked at it.
        uri: where it lay.

    Raises:
        InputError: another label, or a type that is none.
    """

    image_id: int
    label: str
    defect_type: str | None = None
    labelled_by: str | None = None
    run_id: str | None = None
    uri: str | None = None

    def __post_init__(self) -> None:
        if self.label not in KINDS:
            raise InputError(f"label: {self.label!r}: is none of {', '.join(KINDS)}")
        kind = self.defect_type
        if kind is None:
            return
        if self.label != DEFECT:
            raise InputError(f"defect_type: {kind!r}: belongs to a defect, not to {self.label}")
        if not kind.strip() or len(kind) > MAX_TYPE or holds_controls(kind) or kind == GOOD:
            raise InputError(
                f"defect_type: {kind[:MAX_TYPE]!r}: is no name of a defect type: 1 to {MAX_TYPE} "
                "characters, no control character, and not `good`"
            )


@dataclass(frozen=True)
class LatestLabels:
    """The label that counts of each of N images.

    Attributes:
        image_id: (N,) int64, sorted.
        label: (N,) words.
        defect_type: (N,) words; null: not said, or no defect.
        rows: how many rows there are, with those that were superseded.
    """

    image_id: np.ndarray
    label: pa.Array
    defect_type: pa.Array
    rows: int


def labels_folder(store: str) -> str:
    """Where the app adds labels."""
    return storage.join(store, "labels")


def append_label(store: str, label: Label) -> str:
    """Adds a file of one row; what is there is never touched. Returns where it is.

    Raises:
        InputError: the store can't be written.
    """
    now = datetime.now(UTC)
    row = {**vars(label), "labelled_at": now}
    table = pa.Table.from_pylist([row], schema=LABELS)
    folder = labels_folder(store)
    uri = storage.join(folder, f"{now:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}.parquet")
    with storage.errors_for(folder, "labels"):
        try:
            storage.create_bytes(uri, storage.parquet_bytes(table))
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
            raise InputError(f"labels: {folder}: can't be written: {error}") from None
    return uri


def label_files(place: str) -> list[str]:
    """The files of a table of labels, oldest first by name; a single file is one."""
    if place.endswith(".parquet"):
        return [place]
    return [storage.join(place, n) for n in storage.list_names(place) if n.endswith(".parquet")]


def read_labels(place: str, field: str = "labels") -> LatestLabels:
    """The latest label of each image, of a folder of label files or a single one.

    Of two labels of one moment the one in the file that comes later by name counts.

    Raises:
        InputError: a file that is no table of labels; a place without any.
    """
    with storage.errors_for(place, field):
        files = label_files(place)
        if not files:
            raise InputError(f"{field}: {place}: there is no label (a .parquet file)")
        return latest(pa.concat_tables(read_files(files, field)))


def read_files(files: Sequence[str], field: str = "labels") -> list[pa.Table]:
    """Rows of some files of labels, in their order.

    Raises:
        InputError: a file that is no table of labels.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda uri: _read(uri, field), files))


def history(table: pa.Table, image_id: int) -> list[dict[str, Any]]:
    """Every label of one image, oldest first."""
    rows = table.filter(pc.equal(table.column("image_id"), image_id)).to_pylist()
    return sorted(rows, key=lambda row: row["labelled_at"])


def latest(table: pa.Table) -> LatestLabels:
    """The rows that count of all rows, in the order in which their files were written."""
    at = table.column("labelled_at").cast(pa.int64()).to_numpy()
    ids = table.column("image_id").to_numpy()
    order = np.lexsort((np.arange(len(ids)), at, ids))
    last = np.append(ids[order][1:] != ids[order][:-1], True) if len(ids) else np.zeros(0, bool)
    kept = table.take(pa.array(order[last]))
    return LatestLabels(
        ids[order][last],
        kept.column("label").combine_chunks(),
        kept.column("defect_type").combine_chunks(),
        len(ids),
    )


def places_of(ids: pa.Array, labels: LatestLabels) -> np.ndarray:
    """(N,) the label of each row; -1: none."""
    there = pc.fill_null(ids.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    if not len(labels.image_id):
        return np.full(len(there), -1)
    places = np.minimum(np.searchsorted(labels.image_id, there), len(labels.image_id) - 1)
    found: np.ndarray = np.where(labels.image_id[places] == there, places, -1)
    return found


def relabelled(
    columns: Mapping[str, pa.Array], asked: Sequence[str], labels: LatestLabels
) -> dict[str, pa.Array]:
    """The columns that labels change: people's where there are some, the table's own elsewhere.

    Args:
        columns: `image_id`, and those that are asked for.
        asked: of `is_defect`, `defect_type` and `mask_uri`.
        labels: what people said; `unsure` takes a label away, `defect` alone keeps the type that
            is known, and what is good has no mask.

    Raises:
        InputError: the table's own `is_defect` holds a number that is neither 0 nor 1.
    """
    places = places_of(columns["image_id"], labels)
    rows = np.flatnonzero(places >= 0)
    if not len(rows):
        return {}
    mask = pa.array(places >= 0)
    words = labels.label.take(pa.array(places[rows]))
    kinds = labels.defect_type.take(pa.array(places[rows]))
    truth = pa.array([_TRUTH[word] for word in words.to_pylist()], pa.bool_())
    good = pc.equal(words, GOOD)
    found = {}
    if "is_defect" in asked:
        own = _own(columns["is_defect"], truth.type)
        found["is_defect"] = pc.replace_with_mask(own, mask, truth)
    if "defect_type" in asked:
        own = _own(columns["defect_type"], pa.string())
        here = own.filter(mask)
        known = pc.and_(pc.equal(words, DEFECT), pc.not_equal(here, GOOD))
        kinds = pc.coalesce(kinds, pc.if_else(known, here, None))
        # A good image's type is `good`, as layouts name it.
        found["defect_type"] = pc.replace_with_mask(own, mask, pc.if_else(good, GOOD, kinds))
    if "mask_uri" in asked:
        own = _own(columns["mask_uri"], pa.string())
        kept = pc.if_else(good, None, own.filter(mask))
        found["mask_uri"] = pc.replace_with_mask(own, mask, kept)
    return found


def _own(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The table's own column in the labels' type."""
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if pa.types.is_boolean(kind) and not pa.types.is_boolean(plain.type):
        codes = truth_codes(plain)  # a cast would take any number but 0 for a defect
        return pa.array(codes == 1, kind, mask=codes < 0)
    return plain.cast(kind)


def truth_codes(column: pa.Array) -> np.ndarray:
    """(N,) int64 of a column of labels: 1 for a defect, 0 for a good image, -1 for null.

    Raises:
        InputError: a number that is neither 0 nor 1.
    """
    if pa.types.is_null(column.type):
        return np.full(len(column), -1, np.int64)
    # A number beyond int64 wraps round to a negative one, which is refused as any other.
    whole = column.cast(pa.int64(), safe=False)
    codes: np.ndarray = pc.fill_null(whole, -1).to_numpy(zero_copy_only=False)
    strange = (codes < -1) | (codes > 1)
    if strange.any() or column.null_count != int((codes == -1).sum()):
        value = codes[strange][0] if strange.any() else -1
        raise InputError(
            f"columns.is_defect: {value}: is no label; 1 for a defect, 0 for a good image, null "
            "for not known"
        )
    return codes


def _read(uri: str, field: str) -> pa.Table:
    table = storage.read_parquet(uri)
    for name in ("image_id", "label", "defect_type", "labelled_at"):
        if name not in table.column_names:
            raise InputError(f"{field}: {uri}: has no column {name!r}: it is no table of labels")
    columns: Sequence[pa.ChunkedArray | pa.Array] = [
        table.column(f.name).cast(f.type)
        if f.name in table.column_names
        else pa.nulls(len(table), f.type)
        for f in LABELS
    ]
    found = pa.table(columns, schema=LABELS)
    strange = set(found.column("label").unique().to_pylist()) - set(KINDS)
    if strange or any(found.column(n).null_count for n in ("image_id", "label", "labelled_at")):
        says = f"label {sorted(map(str, strange))[0]!r}" if strange else "a row without a label"
        raise InputError(f"{field}: {uri}: has {says}; known are {', '.join(KINDS)}")
    return found
