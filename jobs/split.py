"""Split a manifest into roles: groups of near-duplicates stay together, shares are kept."""

import sys

from jobs.command import exit_status
from pipeline.config import SplitConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(SplitConfig, __doc__ or "", argv)
        from pipeline.report.split import split_summary
        from pipeline.stages.split import run_split

        return split_summary(run_split(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
