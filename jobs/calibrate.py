"""Find thresholds and probabilities on a run's validation rows; make a bundle with them."""

import sys

from jobs.command import exit_status
from pipeline.config import CalibrateConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(CalibrateConfig, __doc__ or "", argv)
        from pipeline.report.calibration import calibrate_summary
        from pipeline.scoring.calibrate import run_calibrate

        return calibrate_summary(run_calibrate(config))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
