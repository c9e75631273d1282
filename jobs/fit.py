r"""Fit the Gaussians of a manifest's good training images and make a bundle.

Examples:
    linescore fit --config configs/fit.yaml
    linescore fit manifest=store/manifests/mvtec.parquet store=store \
        backbone.weights=resnet18.safetensors
"""

import sys

from jobs.command import Answer, answer, exit_status
from jobs.notices import notices
from pipeline.config import FitConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> Answer:
        config = parse(FitConfig, __doc__ or "", argv)
        with notices("fit", config.notify, config.store, config.run_id) as told:
            from pipeline.report.summary import fit_summary
            from pipeline.stages.fit import run_fit

            return answer(told.done(run_fit(config)), fit_summary)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
