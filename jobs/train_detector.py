"""Fine-tune a YOLOv8 detector on the masks of a manifest's `fit` rows and judge it on others."""

import sys

from jobs.command import exit_status
from pipeline.config import TrainDetectorConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(TrainDetectorConfig, __doc__ or "", argv)
        from pipeline.report.detector import training_summary
        from pipeline.stages.train_detector import run_train_detector

        return training_summary(run_train_detector(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
