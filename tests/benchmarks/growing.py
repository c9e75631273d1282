"""More rows and more nodes: memory stays, speed grows. Models are replaced by stubs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.benchmarks.stub_run import Seen, StubTask, run
from tests.benchmarks.synthetic import write_rows

# Per stage, of a stub that waits: three stages one after the other.
WAIT_S = 0.02


@contextmanager
def store() -> Iterator[tuple[Path, str]]:
    """A folder, and a bundle of small networks in it, which the stubs never load."""
    from pipeline.stages.fit import run_fit
    from tests.conftest import tiny_fit_config, write_tiny_models

    with tempfile.TemporaryDirectory(prefix="linescore-growing-") as name:
        folder = Path(name)
        few = write_rows(folder, 64)
        table = pq.read_table(few)
        place = table.schema.get_field_index("split")
        trained = table.set_column(place, "split", [["train"] * len(table)])
        place = table.schema.get_field_index("is_defect")
        trained = trained.set_column(place, "is_defect", [[False] * len(table)])
        pq.write_table(trained.cast(table.schema), few)
        models = write_tiny_models(folder)
        yield folder, run_fit(tiny_fit_config(few, folder, models))["bundle"]


def settings(folder: Path, bundle: str, manifest: str, run_id: str) -> dict[str, Any]:
    return {
        "manifest": manifest,
        "bundle": bundle,
        "store": str(folder),
        "run_id": run_id,
        "reuse": False,
        "progress_s": 3600,
    }


def memory(counts: tuple[int, ...]) -> dict[int, Seen]:
    """Peaks of driver and workers for so many images."""
    found = {}
    with store() as (folder, bundle):
        for count in counts:
            manifest = write_rows(folder, count)
            score = settings(folder, bundle, manifest, f"rows-{count}")
            score |= {"block_rows": 256, "commit_rows": 1024}
            found[count] = run(StubTask(score))
    return found


def rows(counts: tuple[int, ...]) -> dict[int, Seen]:
    """The driver's peak for many rows: of each block one image is decoded and stands for all."""
    found = {}
    with store() as (folder, bundle):
        for count in counts:
            score = settings(folder, bundle, write_rows(folder, count), f"many-{count}")
            score |= {"block_rows": 2048}
            found[count] = run(StubTask(score, object_store_bytes=2 * 2**30, decode=False))
    return found


def scaling(
    nodes: tuple[int, ...], images: int = 1500, sizes: Mapping[str, int] | None = None
) -> dict[int, float]:
    """Images a second on so many nodes, each with an actor of each kind that waits.

    Args:
        nodes: how many, one run each.
        images: for each node.
        sizes: of blocks and commits; None: as a run has them by itself.
    """
    found = {}
    with store() as (folder, bundle):
        for count in nodes:
            manifest = write_rows(folder, images * count)
            score = settings(folder, bundle, manifest, f"nodes-{count}")
            pools = ("detector", "features", "classifier")
            score |= {"pools": {name: {"size": count, "num_cpus": 1.0} for name in pools}}
            score |= sizes or {}
            found[count] = run(StubTask(score, count, 4, WAIT_S)).images_per_s
    return found


if __name__ == "__main__":
    import sys

    if sys.argv[1] in ("memory", "rows"):
        measure = memory if sys.argv[1] == "memory" else rows
        for count, seen in measure(tuple(map(int, sys.argv[2:]))).items():
            print(
                count, seen.images, seen.driver >> 20, "MB driver", seen.worker >> 20, "MB worker"
            )
    else:
        print(scaling(tuple(map(int, sys.argv[2:]))))
