"""What every test may ask for."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from soma_bench.settings import models_dir
from soma_bench.sweeps.store import Store


def pytest_configure() -> None:
    """Let SIGINT be heard: a shell that runs the tests in the background has all children ignore it."""
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


SUITES = Path(__file__).parent.parent / "data" / "suites"
SMALL_SWEEP = f"""\
name: small
suites:
  alignment: {SUITES}/alignment.jsonl
  radiologist: {SUITES}/radiologist.jsonl
  pathologist: {SUITES}/pathologist.jsonl
  report_writer: {SUITES}/report_writer.jsonl
  qc_reviewer: {SUITES}/qc_reviewer.jsonl
cases_per_agent: 1
targets:
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_1
    thinking: [off, 8]
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_0
    thinking: [off]
    agents: [alignment]
options: {{seed: 1, context_tokens: 2048, cache_prompt: true}}
"""


@pytest.fixture(scope="session")
def measured_sweep(tmp_path_factory: pytest.TempPathFactory, embedded_models: Path) -> Path:
    """A folder with ``small.yaml``, measured once by the command line: ``runs.db``, ``outcome.json``.

    Who changes the store copies it first.
    """
    from soma_bench.providers.quantize import quantize

    quantize(["Q4_0"], embedded_models)
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yaml").write_text(SMALL_SWEEP)
    command = [sys.executable, "-m", "soma_bench", "sweep", str(folder / "small.yaml"), "--json"]
    done = subprocess.run(
        [*command, "--store", str(folder / "runs.db")],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["called"], outcome["failed"]) == (11, 0)
    (folder / "outcome.json").write_text(done.stdout)
    return folder


@pytest.fixture(scope="session")
def tracer_provider() -> Iterator[TracerProvider]:
    """The process's OpenTelemetry SDK, which can be set once; tests add exporters of their own."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    yield provider
    provider.shutdown()
