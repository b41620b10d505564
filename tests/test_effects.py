"""Effects: one setting changed, all else equal, compared case by case."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from scored_trials import scored_trial
from soma_bench.effects import effects, thinking_order
from soma_bench.scoring.statistics import paired_comparison
from soma_bench.sweeps.scores import ScoredTrial


def trials(
    target: str,
    scores: Sequence[float],
    seconds: Sequence[float] = (),
    *,
    weights: int | None = 100,
    agent: str = "alignment",
    first: int = 0,
) -> list[ScoredTrial]:
    """One trial a case, the cases numbered from ``first``."""
    return [
        scored_trial(
            value,
            agent=agent,
            target=target,
            case_id=f"case-{number}",
            total_s=seconds[number - first] if seconds else 1.0,
            identity={"weights_bytes": weights},
        )
        for number, value in enumerate(scores, start=first)
    ]


def test_effect_of_thinking_by_hand():
    """Quality 0.3, 0.5 and -0.2 better; seconds 1, 3 and 8 slower."""
    (effect,) = effects(
        trials("ollama:m?thinking=off", [0.5, 0.5, 0.5], [1, 1, 1])
        + trials("ollama:m?thinking=256", [0.8, 1.0, 0.3], [2, 4, 9])
    )
    assert (effect.agent, effect.setting) == ("alignment", "thinking")
    assert (effect.baseline, effect.target) == ("ollama:m?thinking=off", "ollama:m?thinking=256")
    assert effect.cases == 3
    assert effect.quality.mean == pytest.approx(0.2)
    paired = paired_comparison([0.8, 1.0, 0.3], [0.5, 0.5, 0.5])
    assert effect.quality == paired.difference
    assert effect.latency_s == pytest.approx(3)


def test_only_cases_that_both_answered_are_compared():
    (effect,) = effects(
        trials("ollama:m?thinking=off", [0.0, 0.5, 1.0])
        + trials("ollama:m?thinking=low", [1.0, 1.0], first=1)
    )
    assert effect.cases == 2
    assert effect.quality.mean == pytest.approx((0.5 + 0.0) / 2)


def test_targets_without_a_shared_case_have_no_effect():
    assert not effects(
        trials("ollama:m?thinking=off", [0.0]) + trials("ollama:m?thinking=low", [1.0], first=5)
    )


def test_repeats_of_a_case_are_averaged_before_they_are_compared():
    (effect,) = effects(
        trials("ollama:m?thinking=off", [0.4])
        + trials("ollama:m?thinking=8", [1.0], [2])
        + trials("ollama:m?thinking=8", [0.0], [6])
    )
    assert effect.cases == 1
    assert effect.quality.mean == pytest.approx(0.1)
    assert effect.latency_s == pytest.approx(4 - 1)


def test_equal_lead_on_every_case_is_as_sure_as_three_cases_can_be():
    (effect,) = effects(
        trials("ollama:m?thinking=off", [0.0, 0.4, 0.8])
        + trials("ollama:m?thinking=8", [0.1, 0.5, 0.9])
    )
    assert effect.quality.mean == pytest.approx(0.1)
    assert effect.quality.low < -0.5, "another case may differ by anything"


def test_quantizations_are_compared_with_the_largest_weights_of_the_same_thinking():
    found = effects(
        trials("llamacpp:m-q4_0?thinking=off", [0.2], weights=40)
        + trials("llamacpp:m-q8_0?thinking=off", [0.9], weights=80)
        + trials("llamacpp:m-q4_1?thinking=off", [0.4], weights=45)
        + trials("llamacpp:m-q4_0?thinking=8", [0.3], weights=40)
        + trials("llamacpp:n-q4_0?thinking=off", [0.5], weights=40)
    )
    assert [(e.setting, e.baseline, e.target) for e in found] == [
        ("thinking", "llamacpp:m-q4_0?thinking=off", "llamacpp:m-q4_0?thinking=8"),
        ("quantization", "llamacpp:m-q8_0?thinking=off", "llamacpp:m-q4_0?thinking=off"),
        ("quantization", "llamacpp:m-q8_0?thinking=off", "llamacpp:m-q4_1?thinking=off"),
    ]
    assert [e.quality.mean for e in found] == pytest.approx([0.1, -0.7, -0.5])


def test_other_models_providers_and_agents_are_never_compared():
    assert not effects(
        trials("ollama:m?thinking=off", [0.1])
        + trials("ollama:n?thinking=low", [0.1])
        + trials("mlx:m?thinking=low", [0.1])
        + trials("ollama:m?thinking=low", [0.1], agent="pathologist")
    )


def test_without_no_thinking_the_least_of_it_is_the_baseline():
    found = effects(
        trials("ollama:m?thinking=512", [0.1])
        + trials("ollama:m?thinking=low", [0.1])
        + trials("ollama:m", [0.1])
    )
    assert {effect.baseline for effect in found} == {"ollama:m"}
    assert [effect.target for effect in found] == [
        "ollama:m?thinking=512",
        "ollama:m?thinking=low",
    ]


def test_thinking_is_ordered_from_little_to_much():
    mixed = [4096, "high", 1, None, "low", 64, "off", "medium"]
    in_order = ["off", None, "low", "medium", "high", 1, 64, 4096]
    assert sorted(mixed, key=thinking_order) == in_order


def test_nothing_measured_has_no_effect():
    assert effects([]) == []
