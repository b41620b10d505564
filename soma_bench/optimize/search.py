"""The exact search: which candidate is each agent's primary, and which its fallback.

It takes one table for each order of the stages that may be chosen. Goals are met one after the
other over all of them: what cannot reach the best of a goal is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import inf

from soma_bench.optimize.model import Model, Picks
from soma_bench.optimize.programme import Weights
from soma_bench.optimize.table import (
    COST_UNITS,
    LATENCY_UNITS,
    QUALITY_UNITS,
    ROUNDING,
    Candidate,
    Demand,
    Table,
)
from soma_bench.routing.constraints import GOALS, Goal, Lexicographic, Objective, Weighted
from soma_bench.types import AGENTS

Tables = Sequence[Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far an answer may be from the optimum, its search having been cut off."""

    goal: Goal | None
    """The goal that was being met; None for a weighted sum. Goals after it were not looked at."""
    at_most: float
    """In the goal's own unit: quality, seconds, dollars per 1000, or the weighted sum's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Each agent's primary, and the fallback of those that have one."""

    table: Table
    """The one, of those searched, whose order of stages it is for."""
    primaries: Picks
    fallbacks: Picks
    gap: Gap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One goal as sums to minimise, with how far later goals may stay above the least."""

    goal: Goal | None
    sums: Callable[[Model], list[Weights]]
    slack: int
    unit: float
    """Units of the sums in one unit of the goal."""


def search(
    tables: Tables,
    demands: Collection[Demand],
    objective: Objective = "quality_latency_cost",
    *,
    deadline: float | None = None,
    one_model: bool = False,
    other_than: Picks | None = None,
) -> Assignment | None:
    """The best assignment that holds ``demands``; None where there is none.

    Primaries come first, by the objective; what it holds for equal goes by quality, latency, price
    and the targets' text. Given these, fallbacks: as many as can be, of another model than the
    primary where that can be, then by quality, latency and text.

    Args:
        tables: one for each order of the stages, the preferred one first.
        demands: what must hold.
        objective: what is best.
        deadline: on the clock of `time.monotonic`, when to stop with the best that is there.
        one_model: whether all primaries must be of one model.
        other_than: primaries that may not all be chosen again.

    Raises:
        SomaError: the deadline came before any answer.
    """
    prune = other_than is None
    models = [first_model(table, demands, deadline=deadline, prune=prune) for table in tables]
    for model in models:
        if one_model:
            model.one_model_only()
        if other_than is not None:
            model.other_than(other_than)
    gap: Gap | None = None
    for step in steps(objective):
        models, cut_off = narrow(models, step)
        if not models:
            return None
        if cut_off is not None:
            gap = Gap(goal=step.goal, at_most=cut_off / step.unit)
            break
    model = models[0]
    if gap is None:
        model.minimise_text([list(model.primaries[agent]) for agent in AGENTS])
    primaries = model.picked(model.primaries)
    return Assignment(
        table=model.table,
        primaries=primaries,
        fallbacks=_best_fallbacks(model, demands, primaries),
        gap=gap,
    )


def best_quality(tables: Tables, demands: Collection[Demand]) -> int | None:
    """The highest sum of the primaries' quality, in units; None where nothing holds ``demands``."""
    losses = []
    for table in tables:
        model = first_model(table, demands, prune=True)
        loss = model.minimum(model.quality_loss())
        if loss is not None:
            losses.append(loss)
    return len(AGENTS) * QUALITY_UNITS - min(losses) if losses else None


def is_feasible(tables: Tables, demands: Collection[Demand]) -> bool:
    """Whether any assignment holds ``demands``."""
    return any(first_model(table, demands, prune=True).minimise({}) for table in tables)


def any_assignment(tables: Tables, demands: Collection[Demand]) -> Assignment | None:
    """Some assignment that holds ``demands``, with no more fallbacks than these ask for."""
    for table in tables:
        model = first_model(table, demands, prune=False)
        if model.minimise({}):
            primaries, fallbacks = model.picked(model.primaries), model.picked(model.fallbacks)
            return Assignment(table=table, primaries=primaries, fallbacks=fallbacks)
    return None


def least_limit(
    tables: Tables, demands: Collection[Demand], free: Demand, *, quality: int = 0
) -> int | None:
    """The lowest limit (in units) in place of that of ``free``, itself one of ``demands``.

    Args:
        tables: as for `search`.
        demands: what must hold.
        free: the demand for latency, memory or cost whose limit is looked for.
        quality: the lowest sum of the primaries' quality, in units, that must be reached with it.
    """
    found = []
    for table in tables:
        model = first_model(table, demands, free=free, prune=not quality)
        if quality:
            model.programme.at_most(model.quality_loss(), len(AGENTS) * QUALITY_UNITS - quality)
        least = model.minimum(*model.limited[free.kind]) if free.kind in model.limited else 0
        if least is not None:
            found.append(least)
    return min(found, default=None)


def first_model(
    table: Table,
    demands: Collection[Demand],
    *,
    free: Demand | None = None,
    deadline: float | None = None,
    prune: bool,
) -> Model:
    """Primaries, and only those fallbacks that must be there; no limit on what ``free`` limits."""
    options = {agent: table.eligible(agent, demands) for agent in AGENTS}
    needed = {demand.agent for demand in demands if demand.kind == "fallback"}
    fallbacks = {agent: options[agent] for agent in AGENTS if agent in needed}
    limits = {demand.kind for demand in demands if demand != free}
    # Changing places needs the primaries to be as quick as is asked of the fallbacks.
    if prune and ("latency" in limits or "degraded" not in limits):
        options = {agent: _undominated(options[agent]) for agent in AGENTS}
        fallbacks = {agent: _worthy_fallbacks(group) for agent, group in fallbacks.items()}
    return Model(
        table, demands, primaries=options, fallbacks=fallbacks, free=free, deadline=deadline
    )


def _undominated(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Without those beside which the same model does as well in everything, and is preferred.

    Such a candidate is in no best assignment: in its place the other holds whatever it holds, also
    where the other was its fallback, since then the two can change places. Latencies decide nothing
    here: a stage off the slowest chain may be slower at no loss.
    """

    def beats(one: Candidate, other: Candidate) -> bool:
        if one.cost is None or other.cost is None or one.failures > other.failures:
            return False
        gains = (one.quality - other.quality, other.latency - one.latency, other.cost - one.cost)
        better = gains[0] > ROUNDING or gains[2] > ROUNDING or one.row.target < other.row.target
        return min(gains) >= 0 and better

    by_model = _by_model(candidates)
    return tuple(
        candidate
        for candidate in candidates
        if not any(beats(other, candidate) for other in by_model[candidate.model])
    )


def _worthy_fallbacks(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Without those beside which two of the same model are as quick and cheap.

    One of the two is not the primary and holds whatever such a candidate holds. Only whether there
    is a fallback counts while primaries are chosen, not how good it is.
    """
    kept = []
    for group in _by_model(candidates).values():
        ordered = sorted(group, key=lambda c: (c.latency, c.cost or 0))
        for place, candidate in enumerate(ordered):
            before = [other for other in ordered[:place] if _price(other) <= _price(candidate)]
            if len(before) < 2:
                kept.append(candidate)
    return tuple(kept)


def _price(candidate: Candidate) -> float:
    return inf if candidate.cost is None else candidate.cost


def _by_model(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.model, []).append(candidate)
    return found


def steps(objective: Objective) -> list[Step]:
    """The goals of an objective, one after the other, until only text tells assignments apart."""
    usual = [step for goal in GOALS for step in _goal(goal, 0)]
    if isinstance(objective, Weighted):
        weighted = Step(
            goal=None,
            sums=lambda model: model.weighted(objective),
            slack=ROUNDING,
            unit=QUALITY_UNITS,
        )
        return [weighted, *usual]
    if not isinstance(objective, Lexicographic):
        return usual
    tolerances = {
        "quality": round(objective.quality_tolerance * QUALITY_UNITS),
        "latency": round(objective.latency_tolerance_s * LATENCY_UNITS),
        "cost": round(objective.cost_tolerance_usd_per_1000 / 1000 * COST_UNITS),
    }
    steps = [step for goal in objective.order for step in _goal(goal, tolerances[goal])]
    return [*steps, *usual] if any(tolerances.values()) else steps


def _goal(goal: Goal, tolerance: int) -> list[Step]:
    """The steps of one goal; a price that is not known comes after all that are."""
    slack = ROUNDING + tolerance
    if goal == "quality":
        return [Step(goal=goal, sums=lambda m: [m.quality_loss()], slack=slack, unit=QUALITY_UNITS)]
    if goal == "latency":
        return [Step(goal=goal, sums=lambda m: m.latencies(), slack=slack, unit=LATENCY_UNITS)]
    return [
        Step(goal=goal, sums=lambda m: [m.unpriced()], slack=0, unit=1),
        Step(goal=goal, sums=lambda m: [m.prices()], slack=slack, unit=COST_UNITS / 1000),
    ]


def narrow(models: list[Model], step: Step) -> tuple[list[Model], float | None]:
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


def _best_fallbacks(first: Model, demands: Collection[Demand], primaries: Picks) -> Picks:
    table = first.table
    model = Model(
        table,
        demands,
        primaries={agent: (primaries[agent],) for agent in AGENTS},
        fallbacks={agent: table.eligible(agent, demands) for agent in AGENTS},
    )
    if table.constraints.may_swap:
        # A fallback that stays in memory must not drive out what keeps the primaries quick.
        held = first.value(first.latencies())
        model.programme.hold(model.latencies(), held)
    groups = model.fallbacks
    model.minimise(dict.fromkeys(model.without.values(), 1))
    model.minimise(
        {
            variable: 1
            for agent, group in groups.items()
            for variable, candidate in group.items()
            if candidate.model == primaries[agent].model
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
