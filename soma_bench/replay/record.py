"""Recording calls while a system runs: what identifies a patient is replaced before it is written."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from soma_bench.errors import ConfigError, NoAnswerError, PrivacyError, RefusalError, SomaError
from soma_bench.pipeline.executor import Ask
from soma_bench.replay.log import RecordedCall
from soma_bench.routing.context import CallContext, Identifiers
from soma_bench.routing.deidentify import Case
from soma_bench.routing.recognizers import Recognizer, presidio
from soma_bench.routing.routed import Routed
from soma_bench.routing.walk import outcome_of
from soma_bench.types import AgentName, Message, Request

log = logging.getLogger(__name__)


class Recorder:
    """Appends calls to a log that its owner alone can read.

    Identifiers that a case knows and those that the recognizers find become placeholders, in the
    input and in the answer alike; dates of birth and pictures are left out. That lowers the risk and
    does not remove it: treat a log as what it was made from. A call that cannot be written so is left
    out and counted, and so is a refusal by a model's safety policy, which names no target.

    Args:
        path: the log; lines are added to what is there.
        recognize: finds identifiers that a case does not know; Presidio's patterns by default.

    Raises:
        PrivacyError: Presidio is not installed.
        ConfigError: the file cannot be written.
    """

    def __init__(self, path: Path, *, recognize: Recognizer | None = None) -> None:
        self._path = path
        self._recognize = recognize or presidio()
        self.written = 0
        self.left_out = 0
        self._append("")

    def recording(self, ask: Ask) -> Ask:
        """``ask`` with every call recorded; the calls of one such ``Ask`` are one cluster."""
        cluster = uuid4().hex

        async def recorded(agent: AgentName, inputs: BaseModel, context: CallContext, /) -> Routed:
            began = time.perf_counter()
            try:
                routed = await ask(agent, inputs, context)
            except SomaError as error:
                facts = _failed(error, time.perf_counter() - began)
                if facts is not None:
                    self._record(agent, inputs, context, cluster, facts)
                elif isinstance(error, RefusalError):
                    self.left_out += 1
                raise
            facts = _answered(routed, time.perf_counter() - began)
            self._record(agent, inputs, context, cluster, facts)
            return routed

        return recorded

    def _record(
        self,
        agent: AgentName,
        inputs: BaseModel,
        context: CallContext,
        cluster: str,
        facts: dict[str, Any],
    ) -> None:
        given: dict[str, Any] = inputs.model_dump(mode="json")
        pictured = given.get("image") is not None
        if pictured:
            given["image"] = None
        try:
            given, facts["answer"] = self._without_identifiers(
                [given, facts["answer"]], context.identifiers
            )
            call = RecordedCall.model_validate(
                {
                    "schema_version": 1,
                    "id": uuid4().hex,
                    "agent": agent,
                    "input": given,
                    "image_left_out": pictured,
                    "privacy": context.privacy,
                    "cluster": cluster,
                    **facts,
                }
            )
        except (PrivacyError, ValidationError) as error:
            # The words of a validation error may quote what was to be kept out.
            self.left_out += 1
            log.warning("a call of %s is not recorded: %s", agent, type(error).__name__)
            return
        self._append(call.model_dump_json() + "\n")
        self.written += 1

    def _without_identifiers(self, value: Any, identifiers: Identifiers) -> Any:
        value = _without_births(value)
        texts = tuple(Message("user", text) for text in texts_in(value))
        clean = Case(identifiers, self._recognize).deidentify(
            Request(model="", messages=texts, max_tokens=1)
        )
        return _rebuilt(value, iter([message.content for message in clean.request.messages]))

    def _append(self, text: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(f"{self._path}: cannot be written: {reason}") from error


def _answered(routed: Routed, seconds: float) -> dict[str, Any]:
    completion = routed.completion
    return {
        "target": str(routed.target),
        "answer": completion.text,
        "finish": completion.finish,
        "failure": None,
        "latency_s": max(0.0, seconds - (completion.timings.load_s or 0.0)),
        "cost_usd": routed.cost_usd,
        "prompt_tokens": completion.usage.prompt_tokens,
        "output_tokens": completion.usage.output_tokens,
        "thinking_tokens": completion.usage.thinking_tokens,
    }


def _failed(error: SomaError, seconds: float) -> dict[str, Any] | None:
    """What is recorded of a failure; None where no target was asked."""
    if not isinstance(error, NoAnswerError) or not error.attempts:
        return None
    return {
        "target": str(error.attempts[-1].target),
        "answer": None,
        "failure": failure_kind(error),
        "latency_s": seconds,
    }


def failure_kind(error: SomaError) -> str:
    """The word for a call that gave no answer; ``answer`` where one came and could not be read."""
    if isinstance(error, NoAnswerError) and error.attempts:
        outcomes = [attempt.outcome for attempt in error.attempts]
        return "answer" if "answer" in outcomes else outcomes[-1]
    return outcome_of(error)


def _without_births(value: Any) -> Any:
    """Dates of birth have a form of their own, which no placeholder has: they become null."""
    if isinstance(value, dict):
        return {
            key: None if key == "date_of_birth" else _without_births(item)
            for key, item in value.items()
        }
    return [_without_births(item) for item in value] if isinstance(value, list) else value


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def _rebuilt(value: Any, texts: Iterator[str]) -> Any:
    """The same value with other texts in the places of its own."""
    if isinstance(value, str):
        return next(texts)
    if isinstance(value, dict):
        return {key: _rebuilt(item, texts) for key, item in value.items()}
    return [_rebuilt(item, texts) for item in value] if isinstance(value, list) else value
