"""What an Ollama server says about its models: names, weights, capabilities, where they run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from soma_bench.errors import PrivacyError, ProviderError
from soma_bench.providers import remote
from soma_bench.providers.base import Capabilities
from soma_bench.providers.ollama_client import NAME, Json
from soma_bench.providers.places import is_cloud_tag as is_cloud_tag

LEVEL_FAMILIES = frozenset({"gptoss", "gpt-oss"})
"""Families that think at a level and cannot be kept from it (as of 2026-11)."""
_ALWAYS = "thinking"
"""Part of the tags of models that were made to think always, such as ``qwen3:4b-thinking-2507``."""
_TAGGED_FAMILIES = ("qwen3", "deepseek2")
"""Families that put their thoughts between ``<think>`` and ``</think>`` whatever their template
shows (as of 2026-11); others are known by the tags in their template."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A model that the server lists."""

    name: str
    digest: str | None
    size_bytes: int | None
    remote: bool
    """Whether the entry only stands for a model that runs in a cloud."""
    quantization: str | None = None
    parameter_size: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One model, as ``/api/tags`` and ``/api/show`` have it."""

    tag: Tag
    family: str
    template: str
    can: frozenset[str]
    context_tokens: int | None
    read_at: float
    """When this was read, by the monotonic clock."""

    @property
    def thinks(self) -> bool:
        """Whether the model can think."""
        return "thinking" in self.can

    @property
    def by_level(self) -> bool:
        """Whether its thinking has levels instead of a switch."""
        return self.family in LEVEL_FAMILIES

    @property
    def tagged_thoughts(self) -> bool:
        """Whether its thoughts stand between tags, so that they can be closed from outside."""
        return self.thinks and (
            "<think>" in self.template or self.family.startswith(_TAGGED_FAMILIES)
        )

    def capabilities(self) -> Capabilities:
        """What the model can do."""
        levels: tuple[str, ...] = ("off",)
        if self.thinks and self.by_level:
            levels = ("low", "medium", "high")
        elif self.thinks and _ALWAYS in self.tag.name:
            levels = ()
        return Capabilities(
            vision="vision" in self.can,
            thinking_levels=levels,
            thinking_budget=self.tagged_thoughts and not self.by_level,
            schema=True,
            context_tokens=self.context_tokens,
            weights_bytes=self.tag.size_bytes,
        )


def canonical_name(model: str) -> str:
    """A model's name with its tag: a bare ``qwen3`` means ``qwen3:latest``."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def refuse_cloud(model: str, *, remote: bool = False) -> None:
    """Stop before a byte goes to a model that does not run on the server itself.

    Raises:
        PrivacyError: the model's name or its entry says so.
    """
    if remote or is_cloud_tag(model):
        raise PrivacyError(
            f"ollama: {model} runs in Ollama's cloud and not on this server, so it is no local "
            "model; choose a model without -cloud"
        )


def tags_from(answer: Json) -> tuple[Tag, ...]:
    """The models in an answer of ``/api/tags`` or ``/api/ps``.

    Raises:
        ProviderError: (``malformed``) it does not hold models.
    """
    return tuple(_tag(name, entry) for name, entry in entries(answer))


def _tag(name: str, entry: Mapping[str, Any]) -> Tag:
    details = _mapping(entry.get("details"))
    return Tag(
        name=canonical_name(name),
        digest=_digest(entry.get("digest")),
        size_bytes=whole(entry.get("size")) or whole(entry.get("size_vram")),
        remote=is_cloud_tag(name) or _runs_elsewhere(entry),
        quantization=_text(details.get("quantization_level")),
        parameter_size=_text(details.get("parameter_size")),
    )


def _runs_elsewhere(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("remote_host") or entry.get("remote_model"))


def entries(answer: Json) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and entries of a list of models.

    Raises:
        ProviderError: (``malformed``) it is none.
    """
    found = answer.get("models")
    if found is None and "models" in answer:
        return []
    if not isinstance(found, list):
        raise remote.malformed(NAME)
    named = []
    for entry in found:
        name = isinstance(entry, dict) and (entry.get("model") or entry.get("name"))
        if not isinstance(name, str):
            raise remote.malformed(NAME)
        named.append((name, entry))
    return named


def facts_from(tag: Tag, shown: Json) -> Facts:
    """What ``/api/show`` says about a listed model."""
    details = _mapping(shown.get("details"))
    info = _mapping(shown.get("model_info"))
    context = info.get(f"{info.get('general.architecture')}.context_length")
    can = shown.get("capabilities")
    return Facts(
        tag=replace(tag, remote=tag.remote or _runs_elsewhere(shown)),
        family=str(details.get("family") or ""),
        template=str(shown.get("template") or ""),
        can=frozenset(map(str, can if isinstance(can, list) else ())),
        context_tokens=whole(context),
        read_at=time.monotonic(),
    )


def missing(model: str, installed: Iterable[str]) -> ProviderError:
    """The failure of a name that the server does not have, with the nearest that it has."""
    names = sorted(installed)
    near = get_close_matches(model, names, n=3, cutoff=0.4) or names[:5]
    there = f"installed: {', '.join(near)}" if near else "no model is installed"
    return ProviderError(
        NAME,
        f"model {model!r} is not installed; {there}. Run: soma-bench models pull ollama:{model}",
        kind="model_missing",
    )


def whole(value: object) -> int | None:
    """A count, if it is one above 0: the server leaves zeros out."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _digest(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value if value.startswith("sha256:") else f"sha256:{value}"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and value != "unknown" else None
