"""Fine-tune a YOLOv8 detector on the masks of a manifest's `fit` rows and judge it on others.

Examples:
    linescore train_detector --config configs/train_detector.yaml
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import TrainDetectorConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(TrainDetectorConfig, __doc__ or "", argv)
        from pipeline.report.detector import training_summary
        from pipeline.stages.train_detector import run_train_detector

        return answer(run_train_detector(config), training_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
