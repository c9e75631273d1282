"""The whole chain on the real images, unattended: every job as a user runs it, with its time.

From the checkout's root, with the real images and weights beside it:

    .venv/bin/python tests/real/chain.py ../shared FOLDER

What each job prints goes to FOLDER/chain.md; docs/figures.md quotes it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
WEIGHTS = "weights/resnet18_imagenet_to_layer3_bnfolded.safetensors"
YOLO = "weights/yolov8n_coco.pt"
# The detector's square: the tiles have 120 to 620 px; 640 takes four times as long.
DETECTOR_SIDE = 320
# Half of the defects to learn from: with the usual 40 % the detector has 42 of the tiles.
DEFECT_SHARES = ("defects.fit=0.5", "defects.validation=0.3", "defects.test=0.2")


def steps(shared: Path, store: Path) -> dict[str, list[str]]:
    """Job and settings, in order."""
    manifest, backbone = f"manifest={store}/manifests/real-split.parquet", shared / WEIGHTS
    here = f"store={store}"
    return {
        "index": [f"source={shared / 'real'}", here, "name=real"],
        "split": [
            f"manifest={store}/manifests/real.parquet",
            here,
            "name=real-split",
            "folds=3",
            *DEFECT_SHARES,
        ],
        "train_classifier": [
            manifest,
            here,
            "name=classifier",
            f"weights={backbone}",
            "trainable=layer3",
            "epochs=30",
            "patience=30",
            "batch_size=16",
            "layer_learning_rate=0.0003",
            "folds=3",
        ],
        "train_detector": [
            manifest,
            here,
            "name=detector",
            f"weights={shared / YOLO}",
            "trusted=true",
            f"image_size={DETECTOR_SIDE}",
            "epochs=60",
            "good_per_defect=0.5",
        ],
        "fit": [
            manifest,
            here,
            f"backbone.weights={backbone}",
            f"classifier.weights={store}/models/classifier/classifier.safetensors",
            f"detector.weights={store}/models/detector/detector.pt",
            "detector.trusted=true",
            f"detector.image_size={DETECTOR_SIDE}",
        ],
        "score": [manifest, here, "bundle=latest", "run_id=real"],
        "calibrate": [here, "run_id=real", "bundle=latest"],
    }


def main(shared: Path, folder: Path) -> int:
    """Runs all; the first failure's status."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "chain.md"
    began = time.monotonic()
    with text.open("w") as report:
        for job, settings in steps(shared, folder / "store").items():
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, f"jobs/{job}.py", *settings],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            line = f"## {job}: {time.monotonic() - started:.0f} s, status {done.returncode}"
            report.write(f"{line}\n\n```\n{done.stdout}```\n\n")
            report.flush()
            print(line, flush=True)
            if done.returncode:
                return done.returncode
        total = f"All together: {(time.monotonic() - began) / 60:.1f} min"
        report.write(total + "\n")
        print(total)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()))
