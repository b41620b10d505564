"""In words: what a run proves of each target, and how sure that is."""

from __future__ import annotations

from soma_bench.comparison import Comparison
from soma_bench.routing.evidence import Evidence
from soma_bench.separation import SMALL_DIFFERENCE
from soma_bench.types import AgentName


def standing(comparison: Comparison, row: Evidence) -> str:
    """What the figures prove of a target beside the best one."""
    looks = comparison.looks.get(row.agent)
    if looks:
        if row.target == looks[-1].chosen:
            return "chosen, held-out cases" if row.selection == "held_out" else "chosen, same cases"
        if row.target in looks[-1].survivors:
            return "may be the best"
        dropped = next((look.n for look in looks if row.target not in look.survivors), looks[-1].n)
        return f"dropped at {dropped}"
    pair = comparison.against_best.get((row.agent, row.target))
    if pair is None:
        return "best"
    if pair.is_worse:
        return f"worse by {-pair.difference.mean:.3f}"
    if pair.more_cases is None:
        return "not told apart"
    return f"not told apart, +{pair.more_cases} cases"


def how_sure(comparison: Comparison, agent: AgentName) -> str:
    """How many of an agent's targets may be its best, and what so many cases can show.

    Empty where there is nothing to compare.
    """
    looks = comparison.looks.get(agent)
    if looks:
        last = looks[-1]
        return (
            f"raced to {last.n} cases: {len(last.survivors)} of {len(looks[0].standings)} may be the"
            f" best; stopped as {last.stop or 'answers are missing'}; expected regret of the leader"
            f" {last.regret:.3f}"
        )
    rivals = [pair for pair in comparison.against_best.values() if pair.agent == agent]
    if not rivals:
        return ""
    close = sum(not pair.is_worse for pair in rivals)
    text = f"{close} of {len(rivals)} cannot be told from the best"
    design = comparison.designs.get(agent)
    if design:
        text += (
            f"; {design.cases} cases show a difference of {design.detectable:.2f}, and"
            f" {SMALL_DIFFERENCE} takes about {design.cases_for_small}"
            f" ({design.comparisons} comparisons, power 80 %)"
        )
    return text
