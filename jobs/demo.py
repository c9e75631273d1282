"""The whole way on images made here: generate, index, train, fit, score, and a table."""

import sys

from jobs.command import exit_status
from pipeline.config import DemoConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(DemoConfig, __doc__ or "", argv)
        from pipeline.report.summary import demo_summary
        from pipeline.stages.demo import run_demo

        return demo_summary(run_demo(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
