"""Rows of a manifest with the columns that earlier runs give instead of the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.scoring.reuse.distances import StoredDistances
from pipeline.scoring.reuse.earlier import EarlierRun
from pipeline.scoring.reuse.plan import NOBODY
from pipeline.tables.lookup import DamagedTableError, rows_of, wanted
from pipeline.tables.schemas import DETECTIONS, IMAGE_FACTS, SCORES

_KEY = ("image_id", "category", "box_index")
BOXES = pa.schema([field.remove_metadata() for field in DETECTIONS if field.name != "category"])
BOX = pa.struct([field.remove_metadata() for field in DETECTIONS if field.name not in _KEY])
_DISTANCES = ("anomaly_cells", "anomaly_pooled")
_LOGITS = ("defect_logit", "defect_probability")


@dataclass(frozen=True)
class Given:
    """What earlier runs give for some images.

    Attributes:
        runs: the runs, by number.
        models: those whose columns are given, not computed.
        facts: whether size, format and the like are given too: the image is not read.
        carry: (N,) number of the run whose columns are taken over; NOBODY: of none.
        features: (N,) number of the run whose features distances start from; NOBODY: of none.
    """

    runs: Mapping[int, EarlierRun]
    models: tuple[str, ...]
    facts: bool
    carry: np.ndarray
    features: np.ndarray


def with_given(rows: pa.Table, given: Given, distances: StoredDistances | None) -> pa.Table:
    """Adds the columns that the models would have added, and where they come from.

    Args:
        rows: N rows of the manifest, in the order of `given`.
        given: what there is for them.
        distances: computes distances; None: none are to be computed.

    Raises:
        DamagedTableError: a table of an earlier run is damaged, or has lost an image.
    """
    names = [*(IMAGE_FACTS if given.facts else ())]
    names += [*(_LOGITS if "classifier" in given.models else ())]
    names += [*(_DISTANCES if "features" in given.models else ())]
    ids = rows.column("image_id").to_numpy()
    categories = rows.column("category").to_pylist()
    boxed = "detector" in given.models
    columns = _carried(given, ids, categories, [*names, *(["detection_count"] if boxed else ())])
    counts = columns.pop("detection_count", None)
    if "features" in given.models and distances is not None:
        columns |= _computed(given, ids, categories, distances, columns)
    if counts is not None:
        columns["boxes"] = _boxes(given, ids, categories, counts.fill_null(0).to_numpy())
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    for name, numbers in (("origin", given.carry), ("features_origin", given.features)):
        rows = rows.append_column(name, _run_ids(given, numbers))
    return rows


def _run_ids(given: Given, numbers: np.ndarray) -> pa.Array:
    names = [None, *(run.run_id for run in given.runs.values())]
    place = {NOBODY: 0} | {number: 1 + i for i, number in enumerate(given.runs)}
    return pa.array(names, pa.string()).take(
        pa.array([place[n] for n in numbers.tolist()], pa.int64())
    )


def _carried(
    given: Given, ids: np.ndarray, categories: Sequence[str | None], names: Sequence[str]
) -> dict[str, pa.Array]:
    """Columns of scores, null where nothing is carried."""
    pieces, places = [], []
    for number, mine in _by_run(given.carry):
        run = given.runs[number]
        own = [categories[row] for row in mine]
        found = rows_of(run.tables["scores"], wanted(ids[mine], own), ["image_id", *names])
        pieces.append(_in_order(found, ids[mine], run))
        places.append(mine)
    if not pieces:
        return {name: pa.nulls(len(ids), SCORES.field(name).type) for name in names}
    table = pa.concat_tables(pieces, promote_options="default")
    take = np.full(len(ids), NOBODY, np.int64)
    take[np.concatenate(places)] = np.arange(table.num_rows)
    index = pa.array(take, mask=take == NOBODY)
    return {
        name: table.column(name).take(index).cast(SCORES.field(name).type).combine_chunks()
        if name in table.schema.names
        else pa.nulls(len(ids), SCORES.field(name).type)
        for name in names
    }


def _in_order(found: pa.Table, ids: np.ndarray, run: EarlierRun) -> pa.Table:
    """Rows in the order of ids, each of which must be there once."""
    have = found.column("image_id").to_numpy()
    order = np.argsort(have)
    places = np.searchsorted(have[order], ids)
    lost = places >= len(have)
    lost[~lost] = have[order][places[~lost]] != ids[~lost]
    if lost.any():
        file = run.tables["scores"][0].uri
        raise DamagedTableError(run.run_id, file, f"has lost image {ids[lost][0]}")
    return found.take(pa.array(order[places]))


def _by_run(numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    used = np.unique(numbers)
    return [(int(n), np.flatnonzero(numbers == n)) for n in used if n != NOBODY]


def _computed(
    given: Given,
    ids: np.ndarray,
    categories: Sequence[str | None],
    distances: StoredDistances,
    carried: Mapping[str, pa.Array],
) -> dict[str, pa.Array]:
    """Distances from stored features where a run has them, else those that are carried."""
    values = {name: np.full(len(ids), np.nan) for name in _DISTANCES}
    for number, mine in _by_run(given.features):
        own = [categories[row] for row in mine]
        files = given.runs[number].tables["features"]
        found = distances.of_images(files, ids[mine], own)
        for name, column in zip(_DISTANCES, found, strict=True):
            values[name][mine] = column
    computed = pa.array(given.features != NOBODY)
    return {
        name: pc.if_else(
            computed,
            pa.array(column, mask=np.isnan(column)).cast(pa.float32(), safe=False),
            carried[name],
        )
        for name, column in values.items()
    }


def _boxes(
    given: Given, ids: np.ndarray, categories: Sequence[str | None], counts: np.ndarray
) -> pa.Array:
    """The boxes of each image, as the detector's pool gives them: (N,) counts of them."""
    pieces, owners = [BOXES.empty_table()], [np.empty(0, np.int64)]
    for number, mine in _by_run(np.where(counts > 0, given.carry, NOBODY)):
        run = given.runs[number]
        own = [categories[row] for row in mine]
        found = rows_of(run.tables["detections"], wanted(ids[mine], own), BOXES.names)
        order = np.argsort(ids[mine])
        place = np.searchsorted(ids[mine][order], found.column("image_id").to_numpy())
        owners.append(mine[order][place])
        pieces.append(found)
        have = np.bincount(owners[-1], minlength=len(ids))[mine]
        if (have != counts[mine]).any():
            image = ids[mine][have != counts[mine]][0]
            file = run.tables["scores"][0].uri
            raise DamagedTableError(run.run_id, file, f"counts other boxes of image {image}")
    table = pa.concat_tables(pieces, promote_options="default")
    owner = np.concatenate(owners)
    order = np.lexsort((table.column("box_index").to_numpy(), owner))
    table = table.take(pa.array(order)).combine_chunks()
    fields = [table.column(field.name).combine_chunks().cast(field.type) for field in BOX]
    boxes = pa.StructArray.from_arrays(fields, fields=list(BOX))
    ends = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), boxes)
