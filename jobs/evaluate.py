r"""Count what every policy would have cost in false alarms and missed defects.

Examples:
    linescore evaluate store=store run_id=april policies=configs/policies/linescore
    linescore evaluate store=store run_id=april policies=configs/policies/linescore \
        explain=123456789
    linescore evaluate table=scores.parquet columns.is_defect=label policies=mine.json \
        store=store --json
"""

import sys

from jobs.command import Answer, answer, exit_status
from jobs.notices import notices
from pipeline.config import EvaluateConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
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
            return answer(told.done(report), evaluate_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
