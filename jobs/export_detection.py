"""Write a manifest's images and boxes as a dataset that ultralytics trains on.

Examples:
    linescore export_detection --config configs/export_detection.yaml target=yolo-dataset
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import ExportDetectionConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(ExportDetectionConfig, __doc__ or "", argv)
        from pipeline.report.detector import export_summary
        from pipeline.scoring.export import run_export

        return answer(run_export(config), export_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
