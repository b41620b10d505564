"""How a notebook says no: it ran as it should, and what it looked at does not pass."""

from __future__ import annotations

from soma_bench.errors import SomaError
from soma_bench.gate import Gate
from soma_bench.sweeps.runner import Outcome


class NotPassedError(SomaError):
    """The answer is no; raised by a notebook's last cell, when all is shown that led to it."""


def require_passed(gate: Gate) -> str:
    """A sentence that says that a gate passed.

    Raises:
        NotPassedError: it did not.
    """
    worse = sum(change.verdict == "worse" for change in gate.changes)
    missing = sum(change.verdict == "not compared" for change in gate.changes)
    if not gate.passed:
        raise NotPassedError(
            f"the gate is not passed: {worse} worse, {missing} not compared of {len(gate.changes)}"
        )
    return f"The gate is passed: none of {len(gate.changes)} figures is worse."


def require_begun(outcome: Outcome | None) -> Outcome:
    """What a sweep did that was watched to its end.

    Raises:
        NotPassedError: it was stopped before any of its trials was laid out.
    """
    if outcome is None:
        raise NotPassedError(
            "the sweep was stopped while it was planned, and nothing was run; "
            "run the cell that begins it again"
        )
    return outcome


def require_complete(outcome: Outcome) -> str:
    """A sentence that says that every trial of a sweep has an answer.

    Raises:
        NotPassedError: trials failed for a backend's sake, or did not come to run.
    """
    missing = outcome.total - outcome.resumed - outcome.called + outcome.failed
    if missing:
        raise NotPassedError(
            f"run {outcome.run_id} is not complete: {missing} of {outcome.total} trials have no "
            "answer; they run again when this notebook does"
        )
    return f"Run {outcome.run_id} is complete: {outcome.total} trials."
