"""The ledger alone: rows a second that are committed, and published, and what they weigh."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.tables import storage
from pipeline.tables.ledger import commit_tables, read_commits
from pipeline.tables.manifest import ID_END
from pipeline.tables.publication import FileLimits, build_file, plan_files
from pipeline.tables.runs import RunPlaces
from pipeline.tables.schemas import RUN_TABLES
from pipeline.tables.tally import Tally
from tests.benchmarks.rescore import synthetic

COMMIT_ROWS = 128


@dataclass(frozen=True)
class LedgerSpeed:
    """What the ledger did, on one core.

    Attributes:
        rows: images.
        committed_per_s, published_per_s: images a second.
        committed_bytes, published_bytes: of the files, an image.
    """

    rows: int
    committed_per_s: float
    published_per_s: float
    committed_bytes: float
    published_bytes: float


def measure(rows: int) -> LedgerSpeed:
    """Commits rows of scores, boxes and errors in batches, then publishes them."""
    rng = np.random.default_rng(6)
    ids = np.sort(rng.choice(ID_END, rows, replace=False))
    names = np.array(["part"] * rows)
    batches = [
        synthetic(rng, ids[start : start + COMMIT_ROWS], names[start : start + COMMIT_ROWS], "none")
        for start in range(0, rows, COMMIT_ROWS)
    ]
    for tables in batches:
        del tables["features"]
    with tempfile.TemporaryDirectory(prefix="linescore-ledger-") as folder:
        places = RunPlaces(folder, "one")
        started = time.perf_counter()
        for tables in batches:
            commit_tables(places.folder, tables)
        committed = time.perf_counter()
        weight = _bytes(Path(places.folder))
        tally = Tally(ids)
        commits = tally.take(read_commits(places.folder))
        for table in RUN_TABLES:
            target = places.table(table, "0" * 16)
            for plan in plan_files(
                commits, table, target, FileLimits(1_000_000, 256 * 1024**2), tally.repeated
            ):
                build_file(places.folder, plan, np.empty(0, np.int64))
        storage.write_json(places.published, {})
        published = time.perf_counter()
        return LedgerSpeed(
            rows,
            rows / (committed - started),
            rows / (published - committed),
            weight / rows,
            _bytes(Path(folder, "tables")) / rows,
        )


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


if __name__ == "__main__":
    print(measure(20_000))
