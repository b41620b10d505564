"""A doctor talks to an agent about a finished report: words in, words out, nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from soma_bench.agents.base import Agent, Strict, prompt_text
from soma_bench.agents.pathologist import PathologistOutput, render_finding
from soma_bench.agents.radiologist import Finding
from soma_bench.errors import AnswerError
from soma_bench.types import AGENTS, AgentName

_ROLES: Mapping[AgentName, str] = {
    "alignment": "the coordinator",
    "radiologist": "the radiologist, who answers for the findings",
    "pathologist": "the pathologist, who answers for the diagnosis",
    "report_writer": "the report's writer",
    "qc_reviewer": "the report's reviewer",
}


class Exchange(Strict):
    """An earlier question of the same talk, and its answer."""

    question: Annotated[str, Field(min_length=1, max_length=2000)]
    answer: Annotated[str, Field(max_length=4000)]


class ConversationInput(Strict):
    """A doctor's words about a report, and what the agents have said."""

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    report: Annotated[str, Field(min_length=1)]
    """Markdown."""
    findings: tuple[Finding, ...]
    diagnosis: PathologistOutput
    earlier: Annotated[tuple[Exchange, ...], Field(max_length=10)] = ()
    """Oldest first."""


class Reply(Strict):
    """What the agent says."""

    text: Annotated[str, Field(min_length=1)]


def _render(inputs: ConversationInput) -> str:
    primary = inputs.diagnosis.primary
    others = ", ".join(other.name for other in inputs.diagnosis.differentials) or "none"
    lines = [
        "Findings:",
        *(map(render_finding, inputs.findings) if inputs.findings else ["none"]),
        f"Diagnosis: {primary.name} ({primary.icd10}), {primary.confidence} %. {primary.reasoning}",
        f"Also possible: {others}",
        "Report:",
        inputs.report,
    ]
    for exchange in inputs.earlier:
        lines += [f"Doctor: {exchange.question}", f"You: {exchange.answer}"]
    return "\n".join([*lines, f"Doctor: {inputs.message}"])


def _parse(text: str) -> Reply:
    if not text.strip():
        raise AnswerError("the answer is empty")
    return Reply(text=text.strip())


def _agent(name: AgentName) -> Agent[ConversationInput, Reply]:
    return Agent(
        name=name,
        input_type=ConversationInput,
        output_type=Reply,
        system=f"You are {_ROLES[name]}. {prompt_text('conversation')}",
        examples=(),
        render=_render,
        write=lambda reply: reply.text,
        parse=_parse,
        schema=None,
        max_tokens=384,
    )


BY_NAME: Mapping[AgentName, Agent[ConversationInput, Reply]] = {
    name: _agent(name) for name in AGENTS
}
"""The voice of each agent in a talk."""
