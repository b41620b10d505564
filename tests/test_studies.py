"""What the notebooks on latency, thinking and quantization reckon and draw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from routing_examples import profile_content, row
from scored_trials import scored_trial
from scripted import ScriptedProvider, example_answer
from soma_bench import plots
from soma_bench.budgets import budget_steps
from soma_bench.call_times import call_times
from soma_bench.notebooks.orders import order_times
from soma_bench.notebooks.study_tables import call_table, quantization_table, step_table
from soma_bench.providers.pool import ProviderPool
from soma_bench.quantizations import quantized_targets
from soma_bench.routing.profile import Profile
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AGENTS

SUITES = Path(__file__).parent.parent / "data" / "suites"


def trials(
    target: str,
    scores: Sequence[float],
    *,
    agent: str = "alignment",
    synthetic: bool = False,
    **fields: Any,
) -> list[ScoredTrial]:
    """One trial a case; a list among the fields has a value for each of them."""
    plain: dict[str, Any] = {
        "total_s": 2.0,
        "queue_s": 0.0,
        "prefill_s": 0.5,
        "decode_s": 1.0,
        "first_token_s": 0.6,
        "load_s": 0.0,
        "output_tokens": 50,
        "thinking_tokens": 0,
        "start": "warm",
        "busy": False,
        **fields,
    }
    return [
        scored_trial(
            value,
            agent=agent,
            target=target,
            case_id=f"case-{number}",
            identity={"weights_bytes": 90 << 20},
            synthetic=synthetic,
            **{k: v[number] if isinstance(v, list) else v for k, v in plain.items()},
        )
        for number, value in enumerate(scores)
    ]


OFF = trials("ollama:m-q4_0?thinking=off", [0.2, 0.4, 0.0], output_tokens=[10, 20, 30])
SOME = trials(
    "ollama:m-q4_0?thinking=64",
    [0.6, 0.4, 0.5],
    output_tokens=[60, 70, 80],
    thinking_tokens=[40, 50, 60],
    total_s=[3.0, 4.0, 50.0],
    busy=[False, False, True],
)
MUCH = trials("ollama:m-q4_0?thinking=256", [0.6, 0.4, 0.5], output_tokens=None)


def test_a_step_of_thinking_by_hand():
    """Scores 0.4, 0 and 0.5 better for 50 tokens more each; 1 and 2 s slower on a quiet machine."""
    first, second = budget_steps([*MUCH, *OFF, *SOME])
    assert (first.model, first.less, first.more) == ("ollama:m-q4_0", "off", 64)
    assert (second.less, second.more) == (64, 256)
    assert first.cases == 3
    assert first.quality.mean == pytest.approx(0.3)
    assert (first.output_tokens, first.thinking_tokens) == (50, 50)
    assert first.seconds == pytest.approx(1.5), "the busy trial says nothing of time"
    assert first.quality_per_100_tokens == pytest.approx(0.6)
    assert second.quality.mean == 0
    assert second.output_tokens is None
    assert second.quality_per_100_tokens is None


def test_steps_are_within_one_model_and_one_agent():
    other = trials("ollama:m-q8_0?thinking=64", [1, 1, 1])
    elsewhere = trials("ollama:m-q4_0?thinking=64", [1, 1, 1], agent="radiologist")
    assert budget_steps([*OFF, *other, *elsewhere]) == []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_steps_add_up_to_the_whole_way(scores):
    """Where all settings answered the same cases, gains and tokens telescope."""
    low = trials("ollama:m?thinking=off", scores, output_tokens=10)
    middle = trials("ollama:m?thinking=32", scores[::-1], output_tokens=25)
    high = trials("ollama:m?thinking=64", [1 - s for s in scores], output_tokens=70)
    steps = budget_steps([*low, *middle, *high])
    (whole,) = budget_steps([*low, *high])
    assert sum(s.quality.mean for s in steps) == pytest.approx(whole.quality.mean, abs=1e-9)
    assert sum(s.output_tokens or 0 for s in steps) == whole.output_tokens


def test_a_calls_parts_are_of_quiet_trials_and_loading_stands_apart():
    (times,) = call_times(
        trials(
            "llamacpp:m",
            [0, 0, 0, 0],
            start=["cold", "warm", "warm", "warm"],
            busy=[False, False, False, True],
            load_s=[7.0, 0.0, 0.0, 0.0],
            total_s=[9.0, 2.0, 3.0, 60.0],
            decode_s=[1.0, 1.0, 2.0, 50.0],
        )
    )
    assert (times.n, times.clean) == (4, 2)
    assert (times.total_p50_s, times.decode_s, times.load_s) == (2.5, 1.5, 7.0)
    (dirty,) = call_times(trials("llamacpp:m", [0, 0], busy=True, prefill_s=None))
    assert (dirty.clean, dirty.total_p50_s, dirty.prefill_s) == (0, 2.0, None)


def test_bits_and_speed_of_a_quantization():
    """100 tokens a second on the quiet machine; the busy trials do not count."""
    target = "llamacpp:m-q4_1?thinking=off"
    scored = trials(target, [0, 0], output_tokens=100, busy=[False, True], decode_s=[1.0, 20.0])
    unknown = row("alignment", "claude:claude-sonnet-5-5")
    (found,) = quantized_targets([row("alignment", target), unknown], scored)
    assert (found.family, found.quantization, found.bits) == ("llamacpp:m?thinking=off", "q4_1", 5)
    assert (found.decode_tokens_s, found.weights_bytes) == (100, 90 << 20)


def evidence() -> list[Any]:
    return [
        row(
            agent,
            f"llamacpp:small-model-{quantization}?thinking={thinking}",
            quality=0.2 + 0.1 * i + 0.05 * j,
            output_tokens=60.0 + 40 * j,
            synthetic=quantization != "q4_1",
        )
        for agent in AGENTS
        for i, quantization in enumerate(("q8_0", "q4_1", "q4_0"))
        for j, thinking in enumerate(("off", "24", "256"))
    ]


def all_trials() -> list[ScoredTrial]:
    return [
        one
        for r in evidence()
        for one in trials(r.target, [0.5], agent=r.agent, synthetic=r.synthetic)
    ]


FIGURES = {
    "calls": plots.parts_of_calls(call_times(all_trials())),
    "no calls": plots.parts_of_calls([]),
    "tokens": plots.quality_by_tokens(evidence()),
    "one agent": plots.quality_by_tokens([r for r in evidence() if r.agent == "radiologist"]),
    "no tokens": plots.quality_by_tokens([row("alignment", "ollama:m", output_tokens=None)]),
    "bits": plots.quality_and_speed_by_bits(quantized_targets(evidence(), all_trials())),
    "no bits": plots.quality_and_speed_by_bits([]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_leaves_its_figure_and_no_labels_meet(name: str) -> None:
    figure = FIGURES[name]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    whole = [text for text in (figure._supxlabel,) if text is not None]
    whole += [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        if axes.axison:
            whole += [*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label]
            ticks = [t for t in axes.get_yticklabels() if t.get_text()]
            boxes = [t.get_window_extent(renderer).padded(-1) for t in ticks]
            assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for text in whole:
        box = text.get_window_extent(renderer)
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text


def test_every_axis_of_the_new_figures_names_its_unit():
    axes = {name: [a for a in FIGURES[name].axes if a.axison] for name in FIGURES}
    assert {a.get_xlabel() for a in axes["calls"]} == {"time of a call, its model loaded (s)"}
    assert {a.get_xlabel() for a in axes["tokens"]} == {"output tokens a call (mean)"}
    assert {a.get_xlabel() for a in axes["bits"]} == {"bits per weight"}
    assert axes["bits"][-1].get_ylabel() == "decoding (tokens/s, median)"
    for name in ("calls", "tokens", "bits"):
        assert "Synthetic weights" in FIGURES[name].get_supxlabel()


def test_tables_mark_synthetic_weights_and_unknown_figures():
    times = call_times(trials("llamacpp:m-q4_0", [0.5], synthetic=True, prefill_s=None))
    assert "m-q4_0\N{NO-BREAK SPACE}*" in call_table(times).to_html()
    assert ">?<" in call_table([*times, *call_times(OFF)]).to_html()
    rows = quantized_targets(evidence(), all_trials())
    assert "q8_0?thinking=off\N{NO-BREAK SPACE}*" in quantization_table(rows).to_html()
    assert "no model was asked with more than one setting" in step_table([]).to_html()


def test_both_orders_are_reckoned_and_those_that_run_are_timed(monkeypatch):
    """Side by side is reckoned shorter by the shorter of the two stages: 2 s of 1 + 2 + 3 + 4 + 5."""
    route = {"primary": "llamacpp:a", "fallback": None, "privacy": "local_only", "reason": ""}
    bare = Profile.model_validate(
        profile_content(
            providers={"llamacpp": {"enabled": True}},
            models={},
            routing={agent: dict(route) for agent in AGENTS},
        )
    )
    rows = tuple(
        row(agent, "llamacpp:a", latency_p50_s=seconds)
        for seconds, agent in enumerate(AGENTS, start=1)
    )
    profile = bare.model_copy(update={"evidence": rows})
    routings = {"sequential": profile, "parallel": profile}
    suite = SUITES / "pipeline-generated.jsonl"
    reckoned = asyncio.run(order_times(routings, suite, 0))
    assert [(one.order, one.reckoned_s) for one in reckoned] == [
        ("sequential", 15),
        ("parallel", 13),
    ]
    assert all(one.measured_s is None for one in reckoned)

    def pool(_factory: Any) -> ProviderPool:
        return ProviderPool(lambda _: ScriptedProvider(example_answer))

    monkeypatch.setattr("soma_bench.notebooks.orders.ProviderPool", pool)
    seen: list[str] = []
    timed = asyncio.run(order_times(routings, suite, 2, on_case=lambda case: seen.append(case.id)))
    assert len(seen) == 4
    assert [(one.analyses, one.finished) for one in timed] == [(2, 2), (2, 2)]
    assert all(one.measured_s is not None and one.measured_s > 0 for one in timed)
