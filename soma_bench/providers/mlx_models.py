"""Models in MLX's form on this machine: folders of our own, and the Hugging Face cache.

A model is a folder with ``config.json`` and ``model*.safetensors``. Its name is the folder's path
inside the models folder (``NAME`` or ``ORGANISATION/NAME``) or its name on the Hugging Face Hub.
Digests of large files are kept in a file of their own, under the size and time of what they are
about; one that is damaged or edited is made anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.files import digest as digest_of
from soma_bench.files import file_digest, read_json, write_atomically
from soma_bench.providers.embedded import SYNTHETIC_KEY
from soma_bench.providers.workspace import Report, no_report
from soma_bench.settings import models_dir

FOLDER = "mlx"
"""Folder of MLX models inside the models folder."""
_DIGESTS = ".digests"
_DECISIVE = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "*.safetensors")
"""Files that decide what a model answers: configuration, tokenizer, chat template, weights."""
_FETCHED = (*_DECISIVE, "*.jsonl")
_CHAT_MODELS = ("ForCausalLM", "ForConditionalGeneration")


@dataclass(frozen=True, slots=True, kw_only=True)
class MlxModel:
    """One model on this machine."""

    name: str
    folder: Path
    size_bytes: int
    """Size of the weights."""
    quantization: str | None
    """As MLX writes it, e.g. ``4bit``; None for weights that are not quantized."""
    context_tokens: int | None
    """Longest context that the model was made for."""
    synthetic: bool
    """Whether it was derived for tests: its figures say nothing about a model anyone would deploy."""


class _Digested(BaseModel):
    """What is kept of one file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    size_bytes: int
    mtime_ns: int
    digest: str


class _Digests(BaseModel):
    """What is kept of one model's files, and a seal over it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    files: dict[str, _Digested]
    seal: str = ""

    def sealed(self) -> _Digests:
        return self.model_copy(update={"seal": digest_of(self.model_dump(exclude={"seal"}))})


def mlx_dir() -> Path:
    """Folder of MLX models of one's own."""
    return models_dir() / FOLDER


def installed(directory: Path | None = None) -> tuple[str, ...]:
    """Names of all models here that are whole, sorted."""
    return tuple(sorted(_folders(directory or mlx_dir())))


def find(name: str, directory: Path | None = None) -> MlxModel:
    """The model of exactly this name.

    Raises:
        ProviderError: (``model_missing``) there is none; the message names the nearest that there
            are and the command that would fetch it.
        ConfigError: its configuration cannot be read.
    """
    root = directory or mlx_dir()
    folders = _folders(root)
    if name in folders:
        return _describe(name, folders[name])
    near = get_close_matches(name, folders, n=3, cutoff=0.5) or sorted(folders)[:3]
    known = f"nearest there: {', '.join(near)}" if near else "there is none at all"
    raise ProviderError(
        "mlx",
        f"model {name!r} is neither in {root} nor in the Hugging Face cache ({known}). "
        f"Run: soma-bench models pull mlx:{name}",
        kind="model_missing",
    )


def weights_digest(model: MlxModel) -> str:
    """``sha256:...`` over everything in the model's folder that decides its answers.

    Raises:
        ConfigError: a file cannot be read.
    """
    kept_at = mlx_dir() / _DIGESTS / f"{digest_of(str(model.folder)).removeprefix('sha256:')}.json"
    known = _believed(kept_at)
    files: dict[str, _Digested] = {}
    try:
        for path in _decisive_files(model.folder):
            # Taken before the digest: a file that changes meanwhile then fails the next comparison.
            status = path.stat()
            facts = known.get(path.name)
            if facts is None or (facts.size_bytes, facts.mtime_ns) != (
                status.st_size,
                status.st_mtime_ns,
            ):
                facts = _Digested(
                    size_bytes=status.st_size,
                    mtime_ns=status.st_mtime_ns,
                    digest=file_digest(path),
                )
            files[path.name] = facts
    except OSError as error:
        raise ConfigError(f"{model.folder}: cannot be read: {error.strerror or error}") from error
    if files != known:
        _keep(kept_at, _Digests(files=files).sealed())
    return digest_of({name: facts.digest for name, facts in files.items()})


def pull(name: str, report: Report = no_report) -> MlxModel:
    """Fetch a model from the Hugging Face Hub into its cache.

    Args:
        name: its name there, such as ``mlx-community/Llama-3.2-3B-Instruct-4bit``.
        report: told that the fetch has begun and that it is done.

    Raises:
        ConfigError: there is no such model, the hub cannot be reached, or the disk is full.
        ProviderError: (``model_missing``) what was fetched is no MLX model.
    """
    if name in installed():
        return find(name)
    try:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise not_installed() from error
    report(f"fetching {name}", 0, 1)
    try:
        snapshot_download(name, cache_dir=constants.HF_HUB_CACHE, allow_patterns=list(_FETCHED))
    except LocalEntryNotFoundError as error:
        raise ConfigError(
            f"mlx: {name} cannot be fetched: the Hugging Face Hub cannot be reached; check the network"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise ConfigError(
            f"mlx: {name} cannot be fetched: the Hugging Face Hub answered {status}; check the name"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"mlx: {name} cannot be fetched: {reason}") from error
    report(f"fetched {name}", 1, 1)
    return find(name)


def not_installed() -> ConfigError:
    """The error that says that the library is missing."""
    return ConfigError("mlx: mlx-lm is not installed; run: pip install 'soma-bench[mlx]'")


def _folders(root: Path) -> dict[str, Path]:
    """Folders of whole models by name; our own win over the cache's."""
    own = {path.relative_to(root).as_posix(): path.resolve() for path in _own(root)}
    return {**_cached(), **own}


def _own(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    try:
        for pattern in ("*/config.json", "*/*/config.json"):
            for config in root.glob(pattern):
                folder = config.parent
                hidden = any(part.startswith(".") for part in folder.relative_to(root).parts)
                if not hidden and _is_whole(folder):
                    yield folder
    except OSError as error:
        raise ConfigError(f"{root}: cannot be listed: {error.strerror or error}") from error


def _cached() -> dict[str, Path]:
    """Chat models in the Hugging Face cache: of each the revision ``main``, else the newest."""
    try:
        from huggingface_hub import CacheNotFound, constants, scan_cache_dir
    except ImportError:
        return {}
    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{constants.HF_HUB_CACHE}: cannot be listed: {error}") from error
    found: dict[str, Path] = {}
    for repository in cache.repos:
        if repository.repo_type != "model":
            continue
        revisions = sorted(
            repository.revisions,
            key=lambda revision: ("main" in revision.refs, revision.last_modified),
        )
        whole = [r.snapshot_path for r in revisions if _is_whole(r.snapshot_path)]
        if whole and _chats(whole[-1]):
            found[repository.repo_id] = whole[-1]
    return found


def _is_whole(folder: Path) -> bool:
    """Whether configuration and all weights are there, as far as the folder itself tells."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("model*.safetensors"))
    try:
        parts = set(json.loads(index.read_bytes())["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError):
        return False
    return bool(parts) and all((folder / str(part)).is_file() for part in parts)


def _chats(folder: Path) -> bool:
    try:
        architectures = json.loads((folder / "config.json").read_bytes())["architectures"]
        return any(str(name).endswith(_CHAT_MODELS) for name in architectures)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _describe(name: str, folder: Path) -> MlxModel:
    config: Any = read_json(folder / "config.json")
    if not isinstance(config, dict):
        raise ConfigError(f"{folder / 'config.json'}: is not a JSON object")
    text = config.get("text_config")
    context = config.get("max_position_embeddings") or (
        text.get("max_position_embeddings") if isinstance(text, dict) else None
    )
    return MlxModel(
        name=name,
        folder=folder,
        size_bytes=sum(path.stat().st_size for path in folder.glob("model*.safetensors")),
        quantization=_quantization(config.get("quantization")),
        context_tokens=context if isinstance(context, int) else None,
        synthetic=config.get(SYNTHETIC_KEY) is True,
    )


def _quantization(settings: Any) -> str | None:
    if not isinstance(settings, dict) or "bits" not in settings:
        return None
    mode = settings.get("mode", "affine")
    return f"{settings['bits']}bit" if mode == "affine" else str(mode)


def _decisive_files(folder: Path) -> list[Path]:
    found = {path for pattern in _DECISIVE for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if not path.name.startswith("."))


def _believed(path: Path) -> dict[str, _Digested]:
    """What is kept of a model's files, if it is whole and unedited."""
    if not path.is_file():
        return {}
    try:
        kept = _Digests.model_validate(read_json(path))
    except (ConfigError, ValidationError):
        return {}
    return dict(kept.files) if kept == kept.sealed() else {}


def _keep(path: Path, digests: _Digests) -> None:
    try:
        write_atomically(path, json.dumps(digests.model_dump(), indent=2) + "\n")
    except ConfigError:
        # A folder that cannot be written costs time at the next look and nothing else.
        return
