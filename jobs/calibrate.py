"""Find thresholds and probabilities on a run's validation rows; make a bundle with them.

Examples:
    linescore calibrate --config configs/calibrate.yaml run_id=split
"""

import sys

from jobs.command import Answer, answer, exit_status
from pipeline.config import CalibrateConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(CalibrateConfig, __doc__ or "", argv)
        from pipeline.report.calibration import calibrate_summary
        from pipeline.scoring.calibrate import run_calibrate

        return answer(run_calibrate(config), calibrate_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
