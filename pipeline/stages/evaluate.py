"""An evaluation on a cluster: cells are counted where the tables lie, and summed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

from pipeline.config import EvaluateConfig
from pipeline.evaluation.counting import Counting, Way
from pipeline.evaluation.evaluate import run_evaluate
from pipeline.evaluation.groups import Codes
from pipeline.evaluation.kept import cells_of, from_table, layout_of, no_cells, to_table
from pipeline.policy.cube import counts, merge
from pipeline.stages.chain import quiet
from pipeline.stages.cluster import connected


def run_evaluate_on_cluster(config: EvaluateConfig) -> dict[str, Any]:
    """As `run_evaluate`, with equal counts.

    Raises:
        InputError: as `run_evaluate`.
    """
    with connected(config.ray):
        return run_evaluate(config, Way(on_cluster))


def on_cluster(work: Counting) -> tuple[list[Codes], str]:
    """Counts (P, G) of each of the rules: sparse cells of each file, by Ray Data, added up."""
    quiet()
    layout = layout_of(work)
    shared = ray.put(work)
    files = ray.data.from_items([{"file": n} for n in range(len(work.table.uris))])
    found = files.repartition(len(work.table.uris)).map_batches(
        _cells, fn_args=(shared,), batch_format="pyarrow", batch_size=None, num_cpus=1
    )
    parts = [
        from_table(block, layout)
        for block in found.iter_batches(batch_size=None, batch_format="pyarrow")
        if block.num_rows
    ]
    says = f"sparse cells of {len(work.table.uris)} files, counted on the cluster and added"
    return counts(merge([no_cells(layout), *parts]), layout, work.rules), says


def _cells(block: pa.Table, shared: Any) -> pa.Table:
    work: Counting = ray.get(shared)
    layout = layout_of(work)
    found = [
        cells_of(work, work.table.of_file(number), layout)
        for number in block.column("file").to_pylist()
    ]
    return to_table(merge([no_cells(layout), *found]))
