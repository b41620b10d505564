"""Suites: JSONL files of cases for one agent, read so that every mistake is named by its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from soma_bench.cases.alignment import AlignmentCase
from soma_bench.cases.base import Case, Split
from soma_bench.cases.pathologist import PathologistCase
from soma_bench.cases.qc_reviewer import QCReviewerCase
from soma_bench.cases.radiologist import RadiologistCase
from soma_bench.cases.report_writer import ReportWriterCase
from soma_bench.errors import ConfigError
from soma_bench.files import digest, first_problem, parse_json, read_text, write_atomically
from soma_bench.types import AGENTS, AgentName

CASE_BY_AGENT: Mapping[AgentName, type[Case]] = {
    "alignment": AlignmentCase,
    "radiologist": RadiologistCase,
    "pathologist": PathologistCase,
    "report_writer": ReportWriterCase,
    "qc_reviewer": QCReviewerCase,
}

_AnyCase = Annotated[
    AlignmentCase | RadiologistCase | PathologistCase | ReportWriterCase | QCReviewerCase,
    Field(discriminator="agent"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Cases of one agent, in the order of their file."""

    name: str
    """The file's name without its suffix."""
    path: Path
    agent: AgentName
    cases: tuple[Case, ...]

    @property
    def digest(self) -> str:
        """Digest of everything the cases say, in their order."""
        return digest([case.digest for case in self.cases])

    def take(self, count: int) -> Suite:
        """The suite's first cases, at most ``count`` of them.

        Raises:
            ConfigError: fewer than one case is asked for.
        """
        if count < 1:
            raise ConfigError(f"{self.path}: take at least 1 case, not {count}")
        return replace(self, cases=self.cases[:count])

    def part(self, split: Split) -> Suite:
        """The suite's cases of one split.

        Raises:
            ConfigError: it has none.
        """
        cases = tuple(case for case in self.cases if case.split == split)
        if not cases:
            raise ConfigError(f"{self.path}: has no case of split {split!r}; use split: all")
        return replace(self, cases=cases)


def load_suite(path: Path) -> Suite:
    """Read and check a suite: one case a line, one agent a file, no identifier twice.

    Raises:
        ConfigError: the file cannot be read or a case is not right; the message names file, line
            and field.
    """
    lines = read_text(path).rstrip().split("\n")
    if lines == [""]:
        raise ConfigError(f"{path}: has no cases; write one JSON object a line")
    cases: list[Case] = []
    line_by_id: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        place = f"{path}:{number}"
        case = _read_case(line, place)
        if case.id in line_by_id:
            raise ConfigError(f"{place}: id: {case.id!r} stands in line {line_by_id[case.id]} too")
        if cases and case.agent != cases[0].agent:
            raise ConfigError(
                f"{place}: agent: is {case.agent!r} in a suite of {cases[0].agent!r};"
                " give each agent a file of its own"
            )
        line_by_id[case.id] = number
        cases.append(case)
    agent = next(name for name in AGENTS if name == cases[0].agent)
    return Suite(name=path.stem, path=path, agent=agent, cases=tuple(cases))


def case_schema() -> dict[str, Any]:
    """JSON Schema of one line of a suite, of whichever agent."""
    schema = TypeAdapter[Any](_AnyCase).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A case: one line of a suite",
        **schema,
    }


def publish_case_schema(path: Path) -> bool:
    """Write `case_schema` to ``path``; True if that changed the file.

    Raises:
        ConfigError: the file cannot be written.
    """
    return write_atomically(path, json.dumps(case_schema(), indent=2) + "\n")


def _read_case(line: str, place: str) -> Case:
    if not line.strip():
        raise ConfigError(f"{place}: is blank; only the end of a suite may be")
    row = parse_json(line, place)
    if not isinstance(row, dict):
        raise ConfigError(f"{place}: is not a JSON object")
    agent = row.get("agent")
    if agent not in AGENTS:
        raise ConfigError(f"{place}: agent: must be one of {', '.join(AGENTS)}, not {agent!r:.60}")
    try:
        return CASE_BY_AGENT[agent].model_validate_json(line)
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_problem(error)}") from error
