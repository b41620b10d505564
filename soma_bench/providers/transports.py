"""The two ways out to a model: one for machines of one's own, one for everywhere else.

They differ in what they take. A `Request` goes to a `LocalTransport` only; a `CloudTransport` takes
nothing but a `Cleared` request, which only `soma_bench.routing.privacy.Guard` makes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from soma_bench.errors import PrivacyError
from soma_bench.providers.base import Provider
from soma_bench.providers.placeholders import Replaced, Restorer
from soma_bench.types import Chunk, Completion, PrivacyLevel, Request, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """A request that may leave this machine, for one target; made by the guard and by nobody else."""

    request: Request = field(repr=False)
    """As it may leave: under ``deidentified`` with placeholders in the place of identifiers."""
    target: Target
    level: PrivacyLevel
    """The level under which it was cleared."""
    replaced: Replaced = field(default_factory=Replaced)
    """What its placeholders stand for."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many identifiers of each kind were replaced."""

    def restore(self, completion: Completion) -> Completion:
        """The answer with the identifiers put back."""
        return replace(
            completion,
            text=self.replaced.restore(completion.text, in_json=self.request.schema is not None),
            thinking=self.replaced.restore(completion.thinking),
        )


class LocalTransport:
    """Sends requests to models on machines of one's own.

    Args:
        provider: the provider; the caller closes it.

    Raises:
        PrivacyError: the provider's models run elsewhere.
    """

    def __init__(self, provider: Provider) -> None:
        # Only a plain True will do: what is unknown is not local.
        if provider.is_local is not True:
            raise PrivacyError(
                f"{provider.name}: its backend is not on this machine or on a trusted host, so a "
                "request must be cleared before it goes there"
            )
        self._provider = provider

    async def complete(self, request: Request) -> Completion:
        """Answer one request."""
        return await self._provider.complete(request)

    async def stream(self, request: Request) -> AsyncGenerator[Chunk]:
        """Answer one request piece by piece; closing the iterator stops the model."""
        async for chunk in _pieces(self._provider, request):
            yield chunk


class CloudTransport:
    """Sends cleared requests to models elsewhere, and puts the identifiers back in their answers.

    Args:
        provider: the provider; the caller closes it.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def complete(self, cleared: Cleared) -> Completion:
        """Answer one request; the identifiers are back in the answer.

        Raises:
            PrivacyError: the request was not cleared, or was cleared for another target.
        """
        completion = await self._provider.complete(self._let_out(cleared))
        return cleared.restore(completion)

    async def stream(self, cleared: Cleared) -> AsyncGenerator[Chunk]:
        """Answer one request piece by piece, each with its identifiers back.

        Raises:
            PrivacyError: the request was not cleared, or was cleared for another target.
        """
        request = self._let_out(cleared)
        text = Restorer(cleared.replaced, in_json=request.schema is not None)
        thinking = Restorer(cleared.replaced)
        async for chunk in _pieces(self._provider, request):
            thought = thinking.take(chunk.thinking)
            said = text.take(chunk.text)
            if chunk.text or chunk.completion:
                # Thinking ends where the answer begins, and must not be given out after it.
                thought += thinking.rest()
            if chunk.completion:
                said += text.rest()
            if thought or said:
                yield Chunk(thinking=thought, text=said)
            if chunk.completion:
                yield Chunk(completion=cleared.restore(chunk.completion))

    def _let_out(self, cleared: Cleared) -> Request:
        """The last door: what does not hold a clearance for this very call stays here."""
        if not isinstance(cleared, Cleared):
            raise PrivacyError(f"{self._provider.name}: a request that was not cleared must not go")
        if cleared.level not in ("deidentified", "open"):
            raise PrivacyError(f"{self._provider.name}: what is {cleared.level} must not go")
        target = cleared.target
        if target.provider != self._provider.name or target.model != cleared.request.model:
            raise PrivacyError(
                f"{self._provider.name}: the request was cleared for {target} and must not go to"
                f" {self._provider.name}:{cleared.request.model}"
            )
        return cleared.request


async def _pieces(provider: Provider, request: Request) -> AsyncGenerator[Chunk]:
    stream = provider.stream(request)
    if isinstance(stream, AsyncGenerator):
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk
    else:
        async for chunk in stream:
            yield chunk
