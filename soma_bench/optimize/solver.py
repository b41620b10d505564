"""The search by the solver: slower than enumeration, but for any number of candidates.

It is asked where enumeration gives up, stops at a deadline with a gap, and is the referee in tests.
"""

from __future__ import annotations

from collections.abc import Sequence

from soma_bench.optimize.candidates import QUALITY_UNITS, ROUNDING
from soma_bench.optimize.goals import Gap, Step
from soma_bench.optimize.model import Model, Picks
from soma_bench.optimize.problem import Primaries, Problem
from soma_bench.types import AGENTS


def best_primaries(
    problems: Sequence[Problem], steps: Sequence[Step], deadline: float | None
) -> Primaries | None:
    """What meets all steps one after the other, then the first by text; None where nothing fits.

    Raises:
        SomaError: the deadline came before any answer.
    """
    models = [problem.model(deadline) for problem in problems]
    gap: Gap | None = None
    for step in steps:
        models, cut_off = _narrow(models, step)
        if not models:
            return None
        if cut_off is not None:
            gap = Gap(goal=step.goal, at_most=cut_off / step.unit)
            break
    table = models[0].table
    if gap is not None:
        models = models[:1]
    found = []
    for model in models:
        if model.table is not table:
            continue
        if gap is None:
            model.minimise_text([list(model.primaries[agent]) for agent in AGENTS])
        found.append(
            Primaries(
                table=table,
                picks=model.picked(model.primaries),
                fallbacks=model.picked(model.fallbacks),
                latency=model.value(model.latencies()),
                gap=gap,
            )
        )
    return min(found, key=lambda primaries: primaries.text)


def least(problem: Problem, step: Step) -> int | None:
    """The least value of a step's figure; None where nothing fits."""
    model = problem.model()
    return model.minimum(*step.sums(model))


def any_picks(problem: Problem) -> tuple[Picks, Picks] | None:
    """Some primaries and the fallbacks that they need; None where nothing fits."""
    model = problem.model()
    if not model.minimise({}):
        return None
    return model.picked(model.primaries), model.picked(model.fallbacks)


def least_limit(problem: Problem) -> int | None:
    """The lowest limit in place of that of the free demand; None where the others cannot be held."""
    assert problem.free is not None
    model = problem.model()
    return model.minimum(*model.limited.get(problem.free.kind, [{}]))


def best_fallbacks(problem: Problem, latency: int) -> Picks:
    """The best fallbacks beside fixed primaries, whose latency may not rise.

    Args:
        problem: with one primary for each agent, and all fallbacks that there are.
        latency: of the primaries, in units.
    """
    model = problem.model()
    if problem.may_swap:
        # A fallback that stays in memory must not drive out what keeps the primaries quick.
        model.programme.hold(model.latencies(), latency)
    groups = model.fallbacks
    model.minimise(dict.fromkeys(model.without.values(), 1))
    model.minimise(
        {
            variable: 1
            for agent, group in groups.items()
            for variable, candidate in group.items()
            if candidate.model == problem.primaries[agent][0].model
        }
    )
    loss = {v: QUALITY_UNITS - c.quality for group in groups.values() for v, c in group.items()}
    loss.update(dict.fromkeys(model.without.values(), QUALITY_UNITS))
    model.minimise(loss, slack=ROUNDING)
    model.minimise(
        {v: c.latency for group in groups.values() for v, c in group.items()}, slack=ROUNDING
    )
    model.minimise_text(
        [
            [*groups[agent], *([model.without[agent]] if agent in model.without else [])]
            for agent in AGENTS
        ]
    )
    return model.picked(groups)


def _narrow(models: list[Model], step: Step) -> tuple[list[Model], float | None]:
    """The models that reach the least value of a step, held there; the gap where it was cut off."""
    values = [model.minimum(*step.sums(model)) for model in models]
    known = [value for value in values if value is not None]
    if not known:
        return [], None
    best = min(known)
    # A model cut off might have come below the best by its gap.
    lowest = [
        v - (m.programme.gap or 0) for m, v in zip(models, values, strict=True) if v is not None
    ]
    cut_off = any(model.programme.gap is not None for model in models)
    kept = [
        model
        for model, value in zip(models, values, strict=True)
        if value is not None and value <= best + step.slack
    ]
    kept.sort(key=lambda model: cut_off and model.value(step.sums(model)))
    for model in kept:
        model.programme.hold(step.sums(model), best + step.slack)
    return kept, best - min(lowest) if cut_off else None
