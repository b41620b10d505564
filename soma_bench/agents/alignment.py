"""Alignment: what does a doctor's message want, and who should handle it?"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soma_bench.agents.base import (
    Agent,
    Strict,
    answer_schema,
    json_parser,
    json_writer,
    prompt_text,
)

Intent = Literal["QUESTION", "INFO", "REVISION", "APPROVAL", "UNCLEAR"]
Handler = Literal["self", "radiologist", "pathologist", "report_writer", "qc_reviewer"]


class AlignmentInput(Strict):
    """A doctor's message about a report."""

    message: Annotated[str, Field(min_length=1, max_length=2000)]


class AlignmentOutput(Strict):
    """What the message wants and who handles it."""

    intent: Intent
    handler: Handler
    asked: Annotated[str, Field(max_length=100)]
    """What is asked, in a few words."""
    confidence: Annotated[int, Field(ge=0, le=100)]
    """Percent."""


def _render(inputs: AlignmentInput) -> str:
    return f"Message: {inputs.message}"


def _example(
    message: str, intent: Intent, handler: Handler, asked: str, confidence: int
) -> tuple[AlignmentInput, AlignmentOutput]:
    output = AlignmentOutput(intent=intent, handler=handler, asked=asked, confidence=confidence)
    return AlignmentInput(message=message), output


AGENT = Agent(
    name="alignment",
    input_type=AlignmentInput,
    output_type=AlignmentOutput,
    system=prompt_text("alignment"),
    examples=(
        _example(
            "Please correct the nodule's side: it lies in the left lung.",
            "REVISION",
            "radiologist",
            "correct the side to left",
            95,
        ),
        _example(
            "Who checked the disclaimer?",
            "QUESTION",
            "qc_reviewer",
            "who checked the disclaimer",
            90,
        ),
        _example(
            "The patient stopped smoking in 2015.",
            "INFO",
            "pathologist",
            "note that smoking stopped",
            90,
        ),
        _example("Thank you, this report is fine.", "APPROVAL", "self", "release the report", 95),
        _example("so and so, you know", "UNCLEAR", "self", "ask what is meant", 60),
    ),
    render=_render,
    write=json_writer,
    parse=json_parser(AlignmentOutput),
    schema=answer_schema(AlignmentOutput),
    max_tokens=160,
)
