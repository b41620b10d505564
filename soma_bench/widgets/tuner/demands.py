"""What the tuner asks for: one record of the whole form, which a browser or a script fills in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.optimize import Order
from soma_bench.routing.constraints import Constraints, Objective
from soma_bench.routing.evidence import Evidence
from soma_bench.types import AGENTS, AgentName


def _sorted(value: dict[AgentName, list[str]]) -> dict[AgentName, list[str]]:
    return {agent: sorted(set(value[agent])) for agent in AGENTS if value.get(agent)}


class Demands(Strict):
    """The form, in the optimiser's own words."""

    revision: Annotated[int, Field(ge=0)] = 0
    """Counts the changes; an answer carries that of the demands it is for."""
    run: str
    """Id of the run whose figures are chosen from."""
    constraints: Constraints = Constraints()
    pipeline: Order = "sequential"
    objective: Objective = "quality_latency_cost"
    excluded: Annotated[dict[AgentName, list[str]], AfterValidator(_sorted)] = Field(
        default_factory=dict
    )
    """By agent, the targets that may not play."""

    @classmethod
    def checked(cls, content: Mapping[str, Any]) -> Demands:
        """The demands of a mapping, such as a browser sends.

        Raises:
            ConfigError: a figure is out of its range, or a field is unknown.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError(f"demands: {first_problem(error)}") from error

    def as_json(self) -> dict[str, Any]:
        """The demands as JSON values."""
        return self.model_dump(mode="json")

    def playing(self, evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
        """The rows that may be chosen from.

        Raises:
            ConfigError: an agent is left without any.
        """
        rows = tuple(row for row in evidence if row.target not in self.excluded.get(row.agent, ()))
        left = {row.agent for row in rows}
        bare = [agent for agent in self.excluded if agent not in left]
        if bare:
            raise ConfigError(f"no target may play for {', '.join(bare)}; tick one at least")
        return rows
