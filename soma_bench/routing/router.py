"""The router: puts an agent's question to the targets that its profile allows, best first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from pydantic import BaseModel

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.environment import Environment, read_environment
from soma_bench.errors import (
    AnswerError,
    ConfigError,
    PrivacyError,
    ProviderError,
    RefusalError,
    SomaError,
)
from soma_bench.providers.base import least_tokens
from soma_bench.providers.clock import timed_out
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.providers.transports import Cleared, CloudTransport, LocalTransport
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.candidates import Plan, plan_for
from soma_bench.routing.complexity import Complexity, complexity, measure
from soma_bench.routing.context import CallContext, strictest
from soma_bench.routing.decision import Candidate, Decision, Task, decide
from soma_bench.routing.health import Health, check
from soma_bench.routing.overrides import route_of, under
from soma_bench.routing.privacy import Guard
from soma_bench.routing.profile import Profile
from soma_bench.routing.routed import Event, Restarted, Routed
from soma_bench.routing.walk import Pace, Turn, Walk
from soma_bench.telemetry import ModelCall, count_fallback, model_call_span
from soma_bench.types import (
    AGENTS,
    AgentName,
    Chunk,
    Completion,
    Limits,
    Options,
    PrivacyLevel,
    Request,
    Target,
)

__all__ = ["Event", "Restarted", "Routed", "Router"]

_FAILURES = (ProviderError, AnswerError, PrivacyError, ConfigError)
"""What keeps one target from answering and leaves the others as they are."""
_USUAL = Limits()
_RETRY_S = 0.5
_CAPABILITIES_S = 2.0


class Router:
    """Sends requests where a profile says, and elsewhere when that fails and may be.

    Args:
        profile: the profile.
        providers: where providers come from; the caller closes it.
        options: generation settings of every request; the profile's own for Ollama, and the usual
            ones elsewhere, by default.
        environment: what comes before the profile; read anew by default.
        retry_s: mean pause before the one retry when no target is left; 0 for none.
        load_s: how long a model may take to load, apart from its answer.
        breaker: makes the breaker of a target.

    Raises:
        ConfigError: the environment or the table of prices is wrong.
    """

    def __init__(
        self,
        profile: Profile,
        providers: ProviderPool,
        options: Options | None = None,
        *,
        environment: Environment | None = None,
        retry_s: float = _RETRY_S,
        load_s: float = _USUAL.load_s,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        self._environment = environment or read_environment()
        self._profile = under(profile, self._environment)
        self._providers = providers
        self._options = options
        self._prices = load_prices(self._environment)
        self._guard: Guard | None = None
        self._retry_s = retry_s
        self._load_s = load_s
        self._new_breaker = breaker
        self._breakers: dict[Target, Breaker] = {}
        self._plans: dict[tuple[AgentName, PrivacyLevel], Plan] = {}
        self._opened: set[AgentName] = set()

    async def ask(
        self,
        agent: AgentName,
        inputs: BaseModel,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
    ) -> Routed:
        """An agent's typed answer about ``inputs``, from the first target that gives one.

        Raises:
            RefusalError: a model's safety policy refused.
            NoAnswerError: no target gave a usable answer; the message says why for each.
            PrivacyError: the privacy level forbids every target, or the one that the environment
                asks for.
        """
        request, walk = self._begin(agent, inputs, context)
        while (turn := await walk.next()) is not None:
            try:
                with model_call_span(turn.target, agent) as call:
                    completion = await self._complete(request, turn, walk, context)
                    routed = self._read(request, completion, turn, walk, context, call)
            except _FAILURES as error:
                await self._failed(walk, turn, error)
            except BaseException:
                walk.given_up(turn)
                raise
            else:
                return routed
        raise walk.end()

    async def stream(
        self,
        agent: AgentName,
        inputs: BaseModel,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
    ) -> AsyncGenerator[Event]:
        """The same for a live chat: pieces of text, restarts, and the whole `Routed` last.

        Closing the iterator stops the model.

        Raises:
            RefusalError: a model's safety policy refused.
            NoAnswerError: no target gave a usable answer.
            PrivacyError: the privacy level forbids it.
        """
        request, walk = self._begin(agent, inputs, context)
        while (turn := await walk.next()) is not None:
            if walk.failure is not None:
                yield Restarted(turn.target, walk.failure)
            try:
                with model_call_span(turn.target, agent) as call:
                    completion: Completion | None = None
                    async with aclosing(self._chunks(request, turn, walk, context)) as chunks:
                        async for chunk in chunks:
                            if chunk.text:
                                yield chunk.text
                            completion = chunk.completion
                    assert completion is not None, "a stream's last chunk carries its completion"
                    routed = self._read(request, completion, turn, walk, context, call)
            except _FAILURES as error:
                await self._failed(walk, turn, error)
            except BaseException:
                walk.given_up(turn)
                raise
            else:
                yield routed
                return
        raise walk.end()

    def decide(
        self,
        agent: AgentName,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
        *,
        inputs: BaseModel | None = None,
        level: Complexity = "moderate",
    ) -> Decision:
        """Which targets a question would be put to now and why, and why each other one not.

        Args:
            agent: whose question.
            context: its circumstances.
            inputs: the case, from which complexity, images and length are taken.
            level: the complexity where there is no case.

        Raises:
            PrivacyError: the environment asks for what the privacy level forbids.
            ConfigError: the environment names a provider without a default model.
        """
        privacy = self._level(agent, context)
        plan = self._plan(agent, privacy)
        if inputs is None:
            task = Task(agent=agent, privacy=privacy, complexity=level, need=context.need)
        else:
            task = self._task(inputs, self._request(agent, inputs), privacy, agent, context)
        return self._decide(task, plan, (*plan.candidates, *plan.others))

    async def health(self) -> tuple[Health, ...]:
        """The health of every target that an agent is routed to; those that rest are not asked."""
        targets: dict[Target, str | None] = {}
        for agent in AGENTS:
            plan = self._plan(agent, self._profile.routing[agent].privacy)
            for candidate in plan.candidates:
                targets[candidate.target] = self._breaker(candidate.target).resting()
        awake = await check((t for t, rest in targets.items() if rest is None), self._providers)
        found = {health.target: health for health in awake}
        return tuple(found.get(t) or Health(t, rest) for t, rest in targets.items())

    def open(self) -> None:
        """Make now what the first call of each agent would wait for; for a service that starts.

        Raises:
            PrivacyError: the environment asks for what an agent's privacy level forbids.
            ConfigError: the environment names a provider without a default model.
        """
        for agent in AGENTS:
            self._open(self._plan(agent, self._profile.routing[agent].privacy))

    def _begin(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> tuple[Request, Walk]:
        privacy = self._level(agent, context)
        plan = self._plan(agent, privacy)
        self._open(plan)
        request = self._request(agent, inputs)
        task = self._task(inputs, request, privacy, agent, context)
        pace = Pace(
            threshold_s=self._profile.latency_threshold_ms / 1000,
            deadline=context.deadline,
            retry_s=self._retry_s if self._profile.auto_fallback else 0.0,
            timeout_s=self._timeout_s,
            load_s=self._load_s,
            p95_s=plan.p95_s,
        )
        return request, Walk(self._decide(task, plan, plan.candidates), self._breaker, pace)

    def _open(self, plan: Plan) -> None:
        """Make what a route needs at its first call, so that no fallback waits for it: importing a
        vendor's library takes up to a second, and loading the guard's recognizers several."""
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

    def _door(self) -> Guard:
        """The guard before every cloud."""
        if self._guard is None:
            self._guard = Guard(self._profile)
        return self._guard

    def _request(self, agent: AgentName, inputs: BaseModel) -> Request:
        """The agent's request, not aimed at a target yet."""
        return AGENT_BY_NAME[agent].request(inputs, model="", thinking=None, options=Options())

    def _task(
        self,
        inputs: BaseModel,
        request: Request,
        privacy: PrivacyLevel,
        agent: AgentName,
        context: CallContext,
    ) -> Task:
        characters = len(request.messages[-1].content)
        return Task(
            agent=agent,
            privacy=privacy,
            complexity=complexity(
                measure(inputs, characters, context.prior_studies), self._profile.complexity
            ),
            need=context.need,
            images=any(message.images for message in request.messages),
            tokens=least_tokens(request),
        )

    def _decide(self, task: Task, plan: Plan, candidates: tuple[Candidate, ...]) -> Decision:
        awake = []
        for candidate in candidates:
            resting = self._breaker(candidate.target).resting()
            awake.append(replace(candidate, resting=resting) if resting else candidate)
        return decide(
            task,
            awake,
            order=plan.order,
            auto_fallback=self._profile.auto_fallback,
            why=plan.route.reason,
        )

    def _level(self, agent: AgentName, context: CallContext) -> PrivacyLevel:
        """The effective level; what nobody gave a level is local_only."""
        return strictest((self._profile.routing[agent].privacy, context.privacy)) or "local_only"

    def _plan(self, agent: AgentName, privacy: PrivacyLevel) -> Plan:
        plan = self._plans.get((agent, privacy))
        if plan is None:
            route = route_of(self._profile, self._environment, agent, privacy)
            plan = plan_for(
                self._profile, route, context_tokens=lambda t: self._settings(t).context_tokens
            )
            self._plans[agent, privacy] = plan
        return plan

    def _breaker(self, target: Target) -> Breaker:
        breaker = self._breakers.get(target)
        if breaker is None:
            breaker = self._breakers[target] = self._new_breaker()
        return breaker

    def _settings(self, target: Target) -> Options:
        if self._options is not None:
            return self._options
        if target.provider == "ollama":
            return Options(**self._profile.providers.ollama.options.model_dump())
        return Options()

    def _timeout_s(self, target: Target) -> float:
        settings = getattr(self._profile.providers, target.provider)
        return getattr(settings, "timeout_s", None) or _USUAL.total_s

    def _aimed(self, request: Request, turn: Turn) -> Request:
        target = turn.target
        return replace(
            request,
            model=target.model,
            thinking=target.thinking,
            options=self._settings(target),
            limits=turn.allowance.limits,
        )

    async def _complete(
        self, request: Request, turn: Turn, walk: Walk, context: CallContext
    ) -> Completion:
        target = turn.target
        provider = self._providers.get(target.provider)
        aimed = self._aimed(request, turn)
        if self._profile.is_local(target):
            answer = LocalTransport(provider).complete(aimed)
        else:
            answer = CloudTransport(provider).complete(self._clear(aimed, turn, walk, context))
        if context.deadline is None:
            return await answer
        try:
            # The provider holds its limits; what it does before its own clock starts counts too.
            async with asyncio.timeout_at(context.deadline) as timeout:
                return await answer
        except TimeoutError as error:
            if not timeout.expired():
                raise
            seconds = asyncio.get_running_loop().time() - turn.started
            raise timed_out(target.provider, "total", round(seconds, 3)) from error

    def _chunks(
        self, request: Request, turn: Turn, walk: Walk, context: CallContext
    ) -> AsyncGenerator[Chunk]:
        provider = self._providers.get(turn.target.provider)
        aimed = self._aimed(request, turn)
        if self._profile.is_local(turn.target):
            return LocalTransport(provider).stream(aimed)
        return CloudTransport(provider).stream(self._clear(aimed, turn, walk, context))

    def _clear(self, aimed: Request, turn: Turn, walk: Walk, context: CallContext) -> Cleared:
        level = walk.decision.task.privacy
        return self._door().clear(aimed, turn.target, level, context.identifiers)

    def _read(
        self,
        request: Request,
        completion: Completion,
        turn: Turn,
        walk: Walk,
        context: CallContext,
        call: ModelCall,
    ) -> Routed:
        """What a whole answer says.

        Raises:
            RefusalError: it is a refusal.
            AnswerError: it is cut off, empty or not in the agent's form.
        """
        task, target = walk.decision.task, turn.target
        cost = self._prices.cost(target, completion.usage, completion.timings.total_s).usd
        call.answered(completion, cost)
        call.content(
            request.messages,
            completion,
            privacy=task.privacy,
            identifiers=context.identifiers.values,
        )
        if completion.finish == "refusal":
            raise RefusalError(
                f"{task.agent}: {target} refuses to answer by its safety policy; change what is"
                " asked: another model is not asked in its place"
            )
        output = AGENT_BY_NAME[task.agent].read(completion)
        passed_over = tuple(f"{attempt.target}: {attempt.message}" for attempt in walk.attempts)
        walk.answered(turn)
        return Routed(
            agent=task.agent,
            target=target,
            completion=completion,
            output=output,
            passed_over=passed_over,
            reason=turn.choice.reason,
            attempts=tuple(walk.attempts),
            privacy=task.privacy,
            cost_usd=cost,
            fallback_used=any(attempt.target != target for attempt in walk.attempts),
        )

    async def _failed(self, walk: Walk, turn: Turn, error: SomaError) -> None:
        walk.failed(turn, error)
        if isinstance(error, ProviderError) and error.kind == "context_too_long":
            window = await self._window(turn.target)
            for target in walk.waiting():
                other = await self._window(target)
                if window is not None and other is not None and other <= window:
                    walk.skip(target, f"its context of {other} tokens is no longer")
        if walk.moves_on and walk.failure is not None:
            count_fallback(walk.decision.task.agent, turn.target, walk.failure)

    async def _window(self, target: Target) -> int | None:
        """Tokens that a target's context has; None where nobody says in time."""
        if self._profile.is_local(target):
            return self._settings(target).context_tokens
        try:
            async with asyncio.timeout(_CAPABILITIES_S):
                provider = self._providers.get(target.provider)
                return (await provider.capabilities(target.model)).context_tokens
        except (*_FAILURES, TimeoutError):
            return None
