"""Separation: what is told apart from the best, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from soma_bench.scoring.statistics import cases_needed, detectable_difference
from soma_bench.separation import CaseMeans, against_best


def measured(**scores: Sequence[float]) -> dict[tuple[str, str], CaseMeans]:
    """Scores of targets at one agent; each case stands alone."""
    return {
        ("alignment", f"ollama:{name}"): case_means([f"c{i}" for i in range(len(values))], values)
        for name, values in scores.items()
    }


def case_means(cases: list[str], values: Sequence[float]) -> CaseMeans:
    return CaseMeans(cases=cases, means=np.array(values), clusters=cases)


def test_a_clear_loser_is_told_apart_and_a_near_equal_is_not():
    rng = np.random.default_rng(3)
    best = rng.uniform(0.7, 1.0, 40)
    near = np.clip(best + rng.normal(-0.01, 0.1, 40), 0, 1)
    groups = measured(best=best.tolist(), near=near.tolist(), bad=(best - 0.5).tolist())
    rows, designs = against_best(list(groups), groups)
    by_target = {row.target: row for row in rows}
    assert set(by_target) == {"ollama:near", "ollama:bad"}
    bad, close = by_target["ollama:bad"], by_target["ollama:near"]
    assert (bad.is_worse, bad.more_cases) == (True, 0)
    assert bad.difference.mean == pytest.approx(-0.5)
    assert bad.p_holm == pytest.approx(2 * bad.p)
    assert not close.is_worse
    sd = float(np.std(near - best, ddof=1))
    needed = cases_needed(abs(float((near - best).mean())), sd, comparisons=2)
    assert close.more_cases == needed - 40
    (design,) = designs
    assert (design.cases, design.comparisons) == (40, 2)
    assert design.detectable == detectable_difference(40, design.sd, comparisons=2)


def test_six_cases_tell_nothing_apart_among_many():
    """The smallest p of six signs is 2/64: with five rivals it is no proof."""
    groups = measured(
        best=[1.0] * 6, **{f"rival{number}": [0.1 * number] * 6 for number in range(5)}
    )
    rows, _ = against_best(list(groups), groups)
    assert {row.p for row in rows} == {2 / 64}
    assert not any(row.is_worse for row in rows)


def test_targets_that_never_differ_need_no_number_of_cases():
    groups = measured(one=[0.5, 0.7, 0.9], two=[0.5, 0.7, 0.9])
    ((row,), designs) = against_best(list(groups), groups)
    assert (row.p, row.more_cases, designs) == (1, None, [])


def test_each_agent_has_its_own_best_and_all_share_the_error():
    first = measured(a=[1.0] * 10, b=[0.0] * 10)
    second = {
        ("pathologist", target): rows
        for (_, target), rows in measured(b=[1.0] * 10, a=[0.0] * 10).items()
    }
    groups = {**first, **second}
    rows, _ = against_best(list(groups), groups)
    assert [(row.agent, row.best) for row in rows] == [
        ("alignment", "ollama:a"),
        ("pathologist", "ollama:b"),
    ]
    assert all(row.p_holm == pytest.approx(2 * row.p) for row in rows)


def test_targets_without_a_shared_case_are_not_compared():
    groups = {**measured(a=[1.0]), ("alignment", "ollama:b"): case_means(["x"], [0.0])}
    assert against_best(list(groups), groups) == ([], [])


def test_targets_are_compared_on_the_cases_that_both_have_answered_whatever_their_order():
    groups = {
        ("alignment", "ollama:a"): case_means(["one", "two", "three"], [0.9, 0.5, 0.7]),
        ("alignment", "ollama:b"): case_means(["four", "three", "one"], [0.0, 0.6, 0.4]),
    }
    ((row,), _) = against_best(list(groups), groups)
    assert row.cases == 2
    assert row.difference.mean == pytest.approx(((0.6 - 0.7) + (0.4 - 0.9)) / 2)
