"""Measures the score cube against reading the same columns, and against a DuckDB cross join.

    PYTHONPATH=. .venv/bin/python tests/benchmarks/engine.py --rows 10000000

All figures come from one run, interleaved and repeated, and are given as ratios to the floor:
pyarrow reading the five columns. Memory is the peak of a process of its own for each case.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.policy.cube import Groups, Rows, Rules, Settings, count, plan
from pipeline.policy.formula import All, AnyOf, Cut, Formula, settled

CATEGORIES = 15
SCORES = ("anomaly_score", "defect_probability", "detector_confidence")
# Good and up to six defect types a category: 88 groups in all, as in MVTec AD.
TYPES = [5] * 13 + [4, 4]
ROW_GROUP = 500_000
FILE_ROWS = 5_000_000
BATCH = 1 << 18
A, B, C = (Cut(score, slot) for slot, score in enumerate(SCORES))
TEMPLATES: tuple[Formula, ...] = (
    All((A, B, C)),
    AnyOf((A, B, C)),
    AnyOf((A, All((B, C)))),
)
SQL = ("{0} AND {1} AND {2}", "{0} OR {1} OR {2}", "{0} OR ({1} AND {2})")


def write_table(folder: Path, rows: int) -> list[Path]:
    """Files as runs publish them: sorted by category inside each, float32, no dictionary."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"part-{start // FILE_ROWS}.parquet" for start in range(0, rows, FILE_ROWS)]
    for number, name in enumerate(names):
        if not name.exists():
            table = made(number, min(FILE_ROWS, rows - number * FILE_ROWS))
            pq.write_table(
                table,
                name.with_suffix(".new"),
                compression="zstd",
                row_group_size=ROW_GROUP,
                use_dictionary=["category", "defect_type"],
            )
            name.with_suffix(".new").rename(name)
    return names


def made(number: int, rows: int) -> pa.Table:
    """Scores of good images and defects that overlap; some are missing."""
    rng = np.random.default_rng(number)
    category = np.sort(rng.integers(0, CATEGORIES, rows)).astype(np.int32)
    defect = rng.random(rows) < 0.3
    kind = np.where(defect, 1 + rng.integers(0, np.array(TYPES)[category]), 0).astype(np.int32)
    shift = 1.5 * defect + 0.1 * category
    scores = {}
    for score in SCORES:
        values = (rng.normal(size=rows) + shift).astype(np.float32)
        if score != SCORES[0]:
            values = (1 / (1 + np.exp(-values))).astype(np.float32)
        scores[score] = pa.array(values, mask=rng.random(rows) < 0.01)
    names = pa.array([f"category{c:02d}" for c in range(CATEGORIES)])
    types = pa.array(["good", *(f"type{k}" for k in range(1, max(TYPES) + 1))])
    return pa.table(
        scores
        | {
            "category": pa.DictionaryArray.from_arrays(category, names).cast(pa.string()),
            "defect_type": pa.DictionaryArray.from_arrays(kind, types).cast(pa.string()),
        }
    )


COLUMNS = [*SCORES, "category", "defect_type"]


def read_all(files: list[Path]) -> int:
    """The floor: every value of the five columns, decoded."""
    read = 0
    for file in files:
        with pq.ParquetFile(file, read_dictionary=["category", "defect_type"]) as parquet:
            for group in range(parquet.num_row_groups):
                read += parquet.read_row_group(group, columns=COLUMNS).num_rows
    return read


class Reader:
    """Batches of rows with group codes; a thread reads ahead."""

    def __init__(self, files: list[Path], *, labels: bool) -> None:
        self._files = files
        self._width = 2 if labels else 1 + max(TYPES)
        self.groups = Groups(np.repeat(np.arange(CATEGORIES), self._width))

    def __call__(self) -> Iterator[Rows]:
        queue: Queue[pa.Table | None] = Queue(2)
        threading.Thread(target=self._read, args=(queue,), daemon=True).start()
        while (table := queue.get()) is not None:
            yield self._rows(table)

    def _read(self, queue: Queue[pa.Table | None]) -> None:
        for file in self._files:
            with pq.ParquetFile(file, read_dictionary=["category", "defect_type"]) as parquet:
                for group in range(parquet.num_row_groups):
                    queue.put(parquet.read_row_group(group, columns=COLUMNS))
        queue.put(None)

    def _rows(self, table: pa.Table) -> Rows:
        scores = {s: table[s].combine_chunks().to_numpy(zero_copy_only=False) for s in SCORES}
        kind = self._codes(table["defect_type"], lambda name: min(number_of(name), self._width - 1))
        category = self._codes(table["category"], number_of)
        return Rows(scores, category * np.int16(self._width) + kind)

    def _codes(self, column: pa.ChunkedArray, number: Callable[[str], int]) -> np.ndarray:
        pieces = []
        for chunk in column.chunks:
            numbers = np.array([number(name) for name in chunk.dictionary.to_pylist()], np.int16)
            pieces.append(numbers[chunk.indices.to_numpy()])
        return np.concatenate(pieces)


def number_of(name: str) -> int:
    """The number in a synthetic name."""
    return 0 if name == "good" else int(name.removeprefix("category").removeprefix("type"))


def shapes(rules: int, per_score: int) -> list[Rules]:
    """So many rules, a third of each template; each category has thresholds of its own."""
    known = np.empty((CATEGORIES, len(SCORES), per_score))
    rng = np.random.default_rng(5)
    for category, slot in np.ndindex(known.shape[:2]):
        low, high = (-2, 4) if slot == 0 else (0.02, 0.98)
        known[category, slot] = [
            settled(value, np.float32) for value in rng.uniform(low, high, per_score)
        ]
    found = []
    for number, template in enumerate(TEMPLATES):
        own = len(range(number, rules, len(TEMPLATES)))
        values = np.empty((CATEGORIES, own, len(SCORES)))
        for category, slot in np.ndindex(known.shape[:2]):
            values[category, :, slot] = rng.choice(known[category, slot], own)
        found.append(Rules(template, np.arange(CATEGORIES), values))
    return found


CASES = {"100": (100, 20), "10,000": (10_000, 25), "1,000,000": (1_000_000, 100)}


def counted(files: list[Path], own: list[Rules], memory: int) -> tuple[str, list[np.ndarray]]:
    """Plans, reads and counts: the plan in words, and the counts."""
    # A million rules by category and label, fewer by category and defect type.
    reader = Reader(files, labels=sum(shape.count for shape in own) >= 1_000_000)
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    made = plan(own, reader.groups, rows, Settings(memory_bytes=memory))
    return made.says, count(made, reader)


def cross_join(files: list[Path], own: list[Rules], first: int) -> list[int]:
    """DuckDB: rows × the first rules of each template, grouped by rule, category and type."""
    connection = duckdb.connect()
    connection.execute("SET threads = 2")
    names = ", ".join(f"'{file}'" for file in files)
    totals = []
    for template, shape in zip(SQL, own, strict=True):
        take = shape.thresholds[:, :first]
        rule, category = np.meshgrid(np.arange(take.shape[1]), np.arange(CATEGORIES))
        rules = pa.table(  # noqa: F841  # DuckDB finds it by its name
            {
                "rule": rule.ravel(),
                "category": [f"category{c:02d}" for c in category.ravel()],
                **{f"t{s}": take[:, :, s].ravel().astype(np.float32) for s in range(len(SCORES))},
            }
        )
        cuts = [f"{score} >= t{slot}" for slot, score in enumerate(SCORES)]
        found = connection.execute(
            f"SELECT sum(n) FROM (SELECT rule, r.category, defect_type, count(*) AS n "  # noqa: S608
            f"FROM read_parquet([{names}]) AS r JOIN rules USING (category) "
            f"WHERE {template.format(*cuts)} GROUP BY ALL)"
        ).fetchone()
        totals.append(int(found[0]))
    return totals


def in_child(files: list[Path], case: str, memory: int) -> dict[str, float | str]:
    """Runs one case in a process of its own: its peak memory, seconds, and plan."""
    names = [str(file) for file in files]
    command = [sys.executable, __file__, "--child", json.dumps([case, memory, names])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(case: str, memory: int, names: list[str]) -> None:
    """The child's side; MB before the plan and at most, seconds of floor and engine."""
    files = [Path(name) for name in names]
    own = shapes(*CASES[case])
    before = peak_megabytes()
    start = time.perf_counter()
    says, _ = counted(files, own, memory)
    seconds = time.perf_counter() - start
    peak = peak_megabytes()
    start = time.perf_counter()
    read_all(files)
    floor = time.perf_counter() - start
    mb = {"before": before, "peak": peak}
    print(json.dumps(mb | {"seconds": seconds, "floor": floor, "says": says}))


def peak_megabytes() -> float:
    """The most that this process has held; ru_maxrss would count its parent's too (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3 if found else float("nan")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float], digits: int = 1) -> str:
    """Median, and the least and the most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def measure(files: list[Path], repeats: int, memory: int) -> None:
    """The table: each round reads the columns and then counts every case."""
    rules = {case: shapes(*sizes) for case, sizes in CASES.items()}
    read_all(files)
    floors: list[float] = []
    ratios: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(repeats):
        for case in CASES:
            floors.append(timed(lambda: read_all(files)))
            took = timed(lambda own=rules[case]: counted(files, own, memory))
            ratios[case].append(took / floors[-1])
    print(f"floor: {spread(floors, 2)} s\n")
    print("| rules | × floor | peak MB (before) | plan |\n|---|---|---|---|")
    for case in CASES:
        found = in_child(files, case, memory)
        mb = f"{found['peak']:.0f} ({found['before']:.0f})"
        print(f"| {case} | {spread(ratios[case])} | {mb} | {found['says']} |")
    long = in_child(files * LONG, "10,000", memory)
    ratio = float(long["seconds"]) / float(long["floor"])
    mb = f"{long['peak']:.0f} ({long['before']:.0f})"
    print(f"| 10,000, rows × {LONG} | {ratio:.1f} | {mb} | {long['says']} |")
    against_duckdb(files, rules["10,000"], memory)


def against_duckdb(files: list[Path], own: list[Rules], memory: int) -> None:
    """A timed part of the cross join, taken times the rest; the counts must be equal."""
    few = [Rules(s.formula, s.parts, s.thresholds[:, :JOINED].copy()) for s in own]
    ours = [int(found.sum()) for found in counted(files, few, memory)[1]]
    seconds, times = [], []
    for _ in range(2):
        start = time.perf_counter()
        theirs = cross_join(files, own, JOINED)
        seconds.append(time.perf_counter() - start)
        if theirs != ours:
            raise SystemExit(f"DuckDB counts {theirs}, the cube {ours}")
        times.append(timed(lambda: counted(files, own, memory)))
    joined = JOINED * len(own)
    share = sum(shape.count for shape in own) / joined
    ratio = statistics.median(seconds) * share / statistics.median(times)
    print(f"\nDuckDB cross join: {joined} rules in {spread(seconds)} s, counts equal; ", end="")
    print(f"10,000 rules extrapolated {share:.0f} ×: {ratio:,.0f} times the cube's time")


LONG = 10
JOINED = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, default=1 << 30, help="memory_bytes of the plans")
    parser.add_argument("--folder", type=Path, help="where the table is kept between runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*json.loads(options.child))
        return
    folder = options.folder or Path(tempfile.gettempdir()) / f"linescore-engine-{options.rows}"
    measure(write_table(folder, options.rows), options.repeats, options.memory)


if __name__ == "__main__":
    main()
