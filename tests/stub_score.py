"""`jobs/score.py` with stand-ins for the networks, run by tests that kill it or cut it off."""

from __future__ import annotations

import sys

from jobs.score import main
from tests.stub_models import models_of


def score_command(networks: bool) -> list[str]:
    """What starts the job, with its networks or with stubs."""
    return [sys.executable, *(["jobs/score.py"] if networks else ["-m", "tests.stub_score"])]


if __name__ == "__main__":
    with models_of(networks=False):
        status = main()
    sys.exit(status)
