"""One small store and one browser for all tests of the app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.app.stores import Place, small_store


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two runs of sample images, some names of defect types hostile; read only."""
    return small_store(tmp_path_factory.mktemp("small"), evil=True)


@pytest.fixture(scope="module")
def chrome() -> Iterator[object]:
    """A browser, closed behind its tests: while it is open its event loop runs in this thread."""
    from tests.app.browsing import browser

    with browser() as opened:
        yield opened
