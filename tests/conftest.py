"""What every test may ask for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from soma_bench.settings import THREADS_VARIABLE, models_dir
from soma_bench.sweeps.store import Store


def pytest_configure() -> None:
    """Settle what the tests' processes inherit."""
    # Two tests run at a time, and llama.cpp's threads, which spin, do badly beside a busy neighbour.
    os.environ.setdefault(THREADS_VARIABLE, "1")
    # A shell that runs the tests in the background has them ignore SIGINT, and so their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded_models() -> Path:
    """The models folder with the embedded model in it, fetched if it is not there yet.

    It is the user's own, so that only the first run of the tests needs a network.
    """
    from soma_bench.providers.embedded_pull import pull

    folder = models_dir()
    pull(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of its own for each test, made anew."""
    with Store(str(tmp_path / "runs.db"), create=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def tracer_provider() -> Iterator[TracerProvider]:
    """The process's OpenTelemetry SDK, which can be set once; tests add exporters of their own."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    yield provider
    provider.shutdown()
