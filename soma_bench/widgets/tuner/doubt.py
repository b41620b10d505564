"""Which choices the data cannot tell from others, and how many more cases would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma_bench.comparison import Comparison
from soma_bench.optimize import Plan
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.routing.evidence import Evidence
from soma_bench.scoring.statistics import cases_needed
from soma_bench.types import AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """One agent's choice beside what else may play."""

    agent: AgentName
    rivals: tuple[str, ...]
    """Targets that the data do not tell from the choice, in the order of the comparison."""
    more_cases: int | None
    """About how many more cases would tell the first of them from the choice; None where no
    number is known, as where their means are equal."""


def doubts(comparison: Comparison, plan: Plan, playing: Sequence[Evidence]) -> tuple[Doubt, ...]:
    """One entry for each agent whose choice has rivals.

    The agent's best is compared case by case, as `soma_bench.separation` does; of a raced agent
    those that were still in the race are rivals; any other pair by whether its intervals overlap,
    which tells fewer pairs apart.
    """
    found = []
    for choice in plan.choices:
        others = [
            row
            for row in playing
            if row.agent == choice.agent and row.target != choice.primary.target
        ]
        rivals = [row for row in others if _is_rival(comparison, choice.primary, row)]
        if rivals:
            counts = [_more_cases(comparison, choice.primary, row) for row in rivals]
            found.append(
                Doubt(
                    agent=choice.agent,
                    rivals=tuple(row.target for row in rivals),
                    more_cases=min((count for count in counts if count), default=None),
                )
            )
    return tuple(found)


def doubts_text(found: Sequence[Doubt]) -> str:
    """The same as sentences."""
    if not found:
        return "The data tell every choice from all other targets that may play."
    named = [f"{AGENT_TITLES[doubt.agent]} from {_count(doubt)}" for doubt in found]
    return f"The data cannot tell {'; '.join(named)}."


def _count(doubt: Doubt) -> str:
    others = "1 other" if len(doubt.rivals) == 1 else f"{len(doubt.rivals)} others"
    if doubt.more_cases is None:
        return others
    cases = "1 more case" if doubt.more_cases == 1 else f"{doubt.more_cases:,} more cases"
    first = "it" if len(doubt.rivals) == 1 else "the first of them"
    return f"{others} (about {cases} would tell {first} apart)"


def _is_rival(comparison: Comparison, ours: Evidence, theirs: Evidence) -> bool:
    looks = comparison.looks.get(ours.agent)
    if looks:
        return theirs.target in looks[-1].survivors
    for one, other in ((ours, theirs), (theirs, ours)):
        paired = comparison.against_best.get((one.agent, one.target))
        if paired is not None and paired.best == other.target:
            return not paired.is_worse
    return ours.quality_low <= theirs.quality_high and theirs.quality_low <= ours.quality_high


def _more_cases(comparison: Comparison, ours: Evidence, theirs: Evidence) -> int | None:
    for one, other in ((ours, theirs), (theirs, ours)):
        paired = comparison.against_best.get((one.agent, one.target))
        if paired is not None and paired.best == other.target:
            return paired.more_cases
    design = comparison.designs.get(ours.agent)
    difference = abs(ours.quality - theirs.quality)
    if design is None or difference < 1e-9:
        return None
    needed = cases_needed(difference, design.sd, comparisons=design.comparisons)
    return max(1, needed - min(ours.cases, theirs.cases))
