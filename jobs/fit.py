"""Fit the Gaussians of a manifest's good training images and make a bundle."""

import sys

from jobs.command import exit_status
from jobs.notices import notices
from pipeline.config import FitConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(FitConfig, __doc__ or "", argv)
        with notices("fit", config.notify, config.store, config.run_id) as told:
            from pipeline.report.summary import fit_summary
            from pipeline.stages.fit import run_fit

            return fit_summary(told.done(run_fit(config)))

    return exit_status(job)


if __name__ == "__main__":
    sys.exit(main())
