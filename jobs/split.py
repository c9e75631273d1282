"""Split a manifest into roles: groups of near-duplicates stay together, shares are kept.

Examples:
    linescore split --config configs/split.yaml manifest=store/manifests/mvtec.parquet
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import SplitConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(SplitConfig, __doc__ or "", argv)
        from pipeline.report.split import split_summary
        from pipeline.stages.split import run_split

        return answer(run_split(config), split_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
