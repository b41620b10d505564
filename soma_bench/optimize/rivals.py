"""What stands beside the best assignment: the runner-up, and the best single model everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soma_bench.optimize.optimizer import Order, all_demands, read_tables
from soma_bench.optimize.search import search
from soma_bench.optimize.solution import Plan, Solution, make_plan
from soma_bench.routing.constraints import Constraints, Objective, Pipeline
from soma_bench.routing.evidence import Evidence
from soma_bench.scoring.statistics import Pair, holm, paired_comparisons
from soma_bench.separation import TargetScores, more_cases, shared_cases
from soma_bench.types import AgentName

_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two targets differ at one agent."""

    agent: AgentName
    ours: str
    theirs: str
    mean: float
    """Quality of ours less that of theirs."""
    way: Literal["paired", "intervals"]
    """Case by case, or by whether the two intervals overlap, which tells fewer pairs apart."""
    p: float | None
    """Of no difference, adjusted for the number of agents compared; None without paired cases."""
    told_apart: bool
    more_cases: int | None
    """About how many more cases would tell them apart; 0 where they are told apart, None where there
    is no difference to be told, or without paired cases."""

    @property
    def message(self) -> str:
        """The comparison in plain words."""
        told = f"{self.agent} {self.ours} against {self.theirs} {self.mean:+.3f}"
        how = "by whether intervals overlap" if self.p is None else f"paired p = {self.p:.2g}"
        more = f", about {self.more_cases:,} more cases would tell" if self.more_cases else ""
        return f"{told}, {how}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """The second best assignment, some primary of which is another."""

    plan: Plan
    pipeline: Pipeline
    differences: tuple[Difference, ...]
    """At the agents whose primaries differ."""

    @property
    def told_apart(self) -> bool:
        """Whether the data show a difference in quality at one agent at least."""
        return any(difference.told_apart for difference in self.differences)

    @property
    def message(self) -> str:
        """In plain words whether the data can tell the best from the runner-up, and how."""
        can = "can" if self.told_apart else "cannot"
        named = "; ".join(item.message for item in self.differences)
        return f"the data {can} tell it from the best ({named})"


def runner_up(
    evidence: Sequence[Evidence],
    solution: Solution,
    *,
    pipeline: Order | None = None,
    scores: TargetScores,
) -> RunnerUp | None:
    """The second best assignment under the same constraints and objective; None if there is no other.

    Args:
        evidence: what ``solution`` was chosen from.
        solution: what `soma_bench.optimize.optimize` found.
        pipeline: the orders of the stages that may be chosen; the solution's own by default.
        scores: of every target in ``evidence``, case by case: where two share cases they are compared
            on these, as `soma_bench.comparison.Comparison.scores` has them. A target that is left out
            is compared by whether its interval overlaps the other's.

    Raises:
        ConfigError: the evidence cannot be used.
    """
    tables = read_tables(evidence, solution.constraints, pipeline or solution.pipeline)
    first = {
        choice.agent: candidate
        for choice in solution.plan.choices
        for candidate in tables[0].candidates[choice.agent]
        if candidate.row.target == choice.primary.target
    }
    found = search(tables, all_demands(tables), solution.objective, but=first)
    if found is None:
        return None
    pairs = [
        (choice.primary, found.primaries[choice.agent].row)
        for choice in solution.plan.choices
        if found.primaries[choice.agent].row.target != choice.primary.target
    ]
    return RunnerUp(
        plan=make_plan(found.table, found.primaries, found.fallbacks),
        pipeline=found.table.pipeline,
        differences=_differences(pairs, scores),
    )


def _differences(
    pairs: Sequence[tuple[Evidence, Evidence]], scores: TargetScores
) -> tuple[Difference, ...]:
    shared: dict[AgentName, Pair] = {}
    for ours, theirs in pairs:
        mine = scores.get((ours.agent, ours.target))
        others = scores.get((ours.agent, theirs.target))
        pair = None if mine is None or others is None else shared_cases(mine, others)
        if pair is not None:
            shared[ours.agent] = pair
    compared = paired_comparisons(list(shared.values()))
    adjusted = holm([paired.p for paired in compared])
    paired_by_agent = dict(zip(shared, zip(compared, adjusted, strict=True), strict=True))
    found = []
    for ours, theirs in pairs:
        paired, p = paired_by_agent.get(ours.agent, (None, None))
        if p is None:
            apart = ours.quality_low > theirs.quality_high or theirs.quality_low > ours.quality_high
        else:
            apart = p <= _ALPHA
        more = None if paired is None else more_cases(paired, len(compared))
        found.append(
            Difference(
                agent=ours.agent,
                ours=ours.target,
                theirs=theirs.target,
                mean=ours.quality - theirs.quality,
                way="intervals" if p is None else "paired",
                p=p,
                told_apart=apart,
                more_cases=0 if apart else more,
            )
        )
    return tuple(found)


def best_single_model(
    evidence: Sequence[Evidence],
    constraints: Constraints,
    *,
    pipeline: Order = "sequential",
    objective: Objective = "quality_latency_cost",
) -> Plan | None:
    """The best assignment whose primaries are all of one model, thinking set for each agent.

    It holds the constraints where a single model can; otherwise it is the best without them, and
    ``violated`` says which it breaks. None where no model was measured at all agents.

    Raises:
        ConfigError: the evidence cannot be used.
    """
    tables = read_tables(evidence, constraints, pipeline)
    for demands in (all_demands(tables), ()):
        found = search(tables, demands, objective, one_model=True)
        if found is not None:
            fallbacks = found.fallbacks if demands else {}
            return make_plan(found.table, found.primaries, fallbacks)
    return None
