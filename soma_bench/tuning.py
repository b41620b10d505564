"""From a run's figures to a routing profile and its exported forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soma_bench.comparison import Comparison
from soma_bench.files import write_atomically
from soma_bench.optimize import (
    Binding,
    Infeasible,
    Order,
    Solution,
    build_profile,
    optimize,
    what_binds,
)
from soma_bench.routing.constraints import Constraints, Objective
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.export import export_profile
from soma_bench.routing.profile import Profile, resolve, save_profile
from soma_bench.types import AGENTS, AgentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What the optimiser answered, and the profile that follows from it."""

    answer: Solution | Infeasible
    binding: tuple[Binding, ...]
    """Demands that cost quality, the dearest first; empty where nothing fits."""
    routing: Profile | Infeasible
    """The profile, or why there is none."""

    @property
    def chosen(self) -> Mapping[AgentName, str]:
        """Each agent's primary target; empty where nothing fits."""
        if isinstance(self.routing, Infeasible):
            return {}
        return {agent: str(resolve(self.routing, agent).primary) for agent in AGENTS}


def tune(
    comparison: Comparison,
    constraints: Constraints,
    *,
    pipeline: Order,
    name: str,
    objective: Objective = "quality_latency_cost",
    evidence: Sequence[Evidence] | None = None,
) -> Tuning:
    """Choose the best routing for a run's figures under the constraints.

    Args:
        comparison: the run, summed up.
        constraints: what the routing must hold.
        pipeline: how the stages run.
        name: the profile's name.
        objective: what is best.
        evidence: the rows of the comparison that may be chosen from; all by default.

    Raises:
        ConfigError: an agent has no figures, a limit cannot be checked, or the name does not fit.
    """
    rows = comparison.evidence if evidence is None else evidence
    answer = optimize(rows, constraints, pipeline=pipeline, objective=objective)
    if isinstance(answer, Infeasible):
        return Tuning(answer=answer, binding=(), routing=answer)
    profile = build_profile(answer, name=name, evidence=rows, provenance=comparison.provenance)
    return Tuning(
        answer=answer,
        binding=what_binds(rows, constraints, pipeline=pipeline),
        routing=profile.sealed(),
    )


def write_routing(
    routing: Profile | Infeasible, *, profiles: Path, exports: Path
) -> Mapping[Path, bool]:
    """Write ``NAME.json`` to ``profiles`` and all exported forms to ``exports``.

    Returns:
        For each file whether its bytes changed; nothing where nothing fits, and nothing is written.

    Raises:
        ConfigError: a file cannot be written.
    """
    if isinstance(routing, Infeasible):
        return {}
    texts = {
        exports / f"{routing.name}.json": export_profile(routing, "json"),
        exports / f"{routing.name}.config.mjs": export_profile(routing, "js"),
        exports / f"{routing.name}.env": export_profile(routing, "env"),
    }
    path = profiles / f"{routing.name}.json"
    return {
        path: save_profile(routing, path),
        **{out: write_atomically(out, text) for out, text in texts.items()},
    }
