"""Cases of the whole pipeline: an analysis with the truth of every stage that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from soma_bench.agents.base import Strict
from soma_bench.agents.pathologist import PathologistOutput
from soma_bench.agents.radiologist import Finding
from soma_bench.cases.alignment import AlignmentReference
from soma_bench.cases.base import Case
from soma_bench.cases.pathologist import PathologistReference
from soma_bench.cases.radiologist import RadiologistReference
from soma_bench.cases.report_writer import ReportWriterReference
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem, parse_json, read_text
from soma_bench.pipeline import Analysis


class PipelineReference(Strict):
    """The truth of an analysis, whatever its stages say to one another."""

    alignment: AlignmentReference | None = None
    """None where the message could mean several things."""
    radiologist: RadiologistReference
    pathologist: PathologistReference
    report_writer: ReportWriterReference
    findings: tuple[Finding, ...]
    """The true findings as a perfect radiologist would hand them on."""
    diagnosis: PathologistOutput
    """The true diagnosis as a perfect pathologist would hand it on."""


class PipelineCase(Case):
    """One analysis from the doctor's message to the reviewed report."""

    agent: Literal["pipeline"]
    input: Analysis
    reference: PipelineReference


def load_pipeline_cases(path: Path) -> tuple[PipelineCase, ...]:
    """Read a suite of pipeline cases, one a line.

    Raises:
        ConfigError: the file cannot be read or a case is not right; the message names line and
            field.
    """
    cases: list[PipelineCase] = []
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        place = f"{path}:{number}"
        # Refuses what the model's own reader lets pass: duplicate keys, NaN.
        parse_json(line, place)
        try:
            case = PipelineCase.model_validate_json(line)
        except ValidationError as error:
            raise ConfigError(f"{place}: {first_problem(error)}") from error
        if any(case.id == other.id for other in cases):
            raise ConfigError(f"{place}: id: {case.id!r} stands in an earlier line too")
        cases.append(case)
    return tuple(cases)
