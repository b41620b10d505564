"""A case from its first analysis to the released report, as a session with states.

    created -> analyzing -> draft_ready -> approved -> completed
                  |           ^    |          |
                  v           |    v          |
               created        +- revising <---+

An analysis that fails or is cancelled goes back to ``created``. A revision ends in ``draft_ready``,
also one of an approved report, which then has to be approved again. Nothing follows ``completed``.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from soma_bench.errors import SessionError
from soma_bench.pipeline.analysis import Analysis, AnalysisResult
from soma_bench.pipeline.deadline import Weights
from soma_bench.pipeline.events import Event
from soma_bench.pipeline.executor import Ask, analyse
from soma_bench.pipeline.machines import Machines
from soma_bench.routing.constraints import Pipeline
from soma_bench.routing.context import Need

State = Literal["created", "analyzing", "draft_ready", "revising", "approved", "completed"]

TRANSITIONS: Mapping[State, tuple[State, ...]] = {
    "created": ("analyzing",),
    "analyzing": ("draft_ready", "created"),
    "draft_ready": ("revising", "approved"),
    "revising": ("draft_ready",),
    "approved": ("revising", "completed"),
    "completed": (),
}
"""Where each state may lead; everything else is an error."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a session holds at one moment."""

    state: State
    version: int
    """Counts the transitions; equal versions are the same moment."""
    analysis: Analysis
    result: AnalysisResult | None
    """The latest report; None before the first one."""


class Session:
    """One case on its way; every change is a transition. Safe to use from several threads and tasks.

    Args:
        analysis: what the case starts from.
        order: whether Radiologist and Pathologist run one after the other or side by side.
    """

    def __init__(self, analysis: Analysis, *, order: Pipeline = "sequential") -> None:
        self.id = uuid.uuid4().hex
        self.order = order
        self._lock = threading.Lock()
        self._now = Snapshot(state="created", version=0, analysis=analysis, result=None)

    @property
    def now(self) -> Snapshot:
        """What the session holds now; it does not change afterwards."""
        return self._now

    @property
    def state(self) -> State:
        """The state that it is in."""
        return self._now.state

    @property
    def result(self) -> AnalysisResult | None:
        """The latest report; None before the first one."""
        return self._now.result

    def move(
        self,
        to: State,
        *,
        since: Snapshot | None = None,
        analysis: Analysis | None = None,
        result: AnalysisResult | None = None,
    ) -> Snapshot:
        """Go to another state, perhaps with something new; whoever comes second is refused.

        Args:
            to: the state.
            since: what the caller has seen; where it is no longer so, nothing is changed.
            analysis: replaces what the case starts from.
            result: replaces the report.

        Raises:
            SessionError: the state does not lead there, or the session has changed meanwhile.
        """
        with self._lock:
            before = self._now
            if since is not None and since.version != before.version:
                raise SessionError(
                    f"session {self.id}: has changed meanwhile and is {before.state} now; look at"
                    " it again before changing it"
                )
            if to not in TRANSITIONS[before.state]:
                allowed = " or ".join(TRANSITIONS[before.state]) or "nothing any more"
                raise SessionError(
                    f"session {self.id}: cannot become {to}: it is {before.state}, which leads to"
                    f" {allowed}"
                )
            if to == "draft_ready" and (result or before.result) is None:
                raise SessionError(f"session {self.id}: cannot become {to} without a report")
            self._now = Snapshot(
                state=to,
                version=before.version + 1,
                analysis=analysis or before.analysis,
                result=result or before.result,
            )
            _log.info("session %s: %s -> %s", self.id, before.state, to)
            return self._now

    def approve(self) -> Snapshot:
        """Take the draft as it is.

        Raises:
            SessionError: there is no draft to approve.
        """
        return self.move("approved")

    def complete(self) -> Snapshot:
        """Release the approved report; the session ends.

        Raises:
            SessionError: the report is not approved.
        """
        return self.move("completed")

    async def analyse(
        self,
        ask: Ask,
        *,
        deadline_s: float | None = None,
        weights: Weights | None = None,
        machines: Machines | None = None,
        need: Need = "interactive",
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> AnalysisResult:
        """Run the case's first analysis; takes what `soma_bench.pipeline.analyse` takes.

        Raises:
            SessionError: it was analysed already, or is being analysed.
            AnswerError: there is no report; the session is ``created`` again.
            PrivacyError: a stage has no target that its data may go to; likewise.
        """
        begun = self.move("analyzing")
        try:
            result = await analyse(
                begun.analysis,
                ask,
                order=self.order,
                deadline_s=deadline_s,
                weights=weights,
                machines=machines,
                need=need,
                on_event=on_event,
            )
        except BaseException:  # cancellation too
            self.move("created", since=begun)
            raise
        self.move("draft_ready", since=begun, result=result)
        return result
