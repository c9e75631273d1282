"""Score every image of a manifest with a bundle and publish the tables."""

import sys

from jobs.command import exit_status
from jobs.notices import notices
from pipeline.config import ScoreConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(ScoreConfig, __doc__ or "", argv)
        with notices("score", config.notify, config.store, config.run_id) as told:
            from pipeline.report.run_file import with_run_page
            from pipeline.report.summary import score_summary
            from pipeline.stages.score import run_score

            return score_summary(told.done(with_run_page(run_score(config), config.store)))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
