"""The whole way on images made here: generate, index, train, fit, score, and a table.

Examples:
    linescore demo
    linescore demo backbone_weights=resnet18.safetensors detector_weights=yolov8n.pt
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import DemoConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(DemoConfig, __doc__ or "", argv)
        from pipeline.report.summary import demo_summary
        from pipeline.stages.demo import run_demo

        return answer(run_demo(config), demo_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
