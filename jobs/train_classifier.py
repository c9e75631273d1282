"""Train the good/defect classifier on a manifest's roles, and judge it on rows it never saw."""

import sys

from jobs.command import exit_status
from pipeline.config import TrainClassifierConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(TrainClassifierConfig, __doc__ or "", argv)
        from pipeline.report.classifier import classifier_summary
        from pipeline.stages.train_classifier import run_train_classifier

        return classifier_summary(run_train_classifier(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
