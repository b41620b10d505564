"""Starting points: each changes a few demands by name and leaves the others as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from soma_bench.routing.constraints import working_set_bytes
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName, PrivacyLevel
from soma_bench.widgets.tuner.clock import model_of

_MAC_STUDIO_BYTES = 36 << 30
_SONNET = "claude:claude-sonnet-5-5"

ORIGINAL_PLAN: Mapping[AgentName, tuple[tuple[str, ...], PrivacyLevel]] = MappingProxyType(
    {
        "alignment": (("ollama:llama3.2:3b",), "local_only"),
        "radiologist": (("ollama:llama3.2-vision:11b", _SONNET), "deidentified"),
        "pathologist": (("ollama:qwen2.5:14b", _SONNET), "deidentified"),
        "report_writer": ((_SONNET, "ollama:qwen2.5:14b"), "deidentified"),
        "qc_reviewer": (("ollama:llama3.2:3b",), "deidentified"),
    }
)
"""Models and privacy of each agent in ``routing_profiles/soma-default.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named change of the demands."""

    name: str
    title: str
    says: str
    """What it changes, in one sentence."""
    constraints: Mapping[str, Any]
    """Fields of `Constraints` that it sets."""
    others: Mapping[str, Any]
    """Fields of `Demands` that it sets."""

    def apply(self, demands: Mapping[str, Any]) -> dict[str, Any]:
        """The demands with the preset's changes, both as JSON values."""
        constraints = {**demands["constraints"], **self.constraints}
        return {**demands, **self.others, "constraints": constraints}


def presets(evidence: Iterable[Evidence]) -> tuple[Preset, ...]:
    """The presets for a run's targets."""
    return (
        Preset(
            name="private",
            title="Private first",
            says="No agent's data leave the machine; then quality, latency, cost.",
            constraints={"privacy": dict.fromkeys(AGENTS, "local_only")},
            others={"objective": "quality_latency_cost"},
        ),
        Preset(
            name="fastest",
            title="Fastest",
            says="Lowest latency first, then quality, then cost; limits and floors stay.",
            constraints={},
            others={"objective": {"order": ["latency", "quality", "cost"]}},
        ),
        Preset(
            name="cheapest",
            title="Cheapest",
            says="Lowest cost first, then quality, then latency; limits and floors stay.",
            constraints={},
            others={"objective": {"order": ["cost", "quality", "latency"]}},
        ),
        _original_plan(evidence),
    )


def _original_plan(evidence: Iterable[Evidence]) -> Preset:
    """The plan's models where this run has measured them; elsewhere all targets play."""
    excluded: dict[AgentName, list[str]] = {}
    unmeasured = []
    rows = list(evidence)
    for agent, (models, _) in ORIGINAL_PLAN.items():
        targets = [row.target for row in rows if row.agent == agent]
        planned = [target for target in targets if model_of(target) in models]
        if planned:
            excluded[agent] = [target for target in targets if target not in planned]
        else:
            unmeasured.append(agent)
    missing = (
        f" Its models were not measured for {', '.join(unmeasured)}: all targets play there."
        if unmeasured
        else ""
    )
    return Preset(
        name="original",
        title="Original plan",
        says="The models, privacy and 27 GiB of the plan for a Mac Studio with 36 GB." + missing,
        constraints={
            "privacy": {agent: privacy for agent, (_, privacy) in ORIGINAL_PLAN.items()},
            "max_memory_bytes": working_set_bytes(_MAC_STUDIO_BYTES),
        },
        others={
            "pipeline": "sequential",
            "objective": "quality_latency_cost",
            "excluded": excluded,
        },
    )
