"""What the router knows before it asks: the profile under the environment, and who rests now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pydantic import BaseModel

from soma_bench.environment import Environment
from soma_bench.providers.base import least_tokens
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.candidates import Plan, plan_for
from soma_bench.routing.complexity import complexity, measure
from soma_bench.routing.context import CallContext, strictest
from soma_bench.routing.decision import Candidate, Decision, Task, decide
from soma_bench.routing.overrides import route_of, under
from soma_bench.routing.profile import Profile
from soma_bench.types import AgentName, Limits, Options, PrivacyLevel, Request, Target


class Planner:
    """Works out each agent's route once, and decides each question by it.

    Args:
        profile: the profile.
        environment: what comes before it.
        options: generation settings of every request; None leaves them to the profile.
        breaker: makes the breaker of a target.
    """

    def __init__(
        self,
        profile: Profile,
        environment: Environment,
        options: Options | None,
        breaker: Callable[[], Breaker],
    ) -> None:
        self.profile = under(profile, environment)
        self._environment = environment
        self._options = options
        self._ollama = Options(**self.profile.providers.ollama.options.model_dump())
        self._new_breaker = breaker
        self._breakers: dict[Target, Breaker] = {}
        self._plans: dict[tuple[AgentName, PrivacyLevel], Plan] = {}

    def level(self, agent: AgentName, context: CallContext) -> PrivacyLevel:
        """The effective level of a call; what nobody gave a level is local_only."""
        return strictest((self.profile.routing[agent].privacy, context.privacy)) or "local_only"

    def plan(self, agent: AgentName, level: PrivacyLevel) -> Plan:
        """The agent's route for data of a level.

        Raises:
            PrivacyError: the environment asks for what the level forbids.
            ConfigError: the environment names a provider without a default model.
        """
        plan = self._plans.get((agent, level))
        if plan is None:
            route = route_of(self.profile, self._environment, agent, level)
            # Who names a provider by the environment means it: no rule turns that round.
            forced = self._environment.primary_provider or self._environment.fallback_provider
            plan = plan_for(
                self.profile,
                route,
                order="explicit" if forced else self.profile.routing[agent].order,
                context_tokens=lambda target: self.options(target).context_tokens,
            )
            self._plans[agent, level] = plan
        return plan

    def task(
        self,
        agent: AgentName,
        level: PrivacyLevel,
        inputs: BaseModel,
        request: Request,
        context: CallContext,
    ) -> Task:
        """What is to be decided about a case."""
        characters = len(request.messages[-1].content)
        measures = measure(inputs, characters, context.prior_studies)
        return Task(
            agent=agent,
            privacy=level,
            complexity=complexity(measures, self.profile.complexity),
            need=context.need,
            images=any(message.images for message in request.messages),
            tokens=least_tokens(request),
        )

    def decide(self, task: Task, plan: Plan, candidates: tuple[Candidate, ...]) -> Decision:
        """Whom to ask now."""
        awake = []
        for candidate in candidates:
            resting = self.breaker(candidate.target).resting()
            awake.append(replace(candidate, resting=resting) if resting else candidate)
        return decide(
            task,
            awake,
            order=plan.order,
            auto_fallback=self.profile.auto_fallback,
            why=plan.route.reason,
        )

    def breaker(self, target: Target) -> Breaker:
        """The breaker of a target."""
        breaker = self._breakers.get(target)
        if breaker is None:
            breaker = self._breakers[target] = self._new_breaker()
        return breaker

    def options(self, target: Target) -> Options:
        """Generation settings of a request to a target."""
        if self._options is not None:
            return self._options
        return self._ollama if target.provider == "ollama" else Options()

    def timeout_s(self, target: Target) -> float:
        """The timeout that the profile gives a target's provider."""
        settings = getattr(self.profile.providers, target.provider)
        return getattr(settings, "timeout_s", None) or Limits().total_s
