"""The log of recorded calls: JSONL, one agent's call a line, without what identifies a patient."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.base import Strict
from soma_bench.cases.suite import CASE_BY_AGENT
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem, parse_json, read_text
from soma_bench.types import AgentName, FinishReason, PrivacyLevel, Target


def _target(text: str) -> str:
    return str(Target.parse(text))


Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Dollars = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=1 << 40)]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]


class RecordedCall(Strict):
    """One agent's call as a running system made it."""

    schema_version: Literal[1]
    id: Id
    """Stands once in a log."""
    agent: AgentName
    input: dict[str, Any]
    """What the agent was asked about, in the form of its cases in ``data/suites/case.schema.json``,
    with placeholders such as ``[PATIENT_1]`` where it said who the patient is."""
    image_left_out: bool = False
    """Whether a picture went with the question; none is ever recorded."""
    privacy: PrivacyLevel | None = None
    """Level of the data; the stricter of this and the agent's own level holds in a replay."""
    cluster: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """What the call shares with others, such as the analysis that it was part of."""
    target: Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_target)]
    """What answered, or was asked last."""
    answer: Annotated[str, Field(max_length=200_000)] | None
    """The model's whole answer; null where the call failed."""
    finish: FinishReason = "stop"
    failure: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """Why there is no answer: ``refused``, ``answer`` (one came and could not be read) or the kind of
    a backend's failure. Null where there is one."""
    latency_s: Seconds
    """From asking to the answer, failed tries included, loading a model not."""
    cost_usd: Dollars | None = None
    prompt_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    thinking_tokens: Tokens | None = None
    reference: dict[str, Any] | None = None
    """The truth, in the form of the agent's cases, where somebody has added it."""

    @model_validator(mode="after")
    def _can_be_asked_again(self) -> RecordedCall:
        if (self.answer is None) != (self.failure is not None):
            raise ValueError("give an answer or a failure, and not both")
        for field, read in (("input", self.inputs), ("reference", self.truth)):
            try:
                read()
            except ValidationError as error:
                raise ValueError(f"{field}: {first_problem(error)}") from error
        return self

    def inputs(self) -> BaseModel:
        """The agent's typed input."""
        given: BaseModel = AGENT_BY_NAME[self.agent].input_type.model_validate_json(
            json.dumps(self.input)
        )
        return given

    def truth(self) -> BaseModel | None:
        """The typed reference; None where there is none."""
        if self.reference is None:
            return None
        kind = CASE_BY_AGENT[self.agent].model_fields["reference"].annotation
        assert isinstance(kind, type)
        assert issubclass(kind, BaseModel)
        return kind.model_validate_json(json.dumps(self.reference))


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not replayed, and why."""

    number: int
    """1 for the first."""
    why: str


def read_log(path: Path) -> tuple[dict[int, RecordedCall], list[BadLine]]:
    """The calls of a log by the number of their line, and the lines that are none.

    Raises:
        ConfigError: the file cannot be read, or no line of it is a call.
    """
    calls: dict[int, RecordedCall] = {}
    bad: list[BadLine] = []
    line_of: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            call = _read(line, line_of)
        except ConfigError as error:
            bad.append(BadLine(number, str(error)))
            continue
        line_of[call.id] = number
        calls[number] = call
    if not calls:
        first = f"line {bad[0].number}: {bad[0].why}" if bad else "it is empty"
        raise ConfigError(f"{path}: holds no recorded call: {first}")
    return calls, bad


def call_schema() -> dict[str, Any]:
    """JSON Schema of one line of a log."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **RecordedCall.model_json_schema(),
        "title": "A recorded call: one line of a log for soma-bench replay",
    }


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line


def _read(line: str, line_of: Mapping[str, int]) -> RecordedCall:
    parse_json(line, "it")  # refuses what the model's own reader lets pass: duplicate keys, NaN
    try:
        call = RecordedCall.model_validate_json(line)
    except ValidationError as error:
        raise ConfigError(first_problem(error).removeprefix("the whole: ")) from error
    if call.id in line_of:
        raise ConfigError(f"id: stands in line {line_of[call.id]} too")
    return call
