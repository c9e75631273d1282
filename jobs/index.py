"""Index images into a manifest: one row per distinct image."""

import sys

from jobs.command import exit_status
from pipeline.config import IndexConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(IndexConfig, __doc__ or "", argv)
        from pipeline.report.summary import index_summary
        from pipeline.stages.index import run_index

        return index_summary(run_index(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
