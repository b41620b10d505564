"""Telemetry: spans by the GenAI conventions, counters, and no word of a patient."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

from asking import Agents, example, review, reviews
from routing_examples import profile_content
from scripted import ScriptedProvider, completion, example_answer
from soma_bench import telemetry
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.errors import AnswerError, ProviderError
from soma_bench.pipeline import analyse
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.settings import TRACE_CONTENT_VARIABLE
from soma_bench.telemetry import count_fallback, model_call_span, stage_span
from soma_bench.types import AGENTS, Message, Target

SONNET = Target.parse("claude:claude-sonnet-5-5?thinking=low")
_EXPORTER = InMemorySpanExporter()
_READER = InMemoryMetricReader()


@pytest.fixture(scope="module", autouse=True)
def _sdk(tracer_provider: TracerProvider) -> Iterator[None]:
    tracer_provider.add_span_processor(SimpleSpanProcessor(_EXPORTER))
    meters = MeterProvider(metric_readers=[_READER])
    metrics.set_meter_provider(meters)
    yield
    meters.shutdown()


@pytest.fixture
def spans() -> InMemorySpanExporter:
    _EXPORTER.clear()
    return _EXPORTER


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def total(name: str, **labels: Any) -> float:
    """Sum of a counter or histogram over the points that carry ``labels``."""
    data = _READER.get_metrics_data()
    wanted = {key.replace("__", "."): value for key, value in labels.items()}
    found = 0.0
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points if metric.name == name else ():
                    if wanted.items() <= dict(point.attributes).items():
                        found += point.value if hasattr(point, "value") else point.sum
    return found


def test_a_model_call_is_told_by_the_genai_conventions(spans):
    with model_call_span(SONNET, "radiologist") as call:
        call.answered(completion("a finding"), cost_usd=0.002)
    span = only(spans)
    assert (span.name, span.kind) == ("chat claude-sonnet-5-5", SpanKind.CLIENT)
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-5-5",
        "gen_ai.agent.name": "radiologist",
        "soma_bench.thinking": "low",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.time_to_first_chunk": 0.01,
        "soma_bench.load_s": 0.0,
        "soma_bench.cost_usd": 0.002,
    }
    assert span.status.status_code is StatusCode.UNSET


def test_the_names_are_those_of_the_conventions():
    known = {value for key, value in vars(names).items() if key.startswith("GEN_AI_")}
    known |= {value for key, value in vars(gen_ai_metrics).items() if key.startswith("GEN_AI_")}
    used = set(re.findall(r'"(gen_ai\.[\w.]+)"', Path(telemetry.__file__).read_text()))
    assert len(used) > 12
    assert used <= known


def test_calls_failures_fallbacks_tokens_and_cost_are_counted(spans):
    model = "counted"
    target = Target("ollama", model)
    mine = {"gen_ai__request__model": model}
    with model_call_span(target, "alignment") as call:
        call.answered(completion("{}"), cost_usd=0.25)
    with pytest.raises(ProviderError), model_call_span(target, "alignment"):
        raise ProviderError("ollama", "busy", kind="overloaded")
    count_fallback("alignment", target, "overloaded")
    assert total("soma_bench.calls", **mine) == 2
    assert total("soma_bench.failures", error__type="overloaded", **mine) == 1
    assert total("soma_bench.failures", **mine) == 1
    assert total("soma_bench.fallbacks", error__type="overloaded", **mine) == 1
    assert total("soma_bench.cost", **mine) == 0.25
    tokens = "gen_ai.client.token.usage"
    assert total(tokens, gen_ai__token__type="input", **mine) == 10
    assert total(tokens, gen_ai__token__type="output", **mine) == 5
    assert total("gen_ai.client.operation.duration", **mine) > 0


def test_a_failure_is_told_by_its_kind_and_never_by_its_text(spans):
    error = ProviderError("ollama", "cannot read 'Ann Example, MRN 774411'", kind="bad_request")
    with pytest.raises(ProviderError), stage_span("radiologist"):  # noqa: SIM117 - two spans
        with model_call_span(SONNET, "radiologist"):
            raise error
    for span in spans.get_finished_spans():
        assert span.attributes["error.type"] == "bad_request"
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None
        assert "774411" not in span.to_json()
        assert span.events == ()


def test_a_cancelled_call_is_told_as_cancelled(spans):
    async def go() -> None:
        async def hang() -> None:
            with model_call_span(SONNET, "radiologist"):
                await asyncio.sleep(60)

        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    assert only(spans).attributes["error.type"] == "cancelled"


@pytest.mark.parametrize(
    ("switch", "privacy", "shown"),
    [
        (None, "open", False),
        ("false", "open", False),
        ("1", "open", False),
        ("true", None, False),
        ("true", "local_only", False),
        ("true", "deidentified", False),
        ("true", "open", True),
    ],
)
def test_text_is_traced_only_where_it_is_switched_on_and_the_data_are_open(
    spans, monkeypatch, switch, privacy, shown
):
    if switch is None:
        monkeypatch.delenv(TRACE_CONTENT_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(TRACE_CONTENT_VARIABLE, switch)
    asked = (
        Message("system", "You report."),
        Message("user", "Ann Example (774411): mass? ann EXAMPLE says so. An example."),
    )
    with model_call_span(SONNET, "radiologist") as call:
        call.content(
            asked,
            completion("Example, Ann has a mass."),
            privacy=privacy,
            identifiers=frozenset({"Ann Example", "774411"}),
        )
    attributes = only(spans).attributes
    assert ("gen_ai.input.messages" in attributes) == shown
    assert ("gen_ai.output.messages" in attributes) == shown
    if shown:
        sent = json.loads(attributes["gen_ai.input.messages"])
        assert sent[0] == {
            "role": "system",
            "parts": [{"type": "text", "content": "You report."}],
        }
        assert sent[1]["parts"][0]["content"].startswith("[identifier] ([identifier]): mass?")
        everything = only(spans).to_json()
        for word in ("774411", "Example", "EXAMPLE", "Ann"):
            assert word not in everything


def test_an_analysis_is_a_tree_of_pipeline_stages_and_calls_without_a_word_of_the_case(spans):
    route = {"primary": "llamacpp:a", "fallback": None, "privacy": "local_only", "reason": ""}
    profile = Profile.model_validate(
        profile_content(
            providers={"llamacpp": {"enabled": True}},
            models={},
            routing={agent: dict(route) for agent in AGENTS},
        )
    )

    async def go() -> None:
        async with ProviderPool(lambda _: ScriptedProvider(example_answer)) as pool:
            await analyse(example(), Router(profile, pool).ask, order="parallel")

    asyncio.run(go())
    by_name: dict[str, ReadableSpan] = {}
    calls = []
    for span in spans.get_finished_spans():
        if span.name == "chat a":
            calls.append(span)
        else:
            by_name[span.name] = span
    root = by_name.pop("invoke_workflow analysis")
    assert root.parent is None
    assert set(by_name) == {f"invoke_agent {agent}" for agent in AGENTS}
    assert {span.parent.span_id for span in by_name.values()} == {root.context.span_id}
    assert len(calls) == 5
    for call in calls:
        stage = by_name[f"invoke_agent {call.attributes['gen_ai.agent.name']}"]
        assert call.parent.span_id == stage.context.span_id
        assert stage.attributes["soma_bench.target"] == "llamacpp:a"
        assert stage.attributes["soma_bench.fallback"] is False
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    for word in ("Synthetic", "nodule", "Screening", "upper lobe", "carcinoid"):
        assert word not in everything


def test_a_failed_rewriting_and_its_analysis_are_told_apart(spans):
    agents = Agents({"qc_reviewer": reviews(review("critical"))})

    def second_fails(_):
        if len(agents.of("report_writer")) == 2:
            raise AnswerError("no")
        return AGENT_BY_NAME["report_writer"].examples[0][1]

    agents.scripts["report_writer"] = second_fails
    asyncio.run(analyse(example(), agents))
    rounds = {
        span.attributes["soma_bench.round"]: span.attributes.get("error.type")
        for span in spans.get_finished_spans()
        if span.name == "invoke_agent report_writer"
    }
    assert rounds == {1: None, 2: "AnswerError"}
    workflow = next(s for s in spans.get_finished_spans() if s.name.startswith("invoke_workflow"))
    assert "error.type" not in workflow.attributes


def test_importing_the_package_does_not_import_opentelemetry():
    code = (
        "import sys, soma_bench, soma_bench.telemetry;"
        " print(any(m.startswith('opentelemetry') for m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "False"
