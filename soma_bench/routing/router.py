"""The router: puts an agent's question to the targets that its profile allows, best first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from soma_bench.agents import agent_for
from soma_bench.environment import Environment, read_environment
from soma_bench.errors import (
    AnswerError,
    ConfigError,
    PrivacyError,
    ProviderError,
    RefusalError,
    SomaError,
)
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import load_prices
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.calls import Calls, Question
from soma_bench.routing.candidates import Plan
from soma_bench.routing.complexity import Complexity
from soma_bench.routing.context import CallContext
from soma_bench.routing.decision import Decision, Task
from soma_bench.routing.health import Health, check
from soma_bench.routing.planner import Planner
from soma_bench.routing.profile import Profile, profile_digest
from soma_bench.routing.routed import Event, Restarted, Routed
from soma_bench.routing.tally import HealthSummary, Tally, TargetSummary
from soma_bench.routing.walk import Pace, Turn, Walk, outcome_of
from soma_bench.telemetry import ModelCall, count_fallback, model_call_span
from soma_bench.types import (
    AGENTS,
    AgentName,
    Completion,
    Image,
    Limits,
    Options,
    Request,
    Target,
)

if TYPE_CHECKING:
    from soma_bench.routing.live import LiveRouter
    from soma_bench.routing.signing import PublicKey

__all__ = ["Event", "Restarted", "Routed", "Router"]

_FAILURES = (ProviderError, AnswerError, PrivacyError, ConfigError)
"""What keeps one target from answering and leaves the others as they are."""
_USUAL = Limits()
_RETRY_S = 0.5


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
        tally: counts how calls end; one of its own by default.

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
        tally: Tally | None = None,
    ) -> None:
        environment = environment or read_environment()
        self._profile = profile
        self._planner = Planner(profile, environment, options, breaker)
        self._calls = Calls(self._planner, providers)
        self._providers = providers
        self._prices = load_prices(environment)
        self._retry_s = retry_s
        self._load_s = load_s
        self._tally = tally or Tally()

    @classmethod
    def from_profile(
        cls,
        path: Path | str,
        *,
        verify: PublicKey | Path | str | None = None,
        watch: bool = False,
        **settings: Any,
    ) -> LiveRouter:
        """A router for production, which owns its providers: ``async with``, or close it.

        Args:
            path: the profile's file.
            verify: whose signature it must bear, as a key or the file of one.
            watch: whether to follow changes of the file; one that is not valid is not taken.
            settings: further arguments of `soma_bench.routing.live.LiveRouter`.

        Raises:
            ConfigError: the profile, the key or the environment is not valid.
        """
        from soma_bench.routing.live import LiveRouter

        return LiveRouter(path, verify=verify, watch=watch, **settings)

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
        question, walk = self._begin(agent, inputs, context)
        while (turn := await walk.next()) is not None:
            try:
                with model_call_span(turn.target, agent) as call:
                    request = await self._calls.worded(question, turn, walk.decision.task.privacy)
                    completion = await self._calls.complete(
                        request, turn, walk.decision.task.privacy, context
                    )
                    routed = self._read(inputs, request, completion, turn, walk, context, call)
            except _FAILURES as error:
                await self._failed(walk, turn, error)
            except BaseException:
                walk.given_up(turn)
                self._tally.given_up(turn.target)
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
        question, walk = self._begin(agent, inputs, context)
        while (turn := await walk.next()) is not None:
            try:
                if walk.failure is not None:
                    yield Restarted(turn.target, walk.failure)
                with model_call_span(turn.target, agent) as call:
                    completion: Completion | None = None
                    request = await self._calls.worded(question, turn, walk.decision.task.privacy)
                    pieces = self._calls.chunks(request, turn, walk.decision.task.privacy, context)
                    async with aclosing(pieces) as chunks:
                        async for chunk in chunks:
                            if chunk.text:
                                yield chunk.text
                            completion = chunk.completion
                    assert completion is not None, "a stream's last chunk carries its completion"
                    routed = self._read(inputs, request, completion, turn, walk, context, call)
            except _FAILURES as error:
                await self._failed(walk, turn, error)
            except BaseException:
                walk.given_up(turn)
                self._tally.given_up(turn.target)
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
        privacy = self._planner.level(agent, context)
        plan = self._planner.plan(agent, privacy)
        if inputs is None:
            task = Task(agent=agent, privacy=privacy, complexity=level, need=context.need)
        else:
            request = _question(agent, inputs, context).words
            task = self._planner.task(agent, privacy, inputs, request, context)
        return self._planner.decide(task, plan, (*plan.candidates, *plan.others))

    def stays(
        self,
        agent: AgentName,
        context: CallContext = CallContext(),  # noqa: B008 - frozen
    ) -> bool:
        """Whether no question of an agent can leave machines of one's own, whatever happens.

        Raises:
            PrivacyError: the environment asks for what the privacy level forbids.
            ConfigError: the environment names a provider without a default model.
        """
        level = self._planner.level(agent, context)
        candidates = self._planner.plan(agent, level).candidates
        return level == "local_only" or all(candidate.is_local for candidate in candidates)

    async def health(self) -> tuple[Health, ...]:
        """The health of every target that an agent is routed to; those that rest are not asked."""
        targets: dict[Target, str | None] = {}
        for plan in self._own_plans():
            for candidate in plan.candidates:
                target = candidate.target
                targets[target] = self._planner.breaker(target).resting()
        awake = await check((t for t, rest in targets.items() if rest is None), self._providers)
        found = {health.target: health for health in awake}
        return tuple(found.get(t) or Health(t, rest) for t, rest in targets.items())

    def health_summary(self) -> HealthSummary:
        """What is known of every target without asking a backend: breakers, counts, last errors."""
        users: dict[Target, list[AgentName]] = {}
        is_local: dict[Target, bool] = {}
        refused: dict[AgentName, str] = {}
        for agent in AGENTS:
            try:
                plan = self._own_plan(agent)
            except (PrivacyError, ConfigError) as error:
                refused[agent] = str(error)
                continue
            for candidate in plan.candidates:
                users.setdefault(candidate.target, []).append(agent)
                is_local[candidate.target] = candidate.is_local
        return HealthSummary(
            profile=self._profile.name,
            digest=profile_digest(self._profile),
            targets=tuple(
                self._target_summary(target, tuple(agents), is_local[target])
                for target, agents in users.items()
            ),
            refused=refused,
        )

    def open(self) -> None:
        """Make now what the first call of each agent would wait for; for a service that starts.

        Raises:
            PrivacyError: the environment asks for what an agent's privacy level forbids.
            ConfigError: the environment names a provider without a default model.
        """
        for plan in self._own_plans():
            self._calls.open(plan)

    def _own_plans(self) -> list[Plan]:
        """Each agent's route for data that have no level of their own."""
        return [self._own_plan(agent) for agent in AGENTS]

    def _own_plan(self, agent: AgentName) -> Plan:
        return self._planner.plan(agent, self._planner.profile.routing[agent].privacy)

    def _target_summary(
        self, target: Target, agents: tuple[AgentName, ...], is_local: bool
    ) -> TargetSummary:
        breaker, count = self._planner.breaker(target), self._tally.of(target)
        return TargetSummary(
            target=str(target),
            provider=target.provider,
            is_local=is_local,
            agents=agents,
            breaker=breaker.state,
            resting=breaker.resting(),
            answered=count.answered,
            failed=dict(count.failed),
            given_up=count.given_up,
            last_error=count.last_error,
            last_error_at=count.last_error_at,
        )

    def _begin(
        self, agent: AgentName, inputs: BaseModel, context: CallContext
    ) -> tuple[Question, Walk]:
        planner = self._planner
        level = planner.level(agent, context)
        plan = planner.plan(agent, level)
        self._calls.open(plan)
        question = _question(agent, inputs, context)
        task = planner.task(agent, level, inputs, question.words, context)
        pace = Pace(
            threshold_s=planner.profile.latency_threshold_ms / 1000,
            deadline=context.deadline,
            retry_s=self._retry_s if planner.profile.auto_fallback else 0.0,
            timeout_s=planner.timeout_s,
            load_s=self._load_s,
            p95_s=plan.p95_s,
        )
        return question, Walk(planner.decide(task, plan, plan.candidates), planner.breaker, pace)

    def _read(
        self,
        inputs: BaseModel,
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
        output = agent_for(task.agent, inputs).read(completion)
        passed_over = tuple(f"{attempt.target}: {attempt.message}" for attempt in walk.attempts)
        walk.answered(turn)
        self._tally.answered(target)
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
            fallback_used=target != walk.decision.ranked[0],
            saw_images=any(message.images for message in request.messages),
        )

    async def _failed(self, walk: Walk, turn: Turn, error: SomaError) -> None:
        self._tally.failed(turn.target, outcome_of(error))
        walk.failed(turn, error)
        if isinstance(error, ProviderError) and error.kind == "context_too_long":
            window = await self._calls.window(turn.target)
            for target in walk.waiting():
                other = await self._calls.window(target)
                if window is not None and other is not None and other <= window:
                    walk.skip(target, f"its context of {other} tokens is no longer")
        if walk.moves_on and walk.failure is not None:
            count_fallback(walk.decision.task.agent, turn.target, walk.failure)


def _question(agent: AgentName, inputs: BaseModel, context: CallContext) -> Question:
    """The agent's request, not aimed at a target yet."""

    def request(images: tuple[Image, ...]) -> Request:
        asked = agent_for(agent, inputs)
        return asked.request(inputs, model="", thinking=None, options=Options(), images=images)

    return Question(words=request(()), shown=request(context.images) if context.images else None)
