"""Make the page of a published run again."""

import sys

from jobs.command import exit_status
from pipeline.config import ReportConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(ReportConfig, __doc__ or "", argv)
        from pipeline.report.run_file import run_report

        return f"report: {run_report(config.store, config.run_id)['page']}"

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
