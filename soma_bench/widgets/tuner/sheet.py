"""All that the tuner needs of a run, read once: its comparison, and what the browser draws of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from soma_bench.comparison import Comparison
from soma_bench.plots.labels import AGENT_TITLES, name_targets
from soma_bench.routing.constraints import working_set_bytes
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, Target
from soma_bench.widgets.tuner.clock import is_local, model_of
from soma_bench.widgets.tuner.presets import Preset, presets

GIB = 1 << 30
_STEPS = 200
"""A slider's range has about so many steps."""


@dataclass(frozen=True)
class Sheet:
    """A run's figures for the tuner."""

    comparison: Comparison

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """One row per agent and target."""
        return self.comparison.evidence

    @cached_property
    def places(self) -> Mapping[tuple[AgentName, str], int]:
        """Where each target stands among its agent's, which is how the browser knows it."""
        return {
            (agent, row.target): place
            for agent in AGENTS
            for place, row in enumerate(row for row in self.evidence if row.agent == agent)
        }

    @cached_property
    def memory_bytes(self) -> Mapping[str, int]:
        """Bytes of each local model with its cache: the most that any row measured."""
        weights: dict[str, int] = {}
        caches: dict[str, int] = {}
        for row in self.evidence:
            if is_local(row.target) and row.memory_bytes is not None:
                model = model_of(row.target)
                weights[model] = max(weights.get(model, 0), row.memory_bytes)
                caches[model] = max(caches.get(model, 0), row.kv_bytes or 0)
        return {model: size + caches[model] for model, size in weights.items()}

    @cached_property
    def working_set_bytes(self) -> int | None:
        """What models may take of the machine that was measured; None where it is not known."""
        memory = self.comparison.provenance.hardware.get("memory_bytes")
        return working_set_bytes(memory) if isinstance(memory, int) else None

    @cached_property
    def presets(self) -> tuple[Preset, ...]:
        """The presets for this run's targets."""
        return presets(self.evidence)

    def as_json(self) -> dict[str, Any]:
        """What is sent to the browser once."""
        names = name_targets(row.target for row in self.evidence)
        run = self.comparison.run
        return {
            "run": run.id,
            "finished": self.comparison.finished,
            "planned": self.comparison.planned,
            "shared": names.shared,
            "synthetic": any(row.synthetic for row in self.evidence),
            "working_set_bytes": self.working_set_bytes,
            "ranges": self._ranges(),
            "presets": [
                {"name": preset.name, "title": preset.title, "says": preset.says}
                for preset in self.presets
            ],
            "agents": [
                {
                    "name": agent,
                    "title": AGENT_TITLES[agent],
                    "metric": next((r.metric for r in self.evidence if r.agent == agent), ""),
                    "targets": [
                        _target_as_json(row, names.targets[row.target])
                        for row in self.evidence
                        if row.agent == agent
                    ],
                }
                for agent in AGENTS
            ],
        }

    def _ranges(self) -> dict[str, dict[str, float]]:
        """Range and step of each slider, from what the run's targets could need together."""
        latency = sum(self._most(agent, lambda row: row.latency_p95_s) for agent in AGENTS)
        cost = sum(self._most(agent, lambda row: 1000 * (row.cost_usd or 0)) for agent in AGENTS)
        largest = sorted(self.memory_bytes.values())[-len(AGENTS) :]
        memory = max(sum(largest), self.working_set_bytes or 0) / GIB
        return {
            "latency_s": _range(latency),
            "cost_usd_per_1000": _range(cost),
            "memory_gib": _range(memory),
        }

    def _most(self, agent: AgentName, figure: Any) -> float:
        return max((figure(row) for row in self.evidence if row.agent == agent), default=0.0)


def _range(most: float) -> dict[str, float]:
    """From one step to a round figure at or above ``most``."""
    if most <= 0:
        return {"max": 1.0, "step": 0.01}
    step = 10.0 ** math.floor(math.log10(most / _STEPS))
    step *= next(factor for factor in (1, 2, 5, 10) if most / (step * factor) <= _STEPS)
    return {"max": round(math.ceil(most / step) * step, 9), "step": round(step, 9)}


def _target_as_json(row: Evidence, label: str) -> dict[str, Any]:
    return {
        "target": row.target,
        "label": label,
        "provider": Target.parse(row.target).provider,
        "local": is_local(row.target),
        "synthetic": row.synthetic,
        "cases": row.cases,
        "quality": row.quality,
        "low": row.quality_low,
        "high": row.quality_high,
        "p50_s": row.latency_p50_s,
        "p95_s": row.latency_p95_s,
        "usd_per_1000": None if row.cost_usd is None else 1000 * row.cost_usd,
        "memory_bytes": row.memory_bytes,
    }


def sum_interval(rows: Sequence[Evidence]) -> tuple[float, float]:
    """95 % interval of the sum of the rows' qualities, their errors taken as independent.

    Half widths add as their squares, upper and lower ends each by themselves. Agents are scored on
    suites of their own, so that their errors have little in common.
    """
    total = sum(row.quality for row in rows)
    low = math.sqrt(sum((row.quality - row.quality_low) ** 2 for row in rows))
    high = math.sqrt(sum((row.quality_high - row.quality) ** 2 for row in rows))
    return max(0.0, total - low), min(float(len(rows)), total + high)
