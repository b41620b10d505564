"""The pipeline's events as the front end knows them: steps in their one order, and lines of a log."""

from __future__ import annotations

from collections.abc import Mapping

from soma_bench.pipeline.analysis import StageResult
from soma_bench.pipeline.events import (
    Event,
    RewriteFailed,
    RewriteStarted,
    StageEnded,
    StageFailed,
    StageFellBack,
    StageStarted,
)
from soma_bench.service.streams import Emit
from soma_bench.types import AgentName

TITLES: Mapping[AgentName, str] = {
    "alignment": "AlignmentAgent",
    "radiologist": "RadiologistAgent",
    "pathologist": "PathologistAgent",
    "report_writer": "ReportWriterAgent",
    "qc_reviewer": "QCReviewerAgent",
}
"""The agents as the front end calls them."""

COMPLETE = "analysis_complete"
_STEPS: Mapping[str, tuple[AgentName | None, str]] = {
    "phase1_start": ("radiologist", "Looking at the examination"),
    "radiologist_done": ("radiologist", "Findings written down"),
    "phase2_start": ("pathologist", "Looking for a diagnosis"),
    "pathologist_done": ("pathologist", "Diagnosis written down"),
    "phase3_start": ("report_writer", "Writing the report"),
    "report_draft_done": ("report_writer", "Draft of the report written"),
    "phase4_start": ("qc_reviewer", "Checking the report"),
    COMPLETE: (None, "Report ready for a physician's review"),
}
_STARTS = {agent: step for step, (agent, _) in _STEPS.items() if step.endswith("_start")}
_ENDS = {agent: step for step, (agent, _) in _STEPS.items() if step.endswith("_done")}


class Progress:
    """Turns a pipeline's events into a client's.

    A step is told once and after all that stand before it, so that progress never goes back, also
    where stages run side by side or a report is written anew.

    Args:
        emit: sends an event to the client.
        partial: whether only some stages run, as in a revision; steps then wait for none before.
    """

    def __init__(self, emit: Emit, *, partial: bool = False) -> None:
        self._emit = emit
        self._partial = partial
        self._left = list(_STEPS)
        self._due: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Tell of an event."""
        match event:
            case StageStarted(agent=agent, round=number, queued_s=queued_s):
                if queued_s:
                    self.log(agent, f"Waited {queued_s:.1f} s for its machine")
                if number == 1 or self._partial:
                    self.step(_STARTS.get(agent))
                else:
                    self.log(agent, "Answers anew")
            case StageFellBack(agent=agent, target=target, passed_over=passed_over):
                self.log(agent, f"Fell back to {target}: {'; '.join(passed_over)}", "warning")
            case StageEnded(result=result):
                self.log(result.agent, _figures(result))
                self.step(_ENDS.get(result.agent))
            case StageFailed(agent=agent, kind=kind):
                self.log(agent, f"No answer ({kind})", "error")
            case RewriteStarted(critical=critical):
                issues = "issue" if critical == 1 else "issues"
                self.log("qc_reviewer", f"{critical} critical {issues}: written anew", "warning")
            case RewriteFailed(why=why):
                self.log("report_writer", f"The draft stays as it is: {why}", "warning")

    def step(self, name: str | None) -> None:
        """Tell of a step, as soon as all before it have been told of."""
        if name is None or name not in self._left:
            return
        self._due.add(name)
        if self._partial:
            self._left.remove(name)
            self._tell(name)
            return
        while self._left and self._left[0] in self._due:
            self._tell(self._left.pop(0))

    def log(self, agent: AgentName, message: str, level: str = "info") -> None:
        """Tell of something that is no step; ``level`` is info, warning or error."""
        self._emit(
            {
                "type": "log",
                "step": "log",
                "agent": TITLES[agent],
                "message": message,
                "level": level,
            }
        )

    def _tell(self, name: str) -> None:
        agent, message = _STEPS[name]
        event = {"type": "progress", "step": name, "message": message}
        self._emit(event if agent is None else {**event, "agent": TITLES[agent]})


def _figures(result: StageResult) -> str:
    told = [f"Answered by {result.target}", f"{result.seconds:.1f} s"]
    if result.completion.usage.output_tokens is not None:
        told.append(f"{result.completion.usage.output_tokens} tokens")
    if result.cost_usd:
        told.append(f"${result.cost_usd:.4f}")
    return ", ".join(told)
