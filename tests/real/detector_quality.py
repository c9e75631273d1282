"""How well a detector does on magnetic_tile: trains on half of its parts, judged on the others.

From the checkout's root: PYTHONPATH=. python tests/real/detector_quality.py SHARED STORE SPLIT
[KEY=VALUE …], where SHARED holds `real` and `weights`, SPLIT is `parts` or `images`, and the
settings are those of jobs/train_detector.py.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.config import IndexConfig, TrainDetectorConfig, load
from pipeline.report.detector import training_summary
from pipeline.stages.index import run_index
from pipeline.stages.train_detector import run_train_detector
from pipeline.tables import storage
from pipeline.tables.manifest import write_manifest

# The number in a file's name counts frames. Frames this close show the same part in another
# exposure, with its defect in the same place: seen on every pair that was looked at.
SAME_PART_FRAMES = 150
SEED = 0


def groups(uris: list[str], by_part: bool) -> np.ndarray:
    """(N,) a number per image: images of one part share it, or each has its own."""
    frames = np.array([int(re.search(r"num_(\d+)", uri)[1]) for uri in uris])
    order = np.argsort(frames, kind="stable")
    new = np.diff(frames[order], prepend=-SAME_PART_FRAMES - 1) > SAME_PART_FRAMES
    result = np.empty(len(uris), np.int64)
    result[order] = np.cumsum(new) if by_part else np.arange(len(uris))
    return result


def roles(kinds: list[str], group: np.ndarray) -> list[str]:
    """Half of each kind for fit, half for validation, in a seeded order of whole groups."""
    sides: dict[int, str] = {}
    counts: Counter[tuple[str, str]] = Counter()
    names = sorted(
        set(group.tolist()), key=lambda g: hashlib.sha256(f"{SEED} {g}".encode()).digest()
    )
    for name in names:
        members = Counter(kinds[i] for i in np.flatnonzero(group == name))
        kind = min(members, key=lambda k: (k == "good", -members[k], k))
        fuller = counts[kind, "fit"] > counts[kind, "validation"]
        sides[name] = "validation" if fuller else "fit"
        for other, number in members.items():
            counts[other, sides[name]] += number
    return [sides[name] for name in group.tolist()]


def manifest_with_roles(shared: Path, store: Path, split: str) -> str:
    """magnetic_tile, indexed and split; the manifest's place."""
    source = str(shared / "real" / "magnetic_tile")
    index = run_index(IndexConfig(source=source, store=str(store), name="magnetic_tile"))
    rows = storage.read_parquet(index["manifest"])
    group = groups(rows.column("uri").to_pylist(), by_part=split == "parts")
    column = pa.array(roles(rows.column("defect_type").to_pylist(), group), pa.string())
    rows = rows.set_column(rows.schema.get_field_index("role"), "role", column)
    target = str(store / "manifests" / f"magnetic_tile-{split}.parquet")
    write_manifest(target, rows)
    return target


def main(shared: str, store: str, split: str, *settings: str) -> None:
    """Trains, judges, prints."""
    manifest = manifest_with_roles(Path(shared), Path(store), split)
    given = [
        f"manifest={manifest}",
        f"store={store}",
        f"name=magnetic_tile-{split}",
        f"weights={shared}/weights/yolov8n_coco.pt",
        "trusted=true",
        "image_size=320",
        *settings,
    ]
    print(training_summary(run_train_detector(load(TrainDetectorConfig, None, given))))


if __name__ == "__main__":
    main(*sys.argv[1:])
