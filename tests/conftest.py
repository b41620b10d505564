"""What every test may ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from soma_bench.settings import models_dir


@pytest.fixture(scope="session")
def embedded_models() -> Path:
    """The models folder with the embedded model in it, fetched if it is not there yet.

    It is the user's own, so that only the first run of the tests needs a network.
    """
    from soma_bench.providers.embedded_pull import pull

    folder = models_dir()
    pull(folder)
    return folder
