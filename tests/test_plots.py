"""What the figures show, read from the figures themselves."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from routing_examples import row, sealed_profile
from soma_bench import plots
from soma_bench.effects import Effect
from soma_bench.optimize import Infeasible
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile
from soma_bench.scoring.statistics import MeanInterval
from soma_bench.types import AGENTS


def table() -> list[Evidence]:
    """Five agents on models of three quantizations with and without thinking."""
    return [
        row(
            agent,
            f"llamacpp:small-model-{quantization}?thinking={thinking}",
            quality=0.2 + 0.1 * i + 0.05 * j,
            latency_p50_s=1.0 + i + 2 * j,
            synthetic=quantization != "q4_1",
        )
        for agent in AGENTS
        for i, quantization in enumerate(("q8_0", "q4_1", "q4_0"))
        for j, thinking in enumerate(("off", "24"))
    ]


def full_profile() -> Profile:
    """A profile with evidence for each of its targets."""
    bare = sealed_profile()
    rows = {
        (agent, str(bare.target(text))): row(agent, str(bare.target(text)), latency_p50_s=seconds)
        for seconds, agent in enumerate(AGENTS, start=1)
        for text in (bare.routing[agent].primary, bare.routing[agent].fallback)
        if text is not None
    }
    return bare.model_copy(update={"evidence": tuple(rows.values())}).sealed()


def an_effect(**changes: Any) -> Effect:
    content: dict[str, Any] = {
        "agent": "alignment",
        "setting": "thinking",
        "baseline": "llamacpp:m-q4_1?thinking=off",
        "target": "llamacpp:m-q4_1?thinking=24",
        "cases": 6,
        "quality": MeanInterval(0.1, -0.2, 0.4),
        "latency_s": 0.7,
    }
    return Effect(**{**content, **changes})


def figures() -> dict[str, Any]:
    profile = full_profile()
    conflict = Infeasible(conflict=("pipeline latency at most 1 s",), would_do=("6.3 s",))
    return {
        "quality": plots.quality_against_latency(table()),
        "ringed": plots.quality_against_latency(
            table(), chosen={"radiologist": "llamacpp:small-model-q4_0?thinking=24"}
        ),
        "nothing": plots.quality_against_latency([]),
        "effects": plots.effects_of_settings([an_effect()]),
        "no effects": plots.effects_of_settings([]),
        "routing": plots.chosen_routing(profile),
        "no routing": plots.chosen_routing(conflict),
        "stages": plots.latency_by_stage(profile),
        "no stages": plots.latency_by_stage(conflict),
    }


FIGURES = figures()


def drawn(figure: Figure) -> Any:
    """The renderer of a figure that has just been drawn, which knows where every text lies."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_and_no_text_leaves_it(name: str) -> None:
    figure = FIGURES[name]
    renderer = drawn(figure)
    canvas = figure.bbox
    for axes in figure.axes:
        for text in (*axes.texts, axes.title, axes.xaxis.label, axes.yaxis.label):
            if text.get_text() and text.get_visible() and axes.axison:
                box = text.get_window_extent(renderer)
                assert box.x0 >= canvas.x0 - 1, text
                assert box.x1 <= canvas.x1 + 1, text


@pytest.mark.parametrize("name", FIGURES)
def test_neighbouring_labels_do_not_run_into_each_other(name: str) -> None:
    figure = FIGURES[name]
    renderer = drawn(figure)
    for axes in figure.axes:
        labels = [t for t in axes.get_yticklabels() if t.get_text() and axes.axison]
        boxes = [label.get_window_extent(renderer) for label in labels]
        for one, other in combinations(boxes, 2):
            assert not one.padded(-1).overlaps(other.padded(-1))


def test_quality_figure_has_a_panel_an_agent_with_units_on_its_axes() -> None:
    panels = [axes for axes in FIGURES["quality"].axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "Alignment",
        "Radiologist",
        "Pathologist",
        "ReportWriter",
        "QCReviewer",
    ]
    assert {axes.get_xlabel() for axes in panels} == {"latency p50 (s)"}
    assert {axes.get_ylabel() for axes in panels} == {"accuracy"}
    assert all(axes.get_ylim() == (0, 1) for axes in panels)


def test_every_target_is_a_point_at_its_mean_and_median() -> None:
    panel = FIGURES["quality"].axes[0]
    points = {
        (round(float(line.get_xdata()[0]), 6), round(float(line.get_ydata()[0]), 6))
        for line in panel.lines
        if len(line.get_xdata()) == 1
    }
    expected = {(r.latency_p50_s, round(r.quality, 6)) for r in table() if r.agent == "alignment"}
    assert points == expected


def test_targets_differ_in_more_than_colour() -> None:
    panel = FIGURES["quality"].axes[0]
    points = [line for line in panel.lines if len(line.get_xdata()) == 1]
    looks = {(line.get_color(), line.get_marker()) for line in points}
    assert len(looks) == 6
    assert len({line.get_marker() for line in points}) == 2


def test_synthetic_weights_are_named_under_the_figure() -> None:
    note = FIGURES["quality"].get_supxlabel()
    assert "Synthetic weights" in note
    measured = plots.quality_against_latency([r for r in table() if not r.synthetic])
    assert "Synthetic weights" not in measured.get_supxlabel()


def test_pareto_front_of_the_means_is_what_no_other_target_beats() -> None:
    rows = [r for r in table() if r.agent == "alignment"]
    front = plots.pareto_front(rows)
    for r in rows:
        beaten = any(
            o.quality >= r.quality and o.latency_p50_s <= r.latency_p50_s and o != r for o in rows
        )
        assert (r in front) == (not beaten)


def test_drawing_changes_no_global_setting() -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    figures()
    assert dict(mpl.rcParams) == before
