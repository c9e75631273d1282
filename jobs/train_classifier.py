"""Train the good/defect classifier on a manifest's roles, and judge it on rows it never saw.

Examples:
    linescore train_classifier --config configs/train_classifier.yaml
    linescore train_classifier --config configs/train_classifier.yaml name=layer3 epochs=10
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import TrainClassifierConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(TrainClassifierConfig, __doc__ or "", argv)
        from pipeline.report.classifier import classifier_summary
        from pipeline.stages.train_classifier import run_train_classifier

        return answer(run_train_classifier(config), classifier_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
