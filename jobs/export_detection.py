"""Write a manifest's images and boxes as a dataset that ultralytics trains on."""

import sys

from jobs.command import exit_status
from pipeline.config import ExportDetectionConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(ExportDetectionConfig, __doc__ or "", argv)
        from pipeline.report.detector import export_summary
        from pipeline.scoring.export import run_export

        return export_summary(run_export(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
