"""Asking the questions of a log again, through a candidate profile's router."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from soma_bench.errors import ConfigError, NoAnswerError, PrivacyError, RefusalError
from soma_bench.providers.placeholders import PLACEHOLDER
from soma_bench.replay.log import RecordedCall
from soma_bench.replay.record import failure_kind, texts_in
from soma_bench.routing.context import CallContext
from soma_bench.routing.recognizers import Recognizer, presidio
from soma_bench.routing.routed import Routed
from soma_bench.routing.router import Router

Outcome = Literal["answered", "failed", "held_back"]
"""``held_back``: privacy forbade to ask, so nothing was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One recorded call, asked again."""

    line: int
    call: RecordedCall
    outcome: Outcome
    latency_s: float
    """From asking to the answer, failed tries included, loading a model not."""
    routed: Routed | None = None
    """The candidate's answer; None where there is none."""
    failure: str | None = None
    """Kind of the failure, as `RecordedCall.failure` has it."""
    why: str = ""
    """In words; empty where it answered."""


async def rerun(
    calls: Mapping[int, RecordedCall],
    router: Router,
    *,
    recognize: Callable[[], Recognizer] = presidio,
    on_done: Callable[[Replayed], None] = lambda _: None,
) -> list[Replayed]:
    """Ask every call again, one after the other, so that none slows another down.

    A call whose question could leave this machine must hold no identifier: it is looked at by the
    recognizers first, whatever its level says, and held back where they find one or are not
    installed.

    Args:
        calls: by the number of their line.
        router: the candidate's.
        recognize: makes what finds identifiers; asked for when it is first needed.
        on_done: told of each call when it has ended.
    """
    done: list[Replayed] = []
    for line, call in calls.items():
        replayed = await _again(line, call, router, recognize)
        on_done(replayed)
        done.append(replayed)
    return done


async def _again(
    line: int, call: RecordedCall, router: Router, recognize: Callable[[], Recognizer]
) -> Replayed:
    context = CallContext(privacy=call.privacy, need="batch")
    began = time.perf_counter()

    def ended(outcome: Outcome, failure: str, why: str) -> Replayed:
        seconds = time.perf_counter() - began
        return Replayed(
            line=line, call=call, outcome=outcome, latency_s=seconds, failure=failure, why=why
        )

    try:
        if not router.stays(call.agent, context):
            _check_no_identifier(call, recognize())
        began = time.perf_counter()
        routed = await router.ask(call.agent, call.inputs(), context)
    except PrivacyError as error:
        return ended("held_back", "privacy", str(error))
    except ConfigError as error:
        return ended("failed", "config", str(error))
    except (NoAnswerError, RefusalError) as error:
        return ended("failed", failure_kind(error), str(error))
    loading_s = routed.completion.timings.load_s or 0.0
    return Replayed(
        line=line,
        call=call,
        outcome="answered",
        latency_s=max(0.0, time.perf_counter() - began - loading_s),
        routed=routed,
    )


def _check_no_identifier(call: RecordedCall, recognize: Recognizer) -> None:
    """Refuse a question that says who the patient is; the message tells kinds and no values.

    Raises:
        PrivacyError: it does.
    """
    kinds = {kind for text in texts_in(call.input) for kind in _kinds(text, recognize)}
    # A patient's own fields are no matter for patterns: what stands there is an identifier.
    patient = call.input.get("patient") or {}
    named = [patient.get(field) for field in ("name", "mrn", "date_of_birth")]
    if any(_says_something(value) for value in named if value is not None):
        kinds.add("PATIENT")
    if kinds:
        raise PrivacyError(
            f"its input still holds {', '.join(sorted(kinds))}, and the candidate could send it to a cloud;"
            " record it without identifiers, or replay it on a local profile"
        )


def _kinds(text: str, recognize: Recognizer) -> Iterator[str]:
    """Kinds of identifiers in a text; a placeholder is none, whatever stands around it."""
    for found in recognize(text):
        if _says_something(found.value):
            yield found.kind


def _says_something(value: str) -> bool:
    """Whether there is more in a text than placeholders."""
    return any(character.isalnum() for character in PLACEHOLDER.sub("", value))
