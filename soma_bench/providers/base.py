"""What every provider offers, whatever its backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.types import Chunk, Completion, ModelIdentity, ProviderName, Request, Thinking


@dataclass(frozen=True, slots=True)
class Availability:
    """Which models a provider can run now, by exact name."""

    models: tuple[str, ...]
    """Exact names of the models that are present."""
    reason: str | None = None
    """Why the provider cannot be used at all; None when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one model can do."""

    vision: bool
    thinking_levels: tuple[str, ...]
    """Accepted values besides a token budget, e.g. ``("off",)``."""
    thinking_budget: bool
    """Whether a number of thinking tokens is accepted."""
    least_budget: int = 1
    """The smallest number that is accepted."""
    schema: bool
    """Whether answers can be held to a JSON Schema by the backend."""
    context_tokens: int | None
    """Longest context that the model was made for."""
    max_output_tokens: int | None = None
    """Most tokens that one answer may have, thinking included; None where nobody says."""
    weights_bytes: int | None

    def takes(self, thinking: Thinking | None) -> bool:
        """Whether a thinking setting can be honoured; None, the model's own default, always can."""
        if isinstance(thinking, int):
            return self.thinking_budget and thinking >= self.least_budget
        return thinking is None or thinking in self.thinking_levels

    @property
    def thinking_taken(self) -> str:
        """The thinking settings that the model takes, in words."""
        taken = list(self.thinking_levels)
        if self.thinking_budget:
            least = f" (at least {self.least_budget})" if self.least_budget > 1 else ""
            taken.append(f"a number of tokens{least}")
        return ", ".join(taken) or "none: it cannot think"


_MOST_CHARACTERS_PER_TOKEN = 8
"""No vocabulary in use packs more of English text or JSON into its mean token (about 4 is usual),
so a prompt of more characters than 8 times the window certainly does not fit."""


def least_tokens(request: Request) -> int:
    """Tokens that prompt and answer need at the very least, whatever the vocabulary."""
    characters = sum(len(message.content) for message in request.messages)
    budget = request.thinking if isinstance(request.thinking, int) else 0
    return characters // _MOST_CHARACTERS_PER_TOKEN + request.max_tokens + budget


def refuse_what_cannot_be_honoured(
    provider: str, request: Request, capabilities: Capabilities
) -> None:
    """Stop a request before the call where the model cannot do what it asks.

    Raises:
        ConfigError: the thinking setting or an image is not for this model.
        ProviderError: (``context_too_long``) prompt and answer certainly pass the context window.
    """
    model = request.model
    if not capabilities.takes(request.thinking):
        raise ConfigError(
            f"{provider}: {model} cannot honour thinking={request.thinking}; "
            f"it takes {capabilities.thinking_taken}"
        )
    if not capabilities.vision and any(message.images for message in request.messages):
        raise ConfigError(f"{provider}: {model} cannot see images; choose a vision model")
    window = capabilities.context_tokens
    if window is None:
        return
    least = least_tokens(request)
    if least > window:
        raise ProviderError(
            provider,
            f"prompt and answer need at least {least} tokens, and the context window of {model} "
            f"is {window}; shorten the prompt or choose a model with a longer context",
            kind="context_too_long",
        )


@runtime_checkable
class TimesTokens(Protocol):
    """A provider that knows from ``complete`` alone when the first token came.

    Nothing has to be streamed for its sake then: beside a model that has all cores, waking the event
    loop at each token slows the model itself.
    """

    complete_times_tokens: bool


class Provider(Protocol):
    """Speaks to one kind of backend.

    A completion is whole or it is a `ProviderError`. What a backend cannot honour (a thinking
    level, an image, a context) is a `ConfigError` before the call, never ignored. Providers do
    not retry: the router or the sweep does.

    Both ways of asking are held to the request's `Limits` (or the provider's own). ``complete``
    is the cheaper one and knows no first token; ``stream`` times every token.
    """

    name: ProviderName
    is_local: bool

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Answer one request piece by piece; the last chunk carries the `Completion`."""

    async def available(self) -> Availability:
        """Which models are present, by exact name."""

    async def capabilities(self, model: str) -> Capabilities:
        """What ``model`` can do."""

    async def identity(self, model: str) -> ModelIdentity:
        """What ``model`` is, for a trial's key and record; must not load it."""

    async def memory_bytes(self, model: str) -> int | None:
        """Measured memory of the loaded model; None if it is not loaded or cannot be measured."""

    async def unload(self, keep: frozenset[str] = frozenset()) -> None:
        """Free every loaded model but those in ``keep``."""

    async def close(self) -> None:
        """Free everything; the provider is not used afterwards."""
