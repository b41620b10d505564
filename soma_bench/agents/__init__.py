"""The five agents, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from soma_bench.agents import alignment, pathologist, qc_reviewer, radiologist, report_writer
from soma_bench.agents.base import Agent
from soma_bench.types import AgentName

AGENT_BY_NAME: Mapping[AgentName, Agent[Any, Any]] = {
    module.AGENT.name: module.AGENT
    for module in (alignment, radiologist, pathologist, report_writer, qc_reviewer)
}
"""Every agent, in the order in which an analysis runs them."""

__all__ = ["AGENT_BY_NAME", "Agent"]
