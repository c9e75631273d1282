"""Index images into a manifest: one row per distinct image.

Examples:
    linescore index source=data/mvtec_ad store=store name=mvtec
    linescore index source=s3://plant-7/images store=s3://plant-7/store name=line1 since=line1
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import IndexConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(IndexConfig, __doc__ or "", argv)
        from pipeline.report.summary import index_summary
        from pipeline.stages.index import run_index

        return answer(run_index(config), index_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
