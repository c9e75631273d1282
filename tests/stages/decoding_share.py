"""How many blocks are decoded at once on a machine of so many CPUs: a process of its own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pyarrow as pa

from pipeline.images.decode import DecodeLimits
from pipeline.scoring.prepare import PrepareOptions
from pipeline.stages import chain
from pipeline.stages.cluster import PoolPlan
from pipeline.stages.local_ray import local_ray
from tests.benchmarks.synthetic import write_rows

BLOCK = 4


class Passing:
    """An actor that has nothing to do."""

    def __init__(self, settings: None) -> None:
        """Loads nothing."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows


def main() -> None:
    """Prints the most tasks at once, each of which waits a while."""
    given = json.load(sys.stdin)
    folder, wait = Path(given["folder"]), given["seconds"]

    def prepare_block(rows: pa.Table, options: PrepareOptions) -> pa.Table:
        began = time.time()
        time.sleep(wait)
        span = json.dumps([began, time.time()])
        (folder / f"{rows['image_id'][0].as_py()}.json").write_text(span)
        return rows

    def count(rows: pa.Table) -> pa.Table:
        return pa.table({"images": [len(rows)]})

    chain.prepare_block = prepare_block
    manifest = write_rows(folder, given["blocks"] * BLOCK)
    pools = tuple(
        chain.PoolStage(Passing, None, PoolPlan(size, 1.0, 0.0, 1), name)
        for name, size in given["pools"].items()
    )
    options = PrepareOptions(DecodeLimits(), square=4)
    plan = chain.ChainPlan(manifest, None, options, pools, BLOCK, 4 * BLOCK)
    with local_ray(given["cpus"], log_to_driver=False):
        done = chain.build_chain(plan, count, {})
        rows = sum(row["images"] for row in done.iter_rows())
    spans = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    # Not at its end, where the stage that cuts is done and asks for nothing any more.
    middle = sorted(began for began, _ in spans)[: len(spans) // 2]
    most = max(sum(a <= t < b for a, b in spans) for t in middle)
    print(json.dumps({"most": most, "blocks": rows // BLOCK}))


if __name__ == "__main__":
    main()
