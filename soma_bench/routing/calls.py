"""One call of one target: through the guard where it leaves this machine, and within its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from soma_bench.errors import ConfigError, PrivacyError, ProviderError
from soma_bench.providers.clock import timed_out
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.transports import Cleared, CloudTransport, LocalTransport
from soma_bench.routing.candidates import Plan
from soma_bench.routing.context import CallContext
from soma_bench.routing.planner import Planner
from soma_bench.routing.privacy import Guard
from soma_bench.routing.walk import Turn
from soma_bench.types import AgentName, Chunk, Completion, PrivacyLevel, Request, Target

_CAPABILITIES_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An agent's request, not aimed at a target yet, in the two ways in which it can be put."""

    words: Request
    shown: Request | None
    """With the case's pictures; None where there are none."""


class Calls:
    """Makes the router's calls.

    Args:
        planner: knows the profile.
        providers: where providers come from.
    """

    def __init__(self, planner: Planner, providers: ProviderPool) -> None:
        self._planner = planner
        self._profile = planner.profile
        self._providers = providers
        self._guard: Guard | None = None
        self._opened: set[AgentName] = set()

    def open(self, plan: Plan) -> None:
        """Make what a route needs before its first call, so that no fallback waits for it.

        Importing a vendor's library takes up to a second, loading the guard's recognizers several.
        """
        if plan.route.agent in self._opened:
            return
        self._opened.add(plan.route.agent)
        for candidate in plan.candidates:
            if not candidate.is_local:
                self._door()
            try:
                self._providers.get(candidate.target.provider)
            except ConfigError:
                continue  # raised again, and told, when it is this target's turn

    async def worded(self, question: Question, turn: Turn, level: PrivacyLevel) -> Request:
        """The question as a target gets it: with pictures where it sees and may have them.

        Raises:
            ProviderError: the backend cannot be asked whether the model sees.
            ConfigError: the provider cannot be made.
        """
        if question.shown is None or not self._may_see(turn.target, level):
            return question.words
        provider = self._providers.get(turn.target.provider)
        try:
            async with asyncio.timeout(_CAPABILITIES_S):
                sees = (await provider.capabilities(turn.target.model)).vision
        except TimeoutError as error:
            raise timed_out(turn.target.provider, "first_token", _CAPABILITIES_S) from error
        return question.shown if sees else question.words

    def _may_see(self, target: Target, level: PrivacyLevel) -> bool:
        """Whether pictures may go to a target; the guard refuses them elsewhere."""
        local = self._profile.is_local(target)
        return local or level == "open" or self._profile.images_may_leave

    async def complete(
        self, request: Request, turn: Turn, level: PrivacyLevel, context: CallContext
    ) -> Completion:
        """A whole answer.

        Raises:
            PrivacyError: the request may not go there.
            ProviderError: there is no whole answer.
            ConfigError: the target cannot honour what is asked.
        """
        target = turn.target
        provider = self._providers.get(target.provider)
        aimed = self._aimed(request, turn)
        if self._profile.is_local(target):
            answer = LocalTransport(provider).complete(aimed)
        else:
            answer = CloudTransport(provider).complete(self._clear(aimed, target, level, context))
        if context.deadline is None:
            return await answer
        try:
            # The provider holds its limits; what it does before its own clock starts counts too.
            async with asyncio.timeout_at(context.deadline) as timeout:
                return await answer
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise self._late(turn) from error

    def chunks(
        self, request: Request, turn: Turn, level: PrivacyLevel, context: CallContext
    ) -> AsyncGenerator[Chunk]:
        """An answer piece by piece; the last one carries the whole.

        Raises:
            PrivacyError: the request may not go there.
            ConfigError: the target cannot honour what is asked.
        """
        target = turn.target
        provider = self._providers.get(target.provider)
        aimed = self._aimed(request, turn)
        if self._profile.is_local(target):
            chunks = LocalTransport(provider).stream(aimed)
        else:
            chunks = CloudTransport(provider).stream(self._clear(aimed, target, level, context))
        return chunks if context.deadline is None else self._held(chunks, turn, context.deadline)

    async def window(self, target: Target) -> int | None:
        """Tokens that a target's context has; None where nobody says in time."""
        if self._profile.is_local(target):
            return self._planner.options(target).context_tokens
        try:
            async with asyncio.timeout(_CAPABILITIES_S):
                provider = self._providers.get(target.provider)
                return (await provider.capabilities(target.model)).context_tokens
        except (ProviderError, ConfigError, PrivacyError, TimeoutError):
            return None

    async def _held(
        self, chunks: AsyncGenerator[Chunk], turn: Turn, deadline: float
    ) -> AsyncGenerator[Chunk]:
        async with aclosing(chunks):
            while True:
                try:
                    async with asyncio.timeout_at(deadline) as timeout:
                        chunk = await anext(chunks, None)
                except TimeoutError as error:
                    if not timeout.expired():
                        raise
                    raise self._late(turn) from error
                if chunk is None:
                    return
                yield chunk

    def _aimed(self, request: Request, turn: Turn) -> Request:
        target = turn.target
        return replace(
            request,
            model=target.model,
            thinking=target.thinking,
            options=self._planner.options(target),
            limits=turn.allowance.limits,
        )

    def _clear(
        self, aimed: Request, target: Target, level: PrivacyLevel, context: CallContext
    ) -> Cleared:
        return self._door().clear(aimed, target, level, context.identifiers)

    def _door(self) -> Guard:
        """The guard before every cloud."""
        if self._guard is None:
            self._guard = Guard(self._profile)
        return self._guard

    def _late(self, turn: Turn) -> ProviderError:
        seconds = asyncio.get_running_loop().time() - turn.started
        return timed_out(turn.target.provider, "total", round(seconds, 3))
