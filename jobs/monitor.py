"""Compare a run with a reference run: scores, images, flagged rates; a verdict per category."""

import sys

from jobs.command import DRIFT, FAILED, SUCCESS, Answer, exit_status
from pipeline.config import MonitorConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status, which is 3 for drift."""

    def job() -> Answer:
        config = parse(MonitorConfig, __doc__ or "", argv)
        from pipeline.evaluation.monitor.run import run_monitor
        from pipeline.report.monitor import monitor_summary
        from pipeline.report.monitor_file import with_page

        report = run_monitor(config)
        status = {"drift": DRIFT, "not_comparable": FAILED}.get(report["verdict"], SUCCESS)
        return Answer(monitor_summary(with_page(report, html=config.html)), status)

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
