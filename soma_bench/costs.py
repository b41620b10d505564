"""What analyses cost: all in the cloud, all on one's own machine, or some of each; and the pay-back.

Fees follow from tokens and today's price list, local calls from their time, the machine's power and
the tariff. Where a run has measured an agent on a target its tokens and times are used; for the rest
those of the original plan stand in, and each scenario says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from soma_bench.hardware.original import TABLE
from soma_bench.providers.prices import Prices
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, Target, Usage

Basis = Literal["measured", "plan", "mixed"]

PER_MONTH = 1000
HARDWARE_USD = 4000.0
"""A Mac Studio (M4 Max, 36 GB), as the original plan of November 2025 has it."""
PLAN_USD: Mapping[str, float] = {"cloud only": 0.08, "hybrid": 0.02, "full local": 0.002}
"""Price of one analysis as the plan states it; how it was reckoned is not told."""
PLAN_PROMPT_TOKENS: Mapping[AgentName, int] = {
    "alignment": 330,
    "radiologist": 350,
    "pathologist": 480,
    "report_writer": 590,
    "qc_reviewer": 560,
}
"""The plan did not count prompts: these are the mean lengths of the shipped suites' prompts, at 3.5
characters a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one agent's call costs in a scenario."""

    agent: AgentName
    target: Target
    usd: float | None
    """None where its price is not known; ``source`` says why."""
    basis: Literal["measured", "plan"]
    """Where its tokens or its time are from."""
    source: str
    """By which prices, with their date or version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A way to route, and what it costs."""

    name: str
    stages: tuple[Stage, ...]
    per_month: int
    """Analyses a month."""

    @property
    def usd(self) -> float | None:
        """Price of one analysis; None where a stage's is not known."""
        prices = [stage.usd for stage in self.stages if stage.usd is not None]
        return sum(prices) if len(prices) == len(self.stages) else None

    @property
    def usd_a_month(self) -> float | None:
        """Price of a month."""
        return None if self.usd is None else self.usd * self.per_month

    @property
    def basis(self) -> Basis:
        """Where the tokens and times are from."""
        kinds = {stage.basis for stage in self.stages}
        return "mixed" if len(kinds) > 1 else kinds.pop()

    @property
    def is_local(self) -> bool:
        """Whether it needs a machine of one's own."""
        return any(stage.target.is_local for stage in self.stages)


def scenario(
    name: str,
    routes: Mapping[AgentName, Target],
    prices: Prices,
    *,
    evidence: Sequence[Evidence] = (),
    per_month: int = PER_MONTH,
) -> Scenario:
    """What a routing costs.

    Args:
        name: its name.
        routes: each agent's target.
        prices: what calls cost.
        evidence: what was measured; agents and targets that are not in it take the plan's figures.
        per_month: analyses a month.
    """
    rows = {(row.agent, row.target): row for row in evidence}
    stages = tuple(
        _stage(agent, routes[agent], rows.get((agent, str(routes[agent]))), prices)
        for agent in AGENTS
    )
    return Scenario(name=name, stages=stages, per_month=per_month)


def _stage(agent: AgentName, target: Target, row: Evidence | None, prices: Prices) -> Stage:
    usage, seconds, basis = _planned(agent)
    if row is not None and row.prompt_tokens is not None and row.output_tokens is not None:
        usage = Usage(
            prompt_tokens=round(row.prompt_tokens), output_tokens=round(row.output_tokens)
        )
        seconds, basis = row.latency_p50_s, "measured"
    cost = prices.cost(target, usage, seconds if target.is_local else None)
    dated = f"{cost.source}, as of {cost.as_of}" if cost.as_of else cost.source
    return Stage(agent=agent, target=target, usd=cost.usd, basis=basis, source=dated)


def _planned(agent: AgentName) -> tuple[Usage, float, Literal["measured", "plan"]]:
    row = next(row for row in TABLE if row.agent == agent)
    usage = Usage(prompt_tokens=PLAN_PROMPT_TOKENS[agent], output_tokens=row.tokens)
    return usage, row.seconds, "plan"


def usual_scenarios(
    cloud: Target,
    local: Target,
    prices: Prices,
    *,
    evidence: Sequence[Evidence] = (),
    per_month: int = PER_MONTH,
) -> tuple[Scenario, ...]:
    """The plan's three: cloud only; hybrid, with the ReportWriter alone in the cloud; full local."""
    everywhere: Mapping[str, Mapping[AgentName, Target]] = {
        "cloud only": dict.fromkeys(AGENTS, cloud),
        "hybrid": {agent: cloud if agent == "report_writer" else local for agent in AGENTS},
        "full local": dict.fromkeys(AGENTS, local),
    }
    return tuple(
        scenario(name, routes, prices, evidence=evidence, per_month=per_month)
        for name, routes in everywhere.items()
    )


def pay_back_months(
    ours: float | None, clouds: float | None, hardware_usd: float = HARDWARE_USD
) -> float | None:
    """Months until a machine has saved its price, from what a month costs with and without it.

    None where a price is not known, or nothing is saved: then it never does.
    """
    if ours is None or clouds is None or clouds <= ours:
        return None
    return hardware_usd / (clouds - ours)
