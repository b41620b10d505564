"""The router: puts an agent's question to the targets its profile names, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.errors import AnswerError, PrivacyError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile, Route, resolve
from soma_bench.types import AgentName, Completion, Options, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """An agent's answer, and the way it took."""

    agent: AgentName
    target: Target
    completion: Completion
    output: Any
    """The agent's typed output."""
    passed_over: tuple[str, ...]
    """Why each target before this one gave no answer; empty when the primary answered."""


class Router:
    """Sends requests where a profile says.

    Args:
        profile: the profile.
        providers: where providers come from; the caller closes it.
        options: generation settings of every request.
    """

    def __init__(
        self,
        profile: Profile,
        providers: ProviderPool,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> None:
        self._profile = profile
        self._providers = providers
        self._options = options

    async def ask(self, agent: AgentName, inputs: BaseModel) -> Routed:
        """An agent's typed answer about ``inputs``: the primary's, or else the fallback's.

        Raises:
            AnswerError: no target gave an answer that can be read; the message says why for each.
            PrivacyError: the profile sends the agent where its privacy level forbids.
        """
        route = resolve(self._profile, agent)
        passed_over: list[str] = []
        for target in self._targets(route):
            provider = self._providers.get(target.provider)
            request = AGENT_BY_NAME[agent].request(
                inputs, model=target.model, thinking=target.thinking, options=self._options
            )
            if route.privacy == "local_only" and not provider.is_local:
                raise PrivacyError(f"{agent} is local_only and must not be sent to {target}")
            try:
                completion = await provider.complete(request)
                output = AGENT_BY_NAME[agent].read(completion)
            except (ProviderError, AnswerError) as error:
                passed_over.append(f"{target}: {error}")
                continue
            return Routed(
                agent=agent,
                target=target,
                completion=completion,
                output=output,
                passed_over=tuple(passed_over),
            )
        raise AnswerError(f"{agent}: no target gave a usable answer; " + "; ".join(passed_over))

    def _targets(self, route: Route) -> tuple[Target, ...]:
        if route.fallback is None or not self._profile.auto_fallback:
            return (route.primary,)
        return (route.primary, route.fallback)
