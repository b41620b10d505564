"""What OpenAI's models take, as documented on `AS_OF`: the API has no endpoint that says so.

Names that are none of OpenAI's belong to compatible servers, of which `from_listing` tells what
can be told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from soma_bench.providers.base import Capabilities
from soma_bench.types import Request

AS_OF = date(2026, 11, 25)

LEVELS = ("low", "medium", "high")
ALLOWANCE_TOKENS = {"low": 4_096, "medium": 16_384, "high": 32_768}
"""Tokens that a reasoning effort gets on top of the answer's; the API takes one cap for both.
It is a cap and no budget: effort alone decides how much the model thinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIModel:
    """What one model, or one family of models, takes."""

    thinking: tuple[str, ...]
    """Accepted settings: ``off`` (which is effort ``none``) and levels."""
    thinks: bool
    """Whether it can think; one that cannot takes ``off`` by being told nothing."""
    sampling: Literal["always", "off", "never"]
    """Whether it takes ``temperature``, ``top_p`` and ``seed``: ``off`` is while it does not think."""
    vision: bool = True
    schema: bool = True
    context_tokens: int | None
    max_output_tokens: int | None
    compatible: bool = False
    """Whether it is a model of a compatible server: such servers know ``max_tokens``, which
    OpenAI's newer models refuse, and not all of them know ``max_completion_tokens``."""

    @property
    def capabilities(self) -> Capabilities:
        """The same in the words that every provider uses."""
        return Capabilities(
            vision=self.vision,
            thinking_levels=self.thinking,
            thinking_budget=False,
            schema=self.schema,
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            weights_bytes=None,
        )

    def allowance(self, request: Request) -> int:
        """Tokens that thinking gets on top of the answer's."""
        if self.compatible or not self.thinks or request.thinking == "off":
            return 0
        return ALLOWANCE_TOKENS[str(request.thinking or "high")]

    def samples(self, request: Request) -> bool:
        """Whether sampling parameters go with the request."""
        if self.sampling == "off":
            return request.thinking == "off"
        return self.sampling == "always"


_PLAIN = OpenAIModel(
    thinking=("off",),
    thinks=False,
    sampling="always",
    context_tokens=128_000,
    max_output_tokens=16_384,
)
_NEWEST = OpenAIModel(
    thinking=("off", *LEVELS),
    thinks=True,
    sampling="never",
    context_tokens=1_050_000,
    max_output_tokens=128_000,
)
_GPT_5_1 = replace(_NEWEST, sampling="off", context_tokens=400_000)
_GPT_5 = replace(_GPT_5_1, thinking=LEVELS, sampling="never")
_CHAT = replace(_PLAIN, sampling="never")
_O = replace(_GPT_5, context_tokens=200_000, max_output_tokens=100_000)
_OLD = replace(_PLAIN, schema=False, max_output_tokens=4_096)

_FAMILIES: Mapping[str, OpenAIModel] = {
    "gpt-6": _NEWEST,
    "gpt-5.6": _NEWEST,
    "gpt-5.5": replace(_GPT_5_1, context_tokens=1_000_000),
    "gpt-5.4": replace(_GPT_5_1, context_tokens=1_050_000),
    "gpt-5.4-mini": _GPT_5_1,
    "gpt-5.4-nano": _GPT_5_1,
    "gpt-5.3-chat": _CHAT,
    "gpt-5.2": _GPT_5_1,
    "gpt-5.2-chat": _CHAT,
    "gpt-5.1": _GPT_5_1,
    "gpt-5.1-chat": _CHAT,
    "gpt-5": _GPT_5,
    "gpt-5-chat": _CHAT,
    "gpt-4.1": replace(_PLAIN, context_tokens=1_047_576, max_output_tokens=32_768),
    "gpt-4o": _PLAIN,
    "gpt-4o-2024-05-13": _OLD,
    "gpt-4-turbo": _OLD,
    "gpt-4": replace(_OLD, vision=False, context_tokens=8_192, max_output_tokens=None),
    "gpt-3.5-turbo": replace(_OLD, vision=False, context_tokens=16_385),
    "o4-mini": _O,
    "o3": _O,
    "o3-mini": replace(_O, vision=False),
    "o1": _O,
}

_ENDS: Mapping[date, tuple[str, ...]] = {
    date(2026, 7, 23): (
        "gpt-4o-mini-search-preview",
        "gpt-4o-mini-search-preview-2025-03-11",
        "gpt-4o-search-preview",
        "gpt-4o-search-preview-2025-03-11",
        "gpt-5-chat-latest",
        "gpt-5.1-chat-latest",
        "gpt-5.1-codex",
    ),
    date(2026, 8, 10): (
        "gpt-5.2-chat-latest",
        "gpt-5.3-chat-latest",
    ),
    date(2026, 9, 28): ("gpt-3.5-turbo-1106",),
    date(2026, 10, 23): (
        "gpt-3.5-turbo",
        "gpt-3.5-turbo-0125",
        "gpt-4",
        "gpt-4-0613",
        "gpt-4-1106-preview",
        "gpt-4-turbo",
        "gpt-4-turbo-2024-04-09",
        "gpt-4.1-nano",
        "gpt-4.1-nano-2025-04-14",
        "gpt-4o-2024-05-13",
        "o1",
        "o1-2024-12-17",
        "o3-mini",
        "o3-mini-2025-01-31",
        "o4-mini",
        "o4-mini-2025-04-16",
    ),
    date(2026, 12, 11): (
        "gpt-5",
        "gpt-5-2025-08-07",
        "gpt-5-mini",
        "gpt-5-mini-2025-08-07",
        "gpt-5-nano",
        "gpt-5-nano-2025-08-07",
        "o3",
        "o3-2025-04-16",
    ),
    date(2027, 1, 14): (
        "gpt-4.1",
        "gpt-4.1-2025-04-14",
        "gpt-4.1-mini",
        "gpt-4.1-mini-2025-04-14",
        "gpt-4o",
        "gpt-4o-2024-08-06",
        "gpt-4o-2024-11-20",
        "gpt-4o-mini",
        "gpt-4o-mini-2024-07-18",
    ),
    date(2027, 4, 1): (
        "gpt-5.1",
        "gpt-5.1-2025-11-13",
        "gpt-5.4-nano",
        "gpt-5.4-nano-2026-03-17",
    ),
}

RETIREMENTS: Mapping[str, date] = {name: end for end, all_ in _ENDS.items() for name in all_}
"""When models end, or ended."""


def successor(model: str) -> str | None:
    """The replacement that OpenAI names; None where it is not known here."""
    return "gpt-6-luna" if model.startswith("gpt-4o") else None


UNKNOWN = OpenAIModel(
    thinking=(),
    thinks=False,
    sampling="always",
    schema=False,
    context_tokens=None,
    max_output_tokens=None,
    compatible=True,
)
"""A model of a compatible server that says nothing about itself: no thinking setting is promised
for it, since a server may take one and ignore it, and a schema goes into its prompt."""

_ENFORCES_SCHEMA = frozenset({"llamacpp", "vllm"})
"""Servers, by the owner that their listing gives, that hold an answer to a JSON Schema."""


def from_table(model: str) -> OpenAIModel | None:
    """The entry of a model's family; None where the name is none of OpenAI's.

    A name that looks like OpenAI's and is not in the table is newer than it, and taken for what
    the newest known models are.
    """
    found = [
        name for name in _FAMILIES if model == name or model.startswith((f"{name}-", f"{name}."))
    ]
    if found:
        return _FAMILIES[max(found, key=len)]
    return _NEWEST if re.match(r"gpt-\d", model) else None


def names() -> tuple[str, ...]:
    """The families in the table, most of which are also names that the API takes."""
    return tuple(_FAMILIES)


def from_listing(entry: Mapping[str, Any]) -> OpenAIModel:
    """What a compatible server's list of models says of one of them."""
    owner = entry.get("owned_by")
    found = replace(UNKNOWN, schema=owner in _ENFORCES_SCHEMA)
    meta = entry.get("meta")
    window = entry.get("max_model_len")  # vLLM
    if isinstance(meta, Mapping):  # llama.cpp
        window = meta.get("n_ctx") or meta.get("n_ctx_train")
    if isinstance(window, int):
        found = replace(found, context_tokens=window)
    if owner == "llamacpp":
        found = replace(found, thinking=("off",), thinks=True)
    architecture = entry.get("architecture")
    if isinstance(architecture, Mapping) and "input_modalities" in architecture:
        found = replace(found, vision="image" in architecture["input_modalities"])
    return found
