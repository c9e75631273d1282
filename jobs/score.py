"""Score every image of a manifest with a bundle and publish the tables.

Examples:
    linescore score --config configs/score.yaml run_id=april
    linescore score manifest=store/manifests/mvtec.parquet bundle=latest store=store --json
    linescore score --config configs/score.yaml run_id=2026-11-25 --skip-scored
"""

import sys

from jobs.command import Answer, answer, exit_status
from jobs.notices import notices
from pipeline.config import ScoreConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(ScoreConfig, __doc__ or "", argv)
        with notices("score", config.notify, config.store, config.run_id) as told:
            from pipeline.report.run_file import with_run_page
            from pipeline.report.summary import score_summary
            from pipeline.stages.score import run_score

            return answer(told.done(with_run_page(run_score(config), config.store)), score_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
