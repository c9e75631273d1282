"""Compare a run with a reference run: scores, images, flagged rates; a verdict per category.

Examples:
    linescore monitor store=store run_id=2026-11-25 reference=first
"""

import sys

from jobs.command import DRIFT, FAILED, SUCCESS, Answer, answer, exit_status
from jobs.notices import notices
from pipeline.config import MonitorConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status, which is 3 for drift."""

    def job() -> Answer:
        config = parse(MonitorConfig, __doc__ or "", argv)
        with notices("monitor", config.notify, config.store, config.run_id) as told:
            from pipeline.evaluation.monitor.run import run_monitor
            from pipeline.report.monitor import monitor_summary
            from pipeline.report.monitor_file import with_page

            report = with_page(run_monitor(config), html=config.html)
            status = {"drift": DRIFT, "not_comparable": FAILED}.get(report["verdict"], SUCCESS)
            return answer(told.done(report, status), monitor_summary, status)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
