"""What an analysis starts from, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from pydantic import Field

from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.base import Strict
from soma_bench.agents.pathologist import PathologistOutput
from soma_bench.agents.qc_reviewer import QCReviewerOutput
from soma_bench.agents.radiologist import RadiologistInput, RadiologistOutput
from soma_bench.agents.report_writer import Patient, ReportContext, ReportWriterOutput
from soma_bench.routing.context import Identifiers
from soma_bench.routing.routed import Routed
from soma_bench.types import AgentName, Completion, PrivacyLevel, Target


class Analysis(Strict):
    """What one analysis starts from."""

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    """The doctor's message that asks for it."""
    imaging: RadiologistInput
    patient: Patient | None = None
    context: ReportContext
    notes: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...], Field(max_length=20)
    ] = ()
    """Facts that a doctor added afterwards, which the diagnosis takes into account."""
    privacy: PrivacyLevel | None = None
    """Level of the case's data; the stricter of this and each agent's own level holds."""

    @property
    def identifiers(self) -> Identifiers:
        """What is known to identify the patient."""
        if self.patient is None:
            return Identifiers()
        known = (self.patient.name, self.patient.mrn, self.patient.date_of_birth)
        return Identifiers(values=frozenset(value for value in known if value))


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """One stage's answer, the way it took and the time it took."""

    routed: Routed
    round: int
    """1 for the agent's first answer in this case, 2 for its second, ..."""
    queued_s: float
    """Waited for the machine that the stage shares with others; not part of ``seconds``."""
    seconds: float
    """From asking to the typed answer, fallbacks included."""

    @property
    def agent(self) -> AgentName:
        """Whose answer it is."""
        return self.routed.agent

    @property
    def target(self) -> Target:
        """What gave the answer."""
        return self.routed.target

    @property
    def completion(self) -> Completion:
        """The answer as it came, with its tokens and timings."""
        return self.routed.completion

    @property
    def output(self) -> Any:
        """The agent's typed output."""
        return self.routed.output

    @property
    def privacy(self) -> PrivacyLevel | None:
        """The level that held for the call and holds for what reads its answer."""
        return self.routed.privacy

    @property
    def reason(self) -> str:
        """Why this target."""
        return self.routed.reason

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Why each target before it gave no answer."""
        return self.routed.passed_over

    @property
    def fallback_used(self) -> bool:
        """Whether another target than the first gave the answer."""
        return self.routed.fallback_used

    @property
    def cost_usd(self) -> float | None:
        """Price of the answer; None where it is not known."""
        return self.routed.cost_usd


Results = Mapping[AgentName, StageResult]
"""The latest answer of each agent that has given one."""


class Outputs:
    """The typed outputs of the stages that have ended."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def of(self, agent: AgentName) -> Any:
        """The latest output of ``agent``."""
        return self._results[agent].output

    @property
    def alignment(self) -> AlignmentOutput:
        """What the doctor's message wants."""
        return cast(AlignmentOutput, self._results["alignment"].output)

    @property
    def radiologist(self) -> RadiologistOutput:
        """The findings."""
        return cast(RadiologistOutput, self._results["radiologist"].output)

    @property
    def pathologist(self) -> PathologistOutput:
        """The diagnosis."""
        return cast(PathologistOutput, self._results["pathologist"].output)

    @property
    def report(self) -> ReportWriterOutput:
        """The report."""
        return cast(ReportWriterOutput, self._results["report_writer"].output)

    @property
    def review(self) -> QCReviewerOutput:
        """The report's review."""
        return cast(QCReviewerOutput, self._results["qc_reviewer"].output)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A report with the review of it."""

    report: ReportWriterOutput
    review: QCReviewerOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """A reviewed report, with what every stage said and where it ran."""

    drafts: tuple[Draft, ...]
    """Every reviewed report of the case, the latest last. The first analysis makes two where the
    review sent the first one back."""
    stages: tuple[StageResult, ...]
    """In the order in which they ended."""
    unused: tuple[StageResult, ...] = ()
    """Answers of a rewriting that failed half-way: they were paid for, and stand in no draft."""
    rewrite_error: str | None = None
    """Why a report with critical issues was not written anew; None where it was, or had none."""

    @property
    def latest(self) -> dict[AgentName, StageResult]:
        """Each agent's latest answer."""
        return {stage.agent: stage for stage in self.stages}

    @property
    def alignment(self) -> AlignmentOutput:
        """What the latest message that changed the report wants; at first the one that asked for it."""
        return Outputs(self.latest).alignment

    @property
    def radiologist(self) -> RadiologistOutput:
        """The findings that the report was written from."""
        return Outputs(self.latest).radiologist

    @property
    def pathologist(self) -> PathologistOutput:
        """The diagnosis that the report was written from."""
        return Outputs(self.latest).pathologist

    @property
    def report(self) -> ReportWriterOutput:
        """The latest report."""
        return self.drafts[-1].report

    @property
    def review(self) -> QCReviewerOutput:
        """The review of the latest report."""
        return self.drafts[-1].review

    @property
    def cost_usd(self) -> float | None:
        """Price of all answers; None as soon as one of them is not known."""
        costs = [stage.cost_usd for stage in (*self.stages, *self.unused)]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None
