"""An archive with broken files among good ones: one row each in `errors`, and the run completes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import IndexConfig
from pipeline.stages.index import run_index
from pipeline.tables.runs import load_table
from tests.conftest import ONE_ACTOR_SET, TinyStore, run_job, save

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

BOMB_SIDE = 60_000


def good_png() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def bomb_png() -> bytes:
    """60000 × 60000 white pixels, complete and correct, in half a megabyte."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(1)
    row = b"\0" + b"\xff" * (BOMB_SIDE // 8)
    data = b"".join(packer.compress(row) for _ in range(BOMB_SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def one_pixel_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def animated_gif() -> bytes:
    frames = [Image.new("L", (64, 64), level) for level in (0, 120, 250)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "truncated.png": (lambda: good_png()[:-900], "truncated"),
    "empty.png": (lambda: b"", "empty_file"),
    "text.png": (lambda: b"this is a note of the night shift\n" * 9, "not_an_image"),
    "gone.png": (good_png, "not_found"),
    "locked.png": (lambda: good_png() + b"locked", "permission_denied"),
    "bomb.png": (bomb_png, "too_large"),
    "point.png": (one_pixel_png, "too_small"),
    "moving.gif": (animated_gif, "animated"),
}
# These two are among the good images only after indexing.
CHANGED = "changed.png"


def build(root: Path) -> None:
    for name, (content, _) in BROKEN.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content())
    for index in range(20):
        noise = np.random.default_rng(index + 1).integers(0, 255, (70, 64, 3), np.uint8)
        save(root / f"good-{index:02d}.png", noise)
    save(root / CHANGED, np.zeros((64, 64, 3), np.uint8))
    (root / "locked.png").chmod(0)


@pytest.fixture(scope="module")
def errors_run(
    tiny_store: TinyStore, cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict], list[dict], str]:
    folder = tmp_path_factory.mktemp("errors")
    root, store = folder / "archive", folder / "store"
    build(root)
    index = run_index(
        IndexConfig(source=str(root), store=str(store), name="night", category="bolt")
    )
    (root / "gone.png").unlink()
    save(root / CHANGED, np.ones((64, 64, 3), np.uint8))
    done = run_job(
        "score",
        f"manifest={index['manifest']}",
        f"bundle={tiny_store.bundle}",
        f"store={store}",
        "run_id=night",
        "commit_rows=8",
        "block_rows=8",
        *ONE_ACTOR_SET,
        address=cluster,
    )
    assert done.returncode == 0, done.stderr
    errors = {
        Path(row["uri"]).name: row for row in load_table(str(store), "night", "errors").to_pylist()
    }
    scores = load_table(str(store), "night", "scores").to_pylist()
    return store, errors, scores, done.stdout


@pytest.mark.parametrize("name", [*BROKEN])
def test_each_broken_file_has_one_row_with_its_reason(
    errors_run: tuple[Path, dict[str, dict], list[dict], str], name: str
) -> None:
    _, errors, _, _ = errors_run
    assert errors[name]["error_type"] == BROKEN[name][1]
    assert name in errors[name]["error_message"]


def test_a_file_that_changed_since_the_index_is_not_scored_as_if_it_had_not(
    errors_run: tuple[Path, dict[str, dict], list[dict], str],
) -> None:
    _, errors, _, _ = errors_run
    assert errors[CHANGED]["error_type"] == "content_changed"


def test_the_good_images_are_scored_and_nothing_else(
    errors_run: tuple[Path, dict[str, dict], list[dict], str],
) -> None:
    _, errors, scores, output = errors_run
    assert set(errors) == {*BROKEN, CHANGED}
    assert sorted(Path(row["uri"]).name for row in scores) == [
        f"good-{index:02d}.png" for index in range(20)
    ]
    assert all(row["anomaly_score"] is not None for row in scores)
    assert "29 images: 20 scored, 9 errors" in output


def test_limits_are_named_in_the_message(
    errors_run: tuple[Path, dict[str, dict], list[dict], str],
) -> None:
    _, errors, _, _ = errors_run
    assert "60000" in errors["bomb.png"]["error_message"]
    assert "16" in errors["point.png"]["error_message"]
