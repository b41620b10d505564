"""The optimiser's question answered by trying everything, in exact fractions.

Written from the constraints' meaning alone; it shares nothing with the optimiser but its input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import product

from soma_bench.routing.constraints import Constraints, Lexicographic, Objective, Weighted
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, Target

Row = Evidence
Rows = tuple[Row, ...]
Fallbacks = tuple[Row | None, ...]


@cache
def exact(value: float) -> Fraction:
    """The simple fraction that a figure stands for: 1/3 for 0.3333333333333333."""
    return Fraction(value).limit_denominator(100_000)


def model_of(row: Row) -> str:
    return row.target.partition("?")[0]


@cache
def provider_of(target: str) -> str:
    return Target.parse(target).provider


def is_local(row: Row) -> bool:
    return provider_of(row.target) in ("ollama", "llamacpp", "mlx")


READS = {
    "sequential": {
        "pathologist": ["radiologist"],
        "report_writer": ["radiologist", "pathologist"],
        "qc_reviewer": ["radiologist", "pathologist", "report_writer"],
    },
    "parallel": {
        "report_writer": ["radiologist", "pathologist"],
        "qc_reviewer": ["radiologist", "pathologist", "report_writer"],
    },
}
ALIGNMENT, RADIOLOGIST, PATHOLOGIST, WRITER, REVIEWER = range(5)


class BruteForce:
    def __init__(
        self, evidence: Sequence[Row], constraints: Constraints, pipeline: str = "sequential"
    ) -> None:
        self.constraints = constraints
        self.pipeline = pipeline
        self.levels: dict[str, str] = {}
        for agent in AGENTS:
            levels = [constraints.privacy.get(agent, "local_only")]
            levels += [self.levels[read] for read in READS[pipeline].get(agent, [])]
            self.levels[agent] = "local_only" if "local_only" in levels else "open"
        self.options = {
            agent: [row for row in evidence if row.agent == agent and self.may_serve(row)]
            for agent in AGENTS
        }
        self.memory: dict[str, int] = {}
        self.loads: dict[str, Fraction] = {}
        for model in {model_of(row) for row in evidence if is_local(row)}:
            rows = [row for row in evidence if model_of(row) == model]
            self.memory[model] = max(row.memory_bytes or 0 for row in rows)
            self.memory[model] += max(row.kv_bytes or 0 for row in rows)
            known = [exact(row.load_s) for row in rows if row.load_s is not None]
            if known:
                self.loads[model] = max(known)

    def may_serve(self, row: Row) -> bool:
        limits = self.constraints
        figure = row.quality_low if limits.floor_on == "low" else row.quality
        if self.levels[row.agent] == "local_only" and not is_local(row):
            return False
        if row.synthetic and not limits.allow_synthetic:
            return False
        return figure >= limits.quality_floors.get(row.agent, 0)

    def latency(self, rows: Rows, resident: frozenset[str]) -> Fraction:
        """Of a steady stream of analyses that are all served by ``rows``."""
        name = "latency_p50_s" if self.constraints.latency == "p50" else "latency_p95_s"
        seconds = [exact(getattr(row, name)) for row in rows]
        parallel = self.pipeline == "parallel"
        if parallel and is_local(rows[RADIOLOGIST]) and is_local(rows[PATHOLOGIST]):
            for reader in (RADIOLOGIST, PATHOLOGIST):
                seconds[reader] *= exact(self.constraints.contention)
        models = [model_of(row) for row in rows]
        for stage in range(5):
            before = {models[stage - 1]}
            if parallel and stage == PATHOLOGIST:
                before = {models[ALIGNMENT]}
            if parallel and stage == WRITER:
                before = {models[RADIOLOGIST], models[PATHOLOGIST]}
            if is_local(rows[stage]) and models[stage] not in resident | before:
                seconds[stage] += self.loads[models[stage]]
        readers = seconds[RADIOLOGIST], seconds[PATHOLOGIST]
        together = max(readers) if parallel else sum(readers)
        return seconds[ALIGNMENT] + together + seconds[WRITER] + seconds[REVIEWER]

    def price(self, rows: Rows) -> Fraction:
        return sum((exact(row.cost_usd or 0) for row in rows), Fraction(0))

    def cost(self, rows: Rows, fallbacks: Fallbacks) -> Fraction:
        total = self.price(rows)
        for row, fallback in zip(rows, fallbacks, strict=True):
            rate = self.constraints.fallback_rate
            if rate is None:
                rate = row.failure_rate
            share = Fraction(row.answer_failures, row.n) if rate is None else exact(rate)
            total += share * exact((fallback and fallback.cost_usd) or 0)
        return total

    def domain(self, row: Row) -> str:
        if self.constraints.fallback_apart == "target":
            return row.target
        if self.constraints.fallback_apart == "machine" and is_local(row):
            return "here"
        return row.target.partition(":")[0]

    def states(self, rows: Rows, fallbacks: Fallbacks) -> list[Rows]:
        return [rows] + [
            (*rows[:i], fallback, *rows[i + 1 :])
            for i, fallback in enumerate(fallbacks)
            if fallback is not None
        ]

    def peak(self, states: Sequence[Rows], resident: frozenset[str]) -> int:
        steps = [(stage,) for stage in range(5)]
        if self.pipeline == "parallel":
            steps = [(ALIGNMENT,), (RADIOLOGIST, PATHOLOGIST), (WRITER,), (REVIEWER,)]
        loaded = [
            {model_of(rows[stage]) for stage in step if is_local(rows[stage])} - resident
            for rows in states
            for step in steps
        ]
        size = sum(self.memory[model] for model in resident)
        return size + max(sum(self.memory[model] for model in models) for models in loaded)

    def splits(self, states: Sequence[Rows]) -> list[frozenset[str]]:
        """The sets of models that may stay in memory while the others are loaded when needed."""
        used = sorted({model_of(row) for rows in states for row in rows if is_local(row)})
        if not self.constraints.may_swap:
            return [frozenset(used)]
        must = {model for model in used if model not in self.loads}
        return [
            frozenset(model for model, stays in zip(used, pattern, strict=True) if stays)
            for pattern in product([True, False], repeat=len(used))
            if must <= {model for model, stays in zip(used, pattern, strict=True) if stays}
        ]

    def least_latency(self, rows: Rows, fallbacks: Fallbacks) -> Fraction | None:
        """Of the primaries, over the splits of memory that hold all limits; None if there is none."""
        limits = self.constraints
        for agent, row, fallback in zip(AGENTS, rows, fallbacks, strict=True):
            required = limits.require_fallback
            needed = required if isinstance(required, bool) else required.get(agent, False)
            if needed and fallback is None:
                return None
            if fallback is not None and self.domain(fallback) == self.domain(row):
                return None
        most = limits.max_cost_usd_per_1000
        if most is not None and 1000 * self.cost(rows, fallbacks) > exact(most):
            return None
        states = self.states(rows, fallbacks)
        found = []
        for resident in self.splits(states):
            memory = limits.max_memory_bytes
            if memory is not None and self.peak(states, resident) > memory:
                continue
            normal, *degraded = (self.latency(state, resident) for state in states)
            if limits.max_latency_s is not None:
                longest = exact(limits.max_degraded_latency_s or limits.max_latency_s)
                if normal > exact(limits.max_latency_s) or max(degraded, default=0) > longest:
                    continue
            found.append(normal)
        return min(found, default=None)

    def fallbacks_for(self, rows: Rows, *, only_required: bool = False) -> Iterator[Fallbacks]:
        required = self.constraints.require_fallback
        choices: list[list[Row | None]] = []
        for agent, row in zip(AGENTS, rows, strict=True):
            needed = required if isinstance(required, bool) else required.get(agent, False)
            others: list[Row | None] = [None]
            if needed or not only_required:
                others += [other for other in self.options[agent] if other != row]
            choices.append(others)
        return product(*choices)  # type: ignore[return-value]

    def assignments(self) -> Iterator[tuple[Rows, Fraction]]:
        """All primaries that fit, with the least latency that they can have."""
        for rows in product(*(self.options[agent] for agent in AGENTS)):
            tried = self.fallbacks_for(rows, only_required=True)
            latencies = [self.least_latency(rows, fallbacks) for fallbacks in tried]
            known = [latency for latency in latencies if latency is not None]
            if known:
                yield rows, min(known)

    def goals(self, rows: Rows, latency: Fraction) -> dict[str, Fraction]:
        return {
            "quality": -sum((exact(row.quality) for row in rows), Fraction(0)),
            "latency": latency,
            "cost": 1000 * self.price(rows),
        }

    def is_feasible(self) -> bool:
        return next(self.assignments(), None) is not None

    def front(self) -> set[tuple[Fraction, Fraction, Fraction]]:
        """Quality, latency and price per 1000 of what nothing dominates."""
        points = {tuple(self.goals(*found).values()) for found in self.assignments()}
        return {
            (-point[0], point[1], point[2])
            for point in points
            if not any(
                other != point and all(a <= b for a, b in zip(other, point, strict=True))
                for other in points
            )
        }

    def best_fallbacks(self, rows: Rows, latency: Fraction) -> Fallbacks:
        fitting = [
            fallbacks
            for fallbacks in self.fallbacks_for(rows)
            if self.least_latency(rows, fallbacks) == latency
        ]
        return min(fitting, key=lambda fallbacks: self.rank(rows, fallbacks))

    def rank(self, rows: Rows, fallbacks: Fallbacks) -> tuple[object, ...]:
        name = "latency_p50_s" if self.constraints.latency == "p50" else "latency_p95_s"
        there = [row for row in fallbacks if row is not None]
        same = sum(
            fallback is not None and model_of(fallback) == model_of(row)
            for row, fallback in zip(rows, fallbacks, strict=True)
        )
        return (
            -len(there),
            same,
            -sum(exact(row.quality) for row in there),
            sum(exact(getattr(row, name)) for row in there),
            ["~" if row is None else row.target for row in fallbacks],
        )


Found = tuple[BruteForce, Rows, Fraction]


def ranked(
    forces: Sequence[BruteForce], objective: Objective = "quality_latency_cost"
) -> list[Found]:
    """All that fits, for all orders of the stages, the best first; several orders once each."""
    found = [
        (index, force, rows, latency)
        for index, force in enumerate(forces)
        for rows, latency in force.assignments()
    ]

    def usual(item: tuple[int, BruteForce, Rows, Fraction]) -> tuple[object, ...]:
        index, force, rows, latency = item
        goals = force.goals(rows, latency)
        names = [row.target for row in rows]
        return (goals["quality"], goals["latency"], goals["cost"], index, names)

    if isinstance(objective, Weighted):

        def value(item: tuple[int, BruteForce, Rows, Fraction]) -> Fraction:
            goals = item[1].goals(item[2], item[3])
            return (
                exact(objective.quality) * goals["quality"]
                + exact(objective.latency_per_s) * goals["latency"]
                + exact(objective.cost_per_usd_per_1000) * goals["cost"]
            )

        found.sort(key=lambda item: (value(item), usual(item)))
    elif isinstance(objective, Lexicographic):
        tolerances = {
            "quality": exact(objective.quality_tolerance),
            "latency": exact(objective.latency_tolerance_s),
            "cost": exact(objective.cost_tolerance_usd_per_1000),
        }
        for goal in objective.order if found else ():
            figures = {id(item): item[1].goals(item[2], item[3])[goal] for item in found}
            least = min(figures.values())
            found = [item for item in found if figures[id(item)] <= least + tolerances[goal]]
        found.sort(key=usual)
    else:
        found.sort(key=usual)
    return [(force, rows, latency) for _, force, rows, latency in found]
