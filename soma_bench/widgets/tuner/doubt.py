"""Which choices the data cannot tell from others, and how many more cases would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma_bench.comparison import Comparison
from soma_bench.optimize import Plan
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.routing.evidence import Evidence
from soma_bench.separation import SMALL_DIFFERENCE
from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One agent's choice beside what else may play."""

    agent: AgentName
    rivals: tuple[str, ...]
    """Targets that the data do not tell from the choice, in the order of the comparison."""
    more_cases: int | None
    """About how many more cases would show differences of `SMALL_DIFFERENCE`; None where the run
    cannot say, as of one that was raced."""


def doubts(comparison: Comparison, plan: Plan, playing: Sequence[Evidence]) -> tuple[Doubt, ...]:
    """One entry for each agent whose choice has rivals.

    The agent's best is compared case by case, as `soma_bench.separation` does; of a raced agent
    those that were still in the race are rivals; any other pair by whether its intervals overlap,
    which tells fewer pairs apart.
    """
    found = []
    for choice in plan.choices:
        rivals = tuple(
            row.target
            for row in playing
            if row.agent == choice.agent
            and row.target != choice.primary.target
            and _is_rival(comparison, choice.primary, row)
        )
        design = comparison.designs.get(choice.agent)
        more = None if design is None else max(0, design.cases_for_small - design.cases)
        if rivals:
            found.append(Doubt(agent=choice.agent, rivals=rivals, more_cases=more))
    return tuple(found)


def doubts_text(found: Sequence[Doubt]) -> str:
    """The same in a sentence or two."""
    if not found:
        return "The data tell every choice from all other targets that may play."
    named = [f"{AGENT_TITLES[doubt.agent]} from {_others(doubt)}" for doubt in found]
    more = [f"{AGENT_TITLES[d.agent]} {d.more_cases:,}" for d in found if d.more_cases]
    text = f"The data cannot tell {', '.join(named)}."
    if not more:
        return text
    return (
        f"{text} To show differences of {SMALL_DIFFERENCE:g} takes about so many more cases:"
        f" {', '.join(more)}."
    )


def _others(doubt: Doubt) -> str:
    return "1 other" if len(doubt.rivals) == 1 else f"{len(doubt.rivals)} others"


def _is_rival(comparison: Comparison, ours: Evidence, theirs: Evidence) -> bool:
    looks = comparison.looks.get(ours.agent)
    if looks:
        return theirs.target in looks[-1].survivors
    for one, other in ((ours, theirs), (theirs, ours)):
        paired = comparison.against_best.get((one.agent, one.target))
        if paired is not None and paired.best == other.target:
            return not paired.is_worse
    return ours.quality_low <= theirs.quality_high and theirs.quality_low <= ours.quality_high
