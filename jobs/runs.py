"""List, show, compare and delete the runs of a store: runs VERB [RUN ...] [KEY=VALUE ...].

Examples:
    linescore runs list store=store
    linescore runs show april store=store verify=true
    linescore runs prune store=store keep_last=30        # says what would go; yes=true does it
"""

import sys

from jobs.command import exit_status
from pipeline.config import parse_runs


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse_runs(__doc__ or "", argv)
        from pipeline.evaluation.housekeeping import run_runs
        from pipeline.report.runs import runs_text

        return runs_text(run_runs(config), as_json=config.output == "json")

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
