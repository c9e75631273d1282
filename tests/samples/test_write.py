"""A written sample: the MVTec AD layout, its counts, exact files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.samples.render import render
from pipeline.samples.spec import CATEGORIES, SampleSpec, demo_archive, demo_training
from pipeline.samples.write import write_sample

SPEC = SampleSpec(7, 48, train_good=3, test_good=2, per_defect=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, SPEC)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_layout_is_mvtec_ads(root: Path) -> None:
    expected = set()
    for category, entry in CATEGORIES.items():
        expected |= {f"{category}/train/good/{i:03d}.png" for i in range(3)}
        expected |= {f"{category}/test/good/{i:03d}.png" for i in range(2)}
        for kind in entry.defects:
            expected |= {f"{category}/test/{kind}/{i:03d}.png" for i in range(2)}
            expected |= {f"{category}/ground_truth/{kind}/{i:03d}_mask.png" for i in range(2)}
    assert set(files(root)) == expected


def test_files_hold_what_render_returns(root: Path) -> None:
    for category, entry in CATEGORIES.items():
        for kind in entry.defects:
            pixels, mask = render(category, kind, "test", 1, SPEC)
            image = np.asarray(Image.open(root / category / "test" / kind / "001.png"))
            truth = np.asarray(Image.open(root / category / "ground_truth" / kind / "001_mask.png"))
            assert np.array_equal(image, pixels)
            assert np.array_equal(truth, np.where(mask, 255, 0))
            assert truth.dtype == np.uint8


def test_counts_are_those_of_the_files(root: Path, tmp_path: Path) -> None:
    counts = write_sample(tmp_path, SPEC)
    for category, splits in counts.items():
        for split, kinds in splits.items():
            for kind, count in kinds.items():
                assert len(list((root / category / split / kind).iterdir())) == count
    assert set(counts) == set(CATEGORIES)
    assert files(tmp_path) == files(root)


def test_a_subset_is_the_same_bytes(root: Path, tmp_path: Path) -> None:
    counts = write_sample(tmp_path, SampleSpec(7, 48, 1, 0, 1, categories=("washer", "fabric")))
    whole = files(root)
    assert all(whole[name] == content for name, content in files(tmp_path).items())
    assert list(counts) == ["washer", "fabric"]
    assert counts["washer"]["train"] == {"good": 1}
    assert counts["washer"]["test"]["good"] == 0


def test_nothing_is_written_when_nothing_is_asked(tmp_path: Path) -> None:
    write_sample(tmp_path, SampleSpec(0, 64, 0, 0, 0))
    assert files(tmp_path) == {}


def test_the_demos_two_samples_share_no_image() -> None:
    archive, training = demo_archive(4), demo_training(4)
    assert archive.size == training.size
    assert archive.seed != training.seed
    for kind, split in ((None, "train"), (None, "test"), ("rust", "test")):
        ours, theirs = (render("washer", kind, split, 0, one)[0] for one in (archive, training))
        assert not np.array_equal(ours, theirs)
