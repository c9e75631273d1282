"""Make the page of a published run again.

Examples:
    linescore report store=store run_id=april
"""

import sys

from jobs.command import Answer, exit_status
from pipeline.config import ReportConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(ReportConfig, __doc__ or "", argv)
        from pipeline.report.run_file import run_report

        report = run_report(config.store, config.run_id)
        return Answer(f"report: {report['page']}", report=report)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
