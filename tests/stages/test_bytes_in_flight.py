"""What a task holds of a remote store's files: few large ones, as their sizes say."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipeline.config import LimitsConfig, TrainClassifierConfig
from pipeline.scoring.prepare import options_for
from pipeline.stages import fingerprints, index
from pipeline.stages.classifier_plan import plan_fits, used_table
from pipeline.stages.decode import prepare_block
from pipeline.tables.layout import Entry
from pipeline.tables.manifest import write_manifest
from pipeline.tables.training_rows import labelled_rows
from tests.detection import table

LIMIT = 256 * 1024**2
# Of a line-scan TIFF.
SIZE = 100 * 1024**2
FILES = 40


class Held:
    """A store whose files have a size without the bytes: counts those that are held at once."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.now = self.most = self.reads = 0

    def fetch(self, *_: object) -> bytes:
        with self._lock:
            self.reads += 1
            self.now += SIZE
            self.most = max(self.most, self.now)
        time.sleep(0.002)  # so that reads that may be in flight together are
        return Content(self)

    def let_go(self) -> None:
        with self._lock:
            self.now -= SIZE


class Content(bytes):
    """Tells when nobody holds it any more; no image."""

    def __new__(cls, held: Held) -> Content:
        made = super().__new__(cls, b"no image")
        made.held = held
        return made

    def __del__(self) -> None:
        self.held.let_go()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr("pipeline.stages.index.fetch", held.fetch)
    monkeypatch.setattr("pipeline.stages.decode.fetch", held.fetch)
    return held


def manifest_rows() -> list[dict]:
    """Rows of large files, good and defective, of the roles that a training needs."""
    return [
        {
            "image_id": number,
            "uri": f"memory://scans/{number:02d}.tif",
            "sha256": f"{number:064x}",
            "bytes": SIZE,
            "category": "web",
            "role": ("fit", "validation")[number % 4 // 2],
            "defect_type": ("good", "tear")[number % 2],
            "is_defect": bool(number % 2),
        }
        for number in range(FILES)
    ]


def require_few(held: Held) -> None:
    assert held.reads == FILES
    assert SIZE < held.most <= LIMIT, f"{held.most // SIZE} files of 100 MB at once"
    assert held.now == 0


def test_an_index_holds_few_large_files(held: Held) -> None:
    entries = [Entry(row["uri"], SIZE) for row in manifest_rows()]
    index._hash_block(index._unread(entries, [False] * FILES), 10**9)
    require_few(held)


def test_a_split_holds_few_large_files(held: Held) -> None:
    for block in fingerprints._blocks(table(manifest_rows())):
        fingerprints._hash_block(block, options_for(LimitsConfig(), square=32))
    require_few(held)


def test_a_classifiers_training_holds_few_large_files(held: Held, tmp_path: Path) -> None:
    uri = str(tmp_path / "manifest.parquet")
    write_manifest(uri, table(manifest_rows()))
    rows = labelled_rows(uri, ("fit", "validation"))
    config = TrainClassifierConfig(manifest=uri, store="s", name="n")
    block = used_table(plan_fits(rows, config, uri), rows, seed=0)
    prepare_block(block, options_for(LimitsConfig(), square=32))
    require_few(held)
