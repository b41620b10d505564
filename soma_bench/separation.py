"""Which targets can be told apart from an agent's best, on the cases that both have answered.

The best is the one with the highest mean, and with few cases it is often only the luckiest: what is
not clearly worse may be as good, and the cheaper or faster of them is the better choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from soma_bench.scoring.statistics import (
    MeanInterval,
    Pair,
    Paired,
    cases_needed,
    detectable_difference,
    holm,
    paired_comparisons,
)
from soma_bench.types import AgentName

SMALL_DIFFERENCE = 0.05
"""The difference in score for which a design is reckoned."""
_ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaseMeans:
    """A target's score on each case, the mean over its repeats."""

    cases: Sequence[str]
    """What tells the cases apart, in their order."""
    means: npt.NDArray[np.float64]
    clusters: Sequence[str]
    """What each case shares with others; its own name where it stands alone."""


TargetScores = Mapping[tuple[AgentName, str], CaseMeans]
"""The scores case by case, by agent and target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstBest:
    """One target beside the best of its agent."""

    agent: AgentName
    target: str
    best: str
    cases: int
    """Cases that both have answered."""
    difference: MeanInterval
    """Mean of (target - best) over those cases, with its 95 % interval."""
    p: float
    """Two-sided, of the sign-flip test over clusters."""
    p_holm: float
    """Adjusted for all comparisons of the run, of all agents."""
    more_cases: int | None
    """About how many more cases would show a difference such as this one; 0 where it is shown,
    None where there is no difference to be shown."""

    @property
    def is_worse(self) -> bool:
        """Whether it is told apart from the best."""
        return self.p_holm <= _ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What an agent's comparisons can show."""

    agent: AgentName
    cases: int
    comparisons: int
    """Of the whole run: they share the 5 %."""
    sd: float
    """Median over the targets of the paired standard deviation a case."""
    detectable: float
    """Smallest difference that so many cases show in 80 of 100 such runs."""
    cases_for_small: int
    """Cases that show a difference of `SMALL_DIFFERENCE` in 80 of 100 such runs."""


def against_best(
    ranked: Sequence[tuple[AgentName, str]],
    scores: TargetScores,
) -> tuple[list[AgainstBest], list[Design]]:
    """Compare every target with its agent's best.

    Args:
        ranked: agent and target, an agent's best first.
        scores: the scores of each of them.
    """
    best: dict[AgentName, str] = {}
    compared: list[tuple[AgentName, str, Pair]] = []
    for agent, target in ranked:
        if best.setdefault(agent, target) == target:
            continue
        pair = shared_cases(scores[agent, target], scores[agent, best[agent]])
        if pair is not None:
            compared.append((agent, target, pair))
    results = paired_comparisons([pair for _, _, pair in compared])
    pairs = [
        (agent, target, paired)
        for (agent, target, _), paired in zip(compared, results, strict=True)
    ]
    adjusted = holm([paired.p for _, _, paired in pairs])
    rows = [
        AgainstBest(
            agent=agent,
            target=target,
            best=best[agent],
            cases=paired.cases,
            difference=paired.difference,
            p=paired.p,
            p_holm=p_holm,
            more_cases=0 if p_holm <= _ALPHA else more_cases(paired, len(pairs)),
        )
        for (agent, target, paired), p_holm in zip(pairs, adjusted, strict=True)
    ]
    return rows, _designs(pairs)


def shared_cases(ours: CaseMeans, theirs: CaseMeans) -> Pair | None:
    """Both scores on the shared cases; None where there are none."""
    if ours.cases == theirs.cases:
        return Pair(ours.means, theirs.means, ours.clusters)
    place = {case: position for position, case in enumerate(theirs.cases)}
    shared = [position for position, case in enumerate(ours.cases) if case in place]
    if not shared:
        return None
    return Pair(
        ours.means[shared],
        theirs.means[[place[ours.cases[position]] for position in shared]],
        [ours.clusters[position] for position in shared],
    )


def more_cases(paired: Paired, comparisons: int) -> int | None:
    """About how many more cases would show a difference such as the one that was not told apart.

    Args:
        paired: the comparison.
        comparisons: how many share the 5 % of error.

    Returns:
        None where there is no difference to be shown.
    """
    difference = abs(paired.difference.mean)
    if difference < 1e-9 or not paired.sd:
        return None
    # What was not found although the formula has it found takes one case more at least.
    return max(1, cases_needed(difference, paired.sd, comparisons=comparisons) - paired.cases)


def _designs(pairs: Sequence[tuple[AgentName, str, Paired]]) -> list[Design]:
    by_agent: dict[AgentName, list[Paired]] = defaultdict(list)
    for agent, _, paired in pairs:
        by_agent[agent].append(paired)
    designs = []
    for agent, rivals in by_agent.items():
        spreads = [rival.sd for rival in rivals if rival.sd]
        if not spreads:
            continue
        sd, cases = median(spreads), round(median(rival.cases for rival in rivals))
        designs.append(
            Design(
                agent=agent,
                cases=cases,
                comparisons=len(pairs),
                sd=sd,
                detectable=detectable_difference(cases, sd, comparisons=len(pairs)),
                cases_for_small=cases_needed(SMALL_DIFFERENCE, sd, comparisons=len(pairs)),
            )
        )
    return designs
