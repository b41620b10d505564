"""One question's way through its targets: who is asked next, how long it may take, when it ends.

What follows a failure is a matter of its class. A backend that failed (refused, broken off, out of
memory, too slow) or an answer that cannot be read: the next target, at once. Too many requests: the
same target again, where the wait that it states ends before the deadline and the latency threshold.
Too long for the context: the next target whose context is longer. A refusal by a model's safety
policy: the end. A bad key or a bad request: the next target, and never a second try. When no target
is left, one that failed for a moment is tried once more after a short random pause.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from soma_bench.errors import (
    ConfigError,
    NoAnswerError,
    PrivacyError,
    ProviderError,
    ProviderFailure,
    RefusalError,
    SomaError,
)
from soma_bench.routing.breaker import Breaker
from soma_bench.routing.deadlines import Allowance, allowance
from soma_bench.routing.decision import Choice, Decision, LeftOut
from soma_bench.types import Attempt, Target

log = logging.getLogger(__name__)

_PASSING: frozenset[ProviderFailure] = frozenset(
    {"not_running", "overloaded", "backend", "cut_off", "ended_early", "malformed"}
)
"""Failures that may be over in a moment. A timeout is none: a second one would cost it twice."""
_OF_THE_BACKEND: frozenset[ProviderFailure] = _PASSING | {"timeout", "out_of_memory"}
"""Failures that count towards leaving a target alone; the others are the caller's to mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast things must go."""

    threshold_s: float
    """How long a target may take while another can be asked."""
    deadline: float | None
    """By the running loop's clock."""
    retry_s: float
    """Mean pause before the one retry; 0 for no retry."""
    timeout_s: Callable[[Target], float]
    """A provider's own timeout."""
    load_s: float
    """How long a model may take to load, apart from its answer."""
    p95_s: dict[Target, float]


@dataclass(frozen=True, slots=True)
class Turn:
    """One target's turn."""

    choice: Choice
    allowance: Allowance
    breaker: Breaker
    started: float
    """By the running loop's clock."""

    @property
    def target(self) -> Target:
        """Who is asked."""
        return self.choice.target


class Walk:
    """The state of one question's way; `next` gives a turn, and each turn ends in one other call.

    Args:
        decision: whom to ask, in which order.
        breakers: the breaker of a target.
        pace: how fast things must go.
    """

    def __init__(
        self, decision: Decision, breakers: Callable[[Target], Breaker], pace: Pace
    ) -> None:
        self.decision = decision
        self.attempts: list[Attempt] = []
        self._left_out = {left.target: left for left in decision.left_out}
        self._waiting = list(decision.targets)
        self._breakers = breakers
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._again: tuple[Choice, float] | None = None
        self._first_asked: dict[Target, float] = {}
        self._waited: set[Target] = set()
        self._passing: Choice | None = None
        self._retried = False
        self._last_error: SomaError | None = None
        self.failure: str | None = None
        """The word for the latest failure of a target that was asked; None where none failed."""

        for target in decision.ranked:
            if target not in self._left_out:
                break
            self._note(self._left_out.pop(target))

    async def next(self) -> Turn | None:
        """Whose turn it is, after a wait where one is due; None when nobody is left."""
        while True:
            if self._again is not None:
                (choice, pause_s), self._again = self._again, None
                await asyncio.sleep(pause_s)
            elif self._waiting:
                choice = self._waiting.pop(0)
            elif self._passing is not None and not self._retried and self._may_retry():
                choice, self._retried = self._passing, True
                await asyncio.sleep(self._pace.retry_s * random.uniform(0.5, 1.5))  # noqa: S311
            else:
                return None
            if (turn := self._turn(choice)) is not None:
                return turn

    def answered(self, turn: Turn) -> None:
        """The target gave a usable answer."""
        turn.breaker.succeeded()
        self.attempts.append(
            Attempt(target=turn.target, outcome="answered", seconds=self._seconds(turn))
        )

    def failed(self, turn: Turn, error: SomaError) -> None:
        """The target gave no usable answer.

        Raises:
            RefusalError: its model's safety policy refused, which is the end.
        """
        outcome = outcome_of(error)
        self.attempts.append(
            Attempt(
                target=turn.target,
                outcome=outcome,
                seconds=self._seconds(turn),
                message=str(error),
            )
        )
        self._tell_breaker(turn, error)
        self._last_error, self.failure = error, outcome
        if isinstance(error, RefusalError):
            raise error
        if isinstance(error, ProviderError):
            if error.kind in _PASSING and self._passing is None:
                self._passing = turn.choice
            if error.kind == "rate_limited" and self._wait_fits(turn.target, error.wait_s):
                assert error.wait_s is not None
                self._waited.add(turn.target)
                self._again = (turn.choice, error.wait_s)
        log.warning("%s: %s gave no answer (%s)", self.decision.task.agent, turn.target, outcome)

    def given_up(self, turn: Turn) -> None:
        """The call ended before its answer, and the backend is not to blame."""
        turn.breaker.released()

    @property
    def moves_on(self) -> bool:
        """Whether another target is asked next."""
        return self._again is None and bool(self._waiting)

    def waiting(self) -> tuple[Target, ...]:
        """Who has not been asked yet."""
        return tuple(choice.target for choice in self._waiting)

    def skip(self, target: Target, reason: str) -> None:
        """Leave out a target that has not been asked yet: its context is too short as well."""
        self._waiting = [choice for choice in self._waiting if choice.target != target]
        self.attempts.append(
            Attempt(target=target, outcome="context_too_long", seconds=0.0, message=reason)
        )

    def end(self) -> SomaError:
        """The error that says what was tried, and of each why it gave no answer."""
        agent = self.decision.task.agent
        for left in self._left_out.values():
            self._note(left)
        tried = "; ".join(f"{attempt.target}: {attempt.message}" for attempt in self.attempts)
        if self.attempts and all(attempt.outcome == "privacy" for attempt in self.attempts):
            level = self.decision.task.privacy
            return PrivacyError(f"{agent} is {level} here, and no target may be asked; {tried}")
        late = self._left_s()
        why = "; the deadline has passed" if late is not None and late <= 0 else ""
        error = NoAnswerError(
            f"{agent}: no target gave a usable answer{why}; {tried}", tuple(self.attempts)
        )
        error.__cause__ = self._last_error
        return error

    def _note(self, left: LeftOut) -> None:
        """Count a target that was left out for this case among those that gave no answer."""
        if left.because not in ("not_on_route", "no_auto_fallback"):
            self.attempts.append(
                Attempt(target=left.target, outcome=left.because, seconds=0.0, message=left.reason)
            )

    def _turn(self, choice: Choice) -> Turn | None:
        target = choice.target
        now = self._loop.time()
        left_s = self._left_s()
        if left_s is not None and left_s <= 0:
            message = "was not asked, for the deadline has passed"
            self.attempts.append(
                Attempt(target=target, outcome="timeout", seconds=0.0, message=message)
            )
            return None
        breaker = self._breakers(target)
        if not breaker.admit():
            message = breaker.resting() or "rests after failures"
            self.attempts.append(
                Attempt(target=target, outcome="resting", seconds=0.0, message=message)
            )
            return None
        following = next(
            (c.target for c in self._waiting if self._breakers(c.target).resting() is None), None
        )
        threshold_s = None
        if following is not None:
            used_s = now - self._first_asked.setdefault(target, now)
            threshold_s = max(0.001, self._pace.threshold_s - used_s)
        return Turn(
            choice,
            allowance(
                timeout_s=self._pace.timeout_s(target),
                threshold_s=threshold_s,
                left_s=left_s,
                load_s=self._pace.load_s,
                next_p95_s=None if following is None else self._pace.p95_s.get(following),
            ),
            breaker,
            now,
        )

    def _tell_breaker(self, turn: Turn, error: SomaError) -> None:
        if isinstance(error, ProviderError):
            own = error.kind in _OF_THE_BACKEND
            left_s = self._left_s()
            hurried = turn.allowance.cut or (left_s is not None and left_s <= 0)
            if own and not (error.kind == "timeout" and hurried):
                turn.breaker.failed()
            else:
                turn.breaker.released()
        elif isinstance(error, PrivacyError | ConfigError):
            turn.breaker.released()
        else:
            # An answer that says nothing useful still shows that the backend works.
            turn.breaker.succeeded()

    def _wait_fits(self, target: Target, wait_s: float | None) -> bool:
        """Whether waiting for a rate limit ends in time for an answer; once for each target."""
        if wait_s is None or target in self._waited:
            return False
        used_s = self._loop.time() - self._first_asked.get(target, self._loop.time())
        left_s = self._left_s()
        most_s = self._pace.threshold_s - used_s
        return wait_s < (most_s if left_s is None else min(most_s, left_s))

    def _may_retry(self) -> bool:
        left_s = self._left_s()
        return self._pace.retry_s > 0 and (left_s is None or left_s > 2 * self._pace.retry_s)

    def _left_s(self) -> float | None:
        deadline = self._pace.deadline
        return None if deadline is None else deadline - self._loop.time()

    def _seconds(self, turn: Turn) -> float:
        return self._loop.time() - turn.started


def outcome_of(error: SomaError) -> str:
    """The word that an `Attempt` has for an error."""
    if isinstance(error, ProviderError):
        return error.kind
    if isinstance(error, RefusalError):
        return "refused"
    if isinstance(error, PrivacyError):
        return "privacy"
    return "config" if isinstance(error, ConfigError) else "answer"
