"""Near-duplicates of given images among the rows of a run, by the run's own groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.evaluation.groups import Codes
from pipeline.evaluation.overlap import Ids
from pipeline.evaluation.table import ScoredTable, open_errors
from pipeline.tables.left_groups import groups_where_images_were_left
from pipeline.tables.lookup import member

_GROUPED = ("image_id", "group_id")
_NONE = np.zeros(0, np.int64)
# How near-duplicates are looked up: as `alike`.
AlikeOf = Callable[[ScoredTable, str, str, Ids], dict[str, Codes] | None]


def alike(table: ScoredTable, store: str, run_id: str, ids: Ids) -> dict[str, Codes] | None:
    """By what images did, ids of other images of a run that share a group with one, sorted.

    Groups are as the run's manifest has them, and say nothing of another run's images.

    Args:
        table: of runs, this one among them.
        store: of the runs.
        run_id: whose rows.
        ids: of the images.

    Returns:
        None where nobody knows: the run left images to earlier ones, and its manifest is gone.
    """
    manifest, doubt = groups_where_images_were_left(store, run_id)
    if doubt is not None:
        return None
    own = [table.of_file(n) for n, (run, _) in enumerate(table.runs) if run == run_id]
    # An image that failed in this run may have been seen all the same.
    everything = [manifest] if manifest is not None else [*own, open_errors(store, run_id)]
    groups: dict[str, list[Codes]] = {what: [_NONE] for what in ids}
    for images, theirs in _grouped(everything):
        for what, known in ids.items():
            groups[what].append(theirs[member(images, known)])
    seen = {what: np.unique(np.concatenate(parts)) for what, parts in groups.items()}
    found: dict[str, list[Codes]] = {what: [_NONE] for what in ids}
    for images, theirs in _grouped(own):
        for what, known in ids.items():
            found[what].append(images[member(theirs, seen[what]) & ~member(images, known)])
    return {what: np.unique(np.concatenate(parts)) for what, parts in found.items()}


def _grouped(tables: Sequence[ScoredTable | pa.Table]) -> Iterator[tuple[Codes, Codes]]:
    """Ids and groups (n,) of the rows that have a group, a batch at a time."""
    for table in tables:
        batches = [table] if isinstance(table, pa.Table) else table.batches(_GROUPED)
        for columns in batches:
            known = pc.is_valid(columns["group_id"])
            images, groups = (columns[name].filter(known).to_numpy() for name in _GROUPED)
            yield images, groups
