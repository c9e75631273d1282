"""The demo's images are neither trivial nor hopeless, whatever the seed."""

from __future__ import annotations

import pytest

from tests.samples.quality import areas

LEAST, MOST = 0.75, 0.995


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", range(5))
def test_every_category_lies_between_guessing_and_certainty(seed: int) -> None:
    found = areas(seed)
    print(seed, found)
    assert len(found) >= 3
    for category, (anomaly, classifier) in found.items():
        assert LEAST < anomaly < MOST, category
        assert LEAST < classifier < MOST, category
