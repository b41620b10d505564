"""The five agents, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from soma_bench.agents import alignment, pathologist, qc_reviewer, radiologist, report_writer
from soma_bench.agents.base import Agent
from soma_bench.agents.conversation import BY_NAME, ConversationInput
from soma_bench.types import AgentName

AGENT_BY_NAME: Mapping[AgentName, Agent[Any, Any]] = {
    module.AGENT.name: module.AGENT
    for module in (alignment, radiologist, pathologist, report_writer, qc_reviewer)
}
"""Every agent, in the order in which an analysis runs them."""


def agent_for(name: AgentName, inputs: BaseModel) -> Agent[Any, Any]:
    """What words the agent's request about ``inputs``: its task, or a talk about what it said."""
    return BY_NAME[name] if isinstance(inputs, ConversationInput) else AGENT_BY_NAME[name]


__all__ = ["AGENT_BY_NAME", "Agent", "agent_for"]
