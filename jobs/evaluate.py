"""Count what every policy would have cost in false alarms and missed defects."""

import sys

from jobs.command import exit_status
from pipeline.config import EvaluateConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(EvaluateConfig, __doc__ or "", argv)
        from pipeline.evaluation.pictures import thumbnails
        from pipeline.report.evaluation import evaluate_summary
        from pipeline.report.evaluation_file import with_page

        if config.cluster:
            from pipeline.stages.evaluate import run_evaluate_on_cluster as run_evaluate
        else:
            from pipeline.evaluation.evaluate import run_evaluate
        report = run_evaluate(config)
        pictures = thumbnails if config.thumbnails else None
        return evaluate_summary(with_page(report, html=config.html, pictures=pictures))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
