"""What the pipeline and the router tell OpenTelemetry: spans and counters, without a patient's data.

Spans follow the GenAI semantic conventions: ``invoke_workflow`` for an analysis, ``invoke_agent``
for a stage, ``chat`` for one call of a model. They carry names, counts, times and money. An error
is told by its kind and never by its message, which may quote what was sent. Text of prompts and
answers is left out, unless ``SOMA_BENCH_TRACE_CONTENT=true`` and the data of the call are ``open``;
what is known to identify the patient is replaced even then. Calls that are ``local_only`` or
``deidentified`` never have their text in a trace, because nobody knows where traces go.

Only the API of OpenTelemetry is used here, imported with the first span. Without a configured SDK
all of it does nothing, for some microseconds a call.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from soma_bench.errors import ProviderError
from soma_bench.settings import traces_content
from soma_bench.types import AgentName, Completion, Message, PrivacyLevel, ProviderName, Target

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram
    from opentelemetry.trace import Span, Tracer

_SCOPE = "soma_bench"
_VENDORS: Mapping[ProviderName, str] = {"claude": "anthropic", "openai": "openai"}
_HIDDEN = "[identifier]"

Attribute = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instruments:
    tracer: Tracer
    calls: Counter
    failures: Counter
    fallbacks: Counter
    cost: Counter
    tokens: Histogram
    duration: Histogram


@cache
def _instruments() -> _Instruments:
    """What is recorded with; the API's own proxies follow an SDK that is configured later."""
    from opentelemetry import metrics, trace

    release = version("soma-bench")
    meter = metrics.get_meter(_SCOPE, release)
    return _Instruments(
        tracer=trace.get_tracer(_SCOPE, release),
        calls=meter.create_counter("soma_bench.calls", "{call}", "Calls of a model."),
        failures=meter.create_counter(
            "soma_bench.failures", "{call}", "Calls of a model that gave no answer, by error.type."
        ),
        fallbacks=meter.create_counter(
            "soma_bench.fallbacks", "{fallback}", "Stages that were answered by another target."
        ),
        cost=meter.create_counter("soma_bench.cost", "USD", "Price of the answered calls."),
        tokens=meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Number of input and output tokens used."
        ),
        duration=meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "GenAI operation duration."
        ),
    )


class Recorder:
    """Sets what a span carries; made by the context managers below."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def set(self, name: str, value: Attribute | None) -> None:
        """Set one attribute; None, which nobody said, is left out."""
        if value is not None:
            self._span.set_attribute(name, value)

    def failed(self, error: BaseException) -> None:
        """Mark the span as failed by the kind of ``error``."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attribute("error.type", error_type(error))
        self._span.set_status(Status(StatusCode.ERROR))


class ModelCall(Recorder):
    """One call of a model, as its span and the counters see it."""

    def __init__(self, span: Span, labels: Mapping[str, Attribute]) -> None:
        super().__init__(span)
        self._labels = labels

    def answered(self, completion: Completion, cost_usd: float | None = None) -> None:
        """Record a whole answer: its tokens, its times, why it ended and what it cost."""
        usage, timings = completion.usage, completion.timings
        self._span.set_attribute("gen_ai.response.finish_reasons", (completion.finish,))
        self.set("gen_ai.usage.input_tokens", usage.prompt_tokens)
        self.set("gen_ai.usage.output_tokens", usage.output_tokens)
        self.set("gen_ai.usage.reasoning.output_tokens", usage.thinking_tokens)
        self.set("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
        self.set("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens)
        self.set("gen_ai.response.time_to_first_chunk", timings.first_token_s)
        self.set("soma_bench.load_s", timings.load_s)
        self.set("soma_bench.cost_usd", cost_usd)
        instruments = _instruments()
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.output_tokens)):
            if count is not None:
                instruments.tokens.record(count, {**self._labels, "gen_ai.token.type": kind})
        if cost_usd is not None:
            instruments.cost.add(cost_usd, self._labels)

    def content(
        self,
        messages: tuple[Message, ...],
        completion: Completion,
        *,
        privacy: PrivacyLevel | None,
        identifiers: frozenset[str],
    ) -> None:
        """Record the text of a call, where that is switched on and its data are ``open``.

        Args:
            messages: what was asked.
            completion: what was answered.
            privacy: effective level of the call's data; any but ``open`` records nothing.
            identifiers: what is known to identify the patient; it is replaced.
        """
        if privacy != "open" or not traces_content() or not self._span.is_recording():
            return
        asked = [(message.role, message.content) for message in messages]
        for name, turns in (
            ("gen_ai.input.messages", asked),
            ("gen_ai.output.messages", [("assistant", completion.text)]),
        ):
            parts = [
                {"role": role, "parts": [{"type": "text", "content": _hide(text, identifiers)}]}
                for role, text in turns
            ]
            self._span.set_attribute(name, json.dumps(parts, ensure_ascii=False))


@contextmanager
def model_call_span(target: Target, agent: AgentName) -> Iterator[ModelCall]:
    """Record one call of a model; an exception that leaves the block is its failure.

    The span is not made the current one, so that the block may also stand around the pieces of
    a stream, whose reader may live in another context.
    """
    from opentelemetry.trace import SpanKind

    instruments = _instruments()
    labels: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _VENDORS.get(target.provider, target.provider),
        "gen_ai.request.model": target.model,
        "gen_ai.agent.name": agent,
    }
    span = instruments.tracer.start_span(
        f"chat {target.model}", kind=SpanKind.CLIENT, attributes=labels
    )
    call = ModelCall(span, labels)
    call.set("soma_bench.thinking", target.thinking)
    instruments.calls.add(1, labels)
    started = time.perf_counter()
    outcome: dict[str, Attribute] = {}
    try:
        yield call
    except BaseException as error:
        outcome = {"error.type": error_type(error)}
        call.failed(error)
        instruments.failures.add(1, {**labels, **outcome})
        raise
    finally:
        instruments.duration.record(time.perf_counter() - started, {**labels, **outcome})
        span.end()


@contextmanager
def stage_span(agent: AgentName) -> Iterator[Recorder]:
    """Record one stage of an analysis; the calls made inside are its children."""
    with _current_span(f"invoke_agent {agent}", "invoke_agent", "gen_ai.agent.name", agent) as span:
        yield span


@contextmanager
def pipeline_span(workflow: str) -> Iterator[Recorder]:
    """Record one run of the pipeline; its stages are its children."""
    with _current_span(
        f"invoke_workflow {workflow}", "invoke_workflow", "gen_ai.workflow.name", workflow
    ) as span:
        yield span


@contextmanager
def _current_span(title: str, operation: str, key: str, name: str) -> Iterator[Recorder]:
    with _instruments().tracer.start_as_current_span(
        title,
        attributes={"gen_ai.operation.name": operation, key: name},
        record_exception=False,  # its message may quote a prompt
        set_status_on_exception=False,
    ) as span:
        recorder = Recorder(span)
        try:
            yield recorder
        except BaseException as error:
            recorder.failed(error)
            raise


def count_fallback(agent: AgentName, left: Target, why: str) -> None:
    """Count that ``agent`` went on to another target.

    Args:
        agent: whose question it was.
        left: the target that gave no answer.
        why: the kind of its failure, as `error_type` names it; never a message.
    """
    labels: dict[str, Attribute] = {
        "gen_ai.agent.name": agent,
        "gen_ai.provider.name": _VENDORS.get(left.provider, left.provider),
        "gen_ai.request.model": left.model,
        "error.type": why,
    }
    _instruments().fallbacks.add(1, labels)


def error_type(error: BaseException) -> str:
    """The kind of an error, from a small set of words and without any of its text."""
    if isinstance(error, ProviderError):
        return error.kind
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return "cancelled"
    return type(error).__name__


def _hide(text: str, identifiers: frozenset[str]) -> str:
    """``text`` without the identifiers and each of their words."""
    words = {word for value in identifiers for word in value.split() if len(word) > 1}
    known = sorted(filter(str.strip, words | identifiers), key=len, reverse=True)
    if not known:
        return text
    return re.sub("|".join(map(re.escape, known)), _HIDDEN, text, flags=re.IGNORECASE)
