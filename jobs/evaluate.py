"""Count what every policy would have cost in false alarms and missed defects."""

import sys

from jobs.command import exit_status
from jobs.notices import notices
from pipeline.config import EvaluateConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status, which is 4 where no image was scored."""

    def job() -> str:
        config = parse(EvaluateConfig, __doc__ or "", argv)
        with notices("evaluate", config.notify, config.store, None) as told:
            from pipeline.evaluation.pictures import thumbnails
            from pipeline.report.evaluation import evaluate_summary
            from pipeline.report.evaluation_file import with_page

            if config.cluster:
                from pipeline.stages.evaluate import run_evaluate_on_cluster as run_evaluate
            else:
                from pipeline.evaluation.evaluate import run_evaluate
            pictures = thumbnails if config.thumbnails else None
            report = with_page(run_evaluate(config), html=config.html, pictures=pictures)
            return evaluate_summary(told.done(report))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
