"""The decision which targets an agent's question is put to, in which order, and why.

Plain data in, plain data out. Each target of the profile is either in the list, with the reason for
its place, or left out, with the reason for that. What may not be asked goes first: targets whose
provider is disabled, that the privacy level forbids, or that the agent's route does not name. The
rest is ordered by the route: ``explicit`` routes are asked as they are written, primary first. Where
the route leaves the order to the rules, the first rule that speaks decides whether local targets or
cloud targets come first:

1. ``deidentified`` data: local, since what does not leave cannot leak.
2. Local quality was measured below the agent's floor: cloud.
3. A simple case: local. A complex one: cloud.
4. Local quality was measured and is acceptable: local.
5. Someone waits for the answer (``interactive``): local. Nobody does (``batch``): cloud.

Last, targets that cannot take this case (images, length) or that rest after failures are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soma_bench.routing.complexity import Complexity
from soma_bench.routing.context import Need
from soma_bench.types import AgentName, PrivacyLevel, Target

Order = Literal["explicit", "rules"]
"""Whether a route's targets are asked as written, or in the order that the rules give them."""

Because = Literal[
    "disabled", "privacy", "not_on_route", "no_auto_fallback", "images", "length", "resting"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be decided about."""

    agent: AgentName
    privacy: PrivacyLevel
    """The effective level: the strictest that the call's data and the agent have."""
    complexity: Complexity
    need: Need
    images: bool = False
    tokens: int | None = None
    """Fewest tokens that prompt and answer can have; None where nobody counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is known of a target at one agent."""

    target: Target
    is_local: bool
    enabled: bool = True
    place: str | None = None
    """What the route has it for (``primary``, ``fallback``); None where it does not name it."""
    acceptable: bool | None = None
    """Whether its measured quality reaches the agent's floor; None where there is no measurement or
    no floor."""
    quality: float | None = None
    """As it was measured; None where it was not."""
    vision: bool | None = None
    window_tokens: int | None = None
    """Length of its context; None where nobody said."""
    resting: str | None = None
    """Why it is left alone now; None where it is not."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A target in the list, and why it stands there."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A target that is not asked, and why."""

    target: Target
    because: Because
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The targets to ask, best first, and those to leave out."""

    task: Task
    targets: tuple[Choice, ...]
    ranked: tuple[Target, ...]
    """All targets that may be asked, best first, with those that are only left out for now."""
    left_out: tuple[LeftOut, ...]


def decide(
    task: Task,
    candidates: Sequence[Candidate],
    *,
    order: Order = "explicit",
    auto_fallback: bool = True,
    why: str = "",
) -> Decision:
    """Which of the candidates to ask, in which order.

    Args:
        task: the question's circumstances.
        candidates: targets, each once; those on the route in the order in which it names them.
        order: whether the route's order holds or the rules give one.
        auto_fallback: whether another target is asked when the first gives no answer.
        why: the route's own reason, shown with its primary.
    """
    left_out: list[LeftOut] = []
    asked: list[Candidate] = []
    for candidate in candidates:
        refusal = _refusal(task, candidate)
        if refusal is None:
            asked.append(candidate)
        else:
            left_out.append(refusal)
    reasons = {c.target: _as_written(c, task.agent, why) for c in asked}
    if order == "rules" and len(asked) > 1:
        local_first, rule = _first_rule(task, asked)
        asked.sort(key=lambda candidate: candidate.is_local != local_first)
        for candidate in asked:
            kind = "local" if candidate.is_local else "cloud"
            side = "first" if candidate.is_local == local_first else "after it"
            reasons[candidate.target] = f"{rule}: {kind} {side}"
    targets: list[Choice] = []
    for index, candidate in enumerate(asked):
        unfit = _unfit(task, candidate, follows=index > 0 and not auto_fallback)
        if unfit is None:
            targets.append(Choice(candidate.target, reasons[candidate.target]))
        else:
            left_out.append(unfit)
    return Decision(
        task=task,
        targets=tuple(targets),
        ranked=tuple(candidate.target for candidate in asked),
        left_out=tuple(left_out),
    )


def _refusal(task: Task, candidate: Candidate) -> LeftOut | None:
    """Why a target may not be asked whatever its state; None where it may."""
    target = candidate.target
    if task.privacy == "local_only" and not candidate.is_local:
        return LeftOut(target, "privacy", "leaves this machine, and the data are local_only")
    if candidate.place is None:
        return LeftOut(target, "not_on_route", f"the route of {task.agent} does not name it")
    if not candidate.enabled:
        return LeftOut(target, "disabled", f"provider {target.provider} is disabled")
    return None


def _unfit(task: Task, candidate: Candidate, *, follows: bool) -> LeftOut | None:
    """Why a target that may be asked is not; None where it is."""
    target = candidate.target
    if follows:
        return LeftOut(target, "no_auto_fallback", "auto_fallback is off: only the first is asked")
    if task.images and candidate.vision is False:
        return LeftOut(target, "images", "cannot see images")
    window = candidate.window_tokens
    if task.tokens is not None and window is not None and task.tokens > window:
        need = f"prompt and answer need at least {task.tokens} tokens"
        return LeftOut(target, "length", f"{need}, and its context has {window}")
    if candidate.resting is not None:
        return LeftOut(target, "resting", candidate.resting)
    return None


def _as_written(candidate: Candidate, agent: AgentName, why: str) -> str:
    said = f": {why}" if why and candidate.place == "primary" else ""
    return f"{candidate.place} of the route of {agent}{said}"


def _first_rule(task: Task, asked: Sequence[Candidate]) -> tuple[bool, str]:
    """Whether local targets come first, and the rule that says so."""
    verdicts = [c.acceptable for c in asked if c.is_local and c.acceptable is not None]
    if task.privacy != "open":
        return True, f"the data are {task.privacy}"
    if verdicts and not any(verdicts):
        return False, "local quality was measured below the floor"
    if task.complexity != "moderate":
        return task.complexity == "simple", f"the case is {task.complexity}"
    if verdicts:
        return True, "local quality was measured and is acceptable"
    return task.need == "interactive", f"the need is {task.need}"
