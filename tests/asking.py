"""Agents that answer at once or after a while, in the place of a router."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from scripted import completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.qc_reviewer import Issue, QCReviewerOutput
from soma_bench.cli.run import load_analysis
from soma_bench.pipeline import Analysis
from soma_bench.routing.context import CallContext, strictest
from soma_bench.routing.routed import Routed
from soma_bench.types import AgentName, PrivacyLevel, Target

EXAMPLE = Path(__file__).parent.parent / "data" / "examples" / "one_nodule.json"
TARGET = Target("llamacpp", "stub")

Script = Callable[[Any], BaseModel]


@dataclass(frozen=True)
class Asked:
    """One question as it came, and when, by the loop's clock."""

    agent: AgentName
    inputs: Any
    context: CallContext
    at: float

    @property
    def prompt(self) -> str:
        """What a model would read."""
        return AGENT_BY_NAME[self.agent].messages(self.inputs)[-1].content


class Agents:
    """Answers as each agent's first worked example does, unless a script says otherwise.

    It is an `Ask`; each answer takes ``seconds`` and has the stricter privacy of the agent's own
    level and the call's, as the router's have.
    """

    def __init__(
        self,
        scripts: Mapping[AgentName, Script] | None = None,
        *,
        seconds: Mapping[AgentName, float] | None = None,
        levels: Mapping[AgentName, PrivacyLevel] | None = None,
    ) -> None:
        self.scripts = dict(scripts or {})
        self.seconds = dict(seconds or {})
        self._levels = levels or {}
        self.asked: list[Asked] = []
        self.cancelled: list[AgentName] = []

    @property
    def order(self) -> list[AgentName]:
        """Who was asked, in order."""
        return [asked.agent for asked in self.asked]

    def of(self, agent: AgentName) -> list[Asked]:
        """The questions that ``agent`` was asked."""
        return [asked for asked in self.asked if asked.agent == agent]

    async def __call__(self, agent: AgentName, inputs: BaseModel, context: CallContext) -> Routed:
        self.asked.append(Asked(agent, inputs, context, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(self.seconds.get(agent, 0.0))
        except asyncio.CancelledError:
            self.cancelled.append(agent)
            raise
        script = self.scripts.get(agent)
        output = script(inputs) if script else AGENT_BY_NAME[agent].examples[0][1]
        return Routed(
            agent=agent,
            target=TARGET,
            completion=completion(AGENT_BY_NAME[agent].write(output)),
            output=output,
            passed_over=(),
            privacy=strictest([self._levels.get(agent, "open"), context.privacy]) or "open",
            cost_usd=0.001,
        )


def example() -> Analysis:
    return load_analysis(EXAMPLE)


def review(*severities: str, verdict: str = "fail") -> QCReviewerOutput:
    issues = tuple(
        Issue(category="CONSISTENCY", severity=severity, description=f"{severity} number {n}")
        for n, severity in enumerate(severities, 1)
    )
    return QCReviewerOutput(issues=issues, score=50, verdict=verdict)


def reviews(*answers: QCReviewerOutput) -> Script:
    """Gives one review after the other, the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def intent(kind: str, handler: str = "self") -> Script:
    output = AlignmentOutput(intent=kind, handler=handler, asked="it", confidence=90)
    return lambda _: output
