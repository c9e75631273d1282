"""Look at a store's runs in the browser: counts, thresholds, images, decisions with reasons.

Examples:
    linescore app store=store policies=configs/policies/linescore
    linescore app --store s3://plant-7/store --allow-labels
"""

import sys

from jobs.command import exit_status
from pipeline.config import AppConfig, parse


def main(argv: list[str] | None = None) -> int:
    """The job; its exit status."""

    def job() -> str:
        config = parse(AppConfig, __doc__ or "", argv)
        from pipeline.app.serve import serve

        return serve(config)

    return exit_status(job, argv)


if __name__ == "__main__":
    sys.exit(main())
