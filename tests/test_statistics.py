"""Statistics: intervals that hold what they promise, paired comparisons, and designs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from soma_bench.scoring.statistics import (
    CaseValues,
    Pair,
    between,
    cases_needed,
    detectable_difference,
    holm,
    mean_interval,
    mean_intervals,
    neighbours,
    paired_comparison,
    paired_comparisons,
    percentile,
)

# Intervals.


def test_interval_is_the_same_every_time_and_holds_the_mean():
    values = [[0.2], [0.9], [0.4], [1.0], [0.0], [0.7]]
    first = mean_interval(values)
    assert first == mean_interval(values)
    assert first.mean == pytest.approx(3.2 / 6)
    assert 0 <= first.low < first.mean < first.high <= 1


def test_bootstrap_interval_agrees_with_scipys_at_the_same_tails():
    """With many cases the correction for few is next to nothing, and the two resample alike."""
    values = np.random.default_rng(5).beta(5, 1, 150)
    ours = mean_interval([[value] for value in values.tolist()])
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.high, abs=0.003)


@pytest.mark.parametrize("n", [1, 6, 60])
def test_equal_values_are_as_sure_as_so_many_cases_can_make_them(n):
    """All right is the exact interval of a proportion; all 0.5 is open on both sides."""
    exact = stats.binomtest(n, n).proportion_ci(0.95, method="exact")
    assert mean_interval([[1.0]] * n) == pytest.approx((1.0, exact.low, 1.0))
    assert mean_interval([[0.0]] * n) == pytest.approx((0.0, 0.0, 1 - exact.low))
    unseen = (1 - exact.low) / 2
    assert mean_interval([[0.5]] * n) == pytest.approx((0.5, 0.5 - unseen, 0.5 + unseen))


def test_right_or_wrong_has_the_exact_interval_of_a_proportion():
    exact = stats.binomtest(27, 30).proportion_ci(0.95, method="exact")
    interval = mean_interval([[1.0]] * 27 + [[0.0]] * 3)
    assert interval == pytest.approx((0.9, exact.low, exact.high))


def test_sums_that_differ_by_rounding_alone_are_equal():
    assert mean_interval([[0.1 + 0.2], [0.3]], bounds=(-1, 1)).low < 0


def test_two_cases_say_next_to_nothing():
    assert mean_interval([[0.25], [0.75]]) == pytest.approx((0.5, 0, 1))


@pytest.mark.parametrize("values", [[], [[]], [[0.5], []]])
def test_interval_of_nothing_is_refused(values):
    with pytest.raises(ValueError, match="at least one"):
        mean_interval(values)


def test_values_beyond_their_bounds_are_refused():
    with pytest.raises(ValueError, match="do not lie in"):
        mean_interval([[0.5], [-0.1]])


def test_a_cluster_missing_for_a_case_is_refused():
    with pytest.raises(ValueError, match="give one for each"):
        mean_interval([[0.5], [0.1]], clusters=["a"])


def test_repeats_of_a_case_do_not_make_the_interval_narrower():
    once = mean_interval([[0.1], [0.9], [0.2], [1.0], [0.8]])
    often = mean_interval([[0.1] * 50, [0.9] * 50, [0.2] * 50, [1.0] * 50, [0.8] * 50])
    assert often == pytest.approx(once)


def test_cases_of_one_patient_count_as_one():
    """Two patients seen five times each are two, however many cases there are."""
    values = [[0.2]] * 5 + [[0.8]] * 5
    alone = mean_interval(values)
    together = mean_interval(values, clusters=["a"] * 5 + ["b"] * 5)
    assert alone.mean == together.mean == pytest.approx(0.5)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_mean_is_over_trials_where_cases_have_unequal_repeats():
    assert mean_interval([[1.0, 1.0, 1.0], [0.0]]).mean == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("draw", "truth", "n"),
    [
        (lambda rng, n: rng.uniform(size=n), 0.5, 6),
        (lambda rng, n: rng.uniform(size=n), 0.5, 40),
        (lambda rng, n: rng.beta(8, 1, n), 8 / 9, 20),
        (lambda rng, n: (rng.random(n) < 0.95).astype(float), 0.95, 20),
    ],
)
def test_about_95_of_100_intervals_hold_the_true_mean(draw, truth, n):
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        interval = mean_interval([[value] for value in draw(rng, n).tolist()])
        held += interval.low <= truth <= interval.high
    assert held / 200 >= 0.91


def test_clustered_intervals_hold_the_true_mean_where_naive_ones_do_not():
    """Five cases a patient that hardly differ: taking them for 5 patients would hold in about half."""
    rng = np.random.default_rng(11)
    patients = [patient for patient in range(30) for _ in range(5)]
    clustered = naive = 0
    for _ in range(200):
        shared = np.repeat(rng.uniform(0, 0.9, 30), 5)
        cases = [[value] for value in (shared + rng.uniform(0, 0.1, 150)).tolist()]
        right = mean_interval(cases, clusters=patients)
        wrong = mean_interval(cases)
        clustered += right.low <= 0.5 <= right.high
        naive += wrong.low <= 0.5 <= wrong.high
    assert clustered / 200 >= 0.91
    assert naive / 200 <= 0.75


def test_percentiles_lie_between_neighbours():
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == pytest.approx(2.5)
    assert percentile([1.0, 2.0, 3.0, 4.0], 95) == pytest.approx(3.85)
    assert percentile([7.0], 95) == 7


# Pairs.


def test_sign_flip_is_exact_for_few_cases():
    """Of the 2^4 patterns of signs only all-plus and all-minus reach the sum of four gains."""
    paired = paired_comparison([0.9, 0.8, 0.7, 0.9], [0.5, 0.5, 0.5, 0.5])
    assert paired.p == 2 / 16
    assert paired.difference.mean == pytest.approx(0.325)
    assert paired.sd == pytest.approx(np.std([0.4, 0.3, 0.2, 0.4], ddof=1))


def test_targets_that_never_differ_are_not_told_apart_and_may_still_differ():
    paired = paired_comparison([0.4, 0.9, 1.0], [0.4, 0.9, 1.0])
    assert paired.p == 1
    assert paired.sd == 0
    assert paired.difference.low < 0 < paired.difference.high


def test_pairs_find_what_overlapping_intervals_hide():
    """Hard cases are hard for both: the lead is small and steady."""
    rng = np.random.default_rng(3)
    theirs = rng.uniform(0.1, 0.8, 40)
    ours = theirs + rng.uniform(0.0, 0.1, 40)
    alone = [mean_interval([[v] for v in scores.tolist()]) for scores in (ours, theirs)]
    assert alone[0].low < alone[1].high
    assert paired_comparison(ours.tolist(), theirs.tolist()).p < 0.001


def test_five_cases_a_patient_are_no_proof_of_five():
    """Six patients, the lead the same in all cases of each: p is that of six signs."""
    leads = np.repeat([0.3, 0.1, 0.2, 0.1, 0.2, 0.3], 5)
    patients = [patient for patient in range(6) for _ in range(5)]
    paired = paired_comparison((0.5 + leads).tolist(), [0.5] * 30, clusters=patients)
    assert (paired.cases, paired.clusters, paired.p) == (30, 6, 2 / 64)


@pytest.mark.parametrize("n", [10, 30])
def test_chance_is_taken_for_a_difference_in_one_of_twenty(n):
    rng = np.random.default_rng(17)
    false = sum(
        paired_comparison(rng.random(n).tolist(), rng.random(n).tolist()).p <= 0.05
        for _ in range(300)
    )
    assert 0.025 <= false / 300 <= 0.08


def test_different_cases_are_no_pairs():
    with pytest.raises(ValueError, match="same cases"):
        paired_comparison([0.1], [0.1, 0.2])


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


# Designs.


def test_published_designs_come_out():
    """24 targets, 80 % power: 60 cases show 0.095 at SD 0.2 and 0.215 at SD 0.45; 0.05 takes 219."""
    assert detectable_difference(60, 0.2, comparisons=23) == pytest.approx(0.095, abs=0.0005)
    assert detectable_difference(60, 0.45, comparisons=23) == pytest.approx(0.215, abs=0.0005)
    assert cases_needed(0.05, 0.2, comparisons=23) == 219


def test_a_design_has_the_power_it_is_meant_to_have():
    n = cases_needed(0.1, 0.2)
    rng = np.random.default_rng(23)
    gains = rng.normal(0.1, 0.2, size=(2000, n))
    t = gains.mean(axis=1) / (gains.std(axis=1, ddof=1) / np.sqrt(n))
    assert (t > stats.t.ppf(0.95, n - 1)).mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cases_needed(0.0, 0.2),
        lambda: cases_needed(0.1, float("nan")),
        lambda: cases_needed(0.1, 0.2, comparisons=0),
        lambda: cases_needed(0.1, 0.2, power=1.0),
        lambda: detectable_difference(0, 0.2),
    ],
)
def test_designs_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"cannot be|no design|show nothing"):
        wrong()


# Many at once.


def drawn_samples() -> list[CaseValues]:
    rng = np.random.default_rng(41)
    values = [rng.random(n) if n % 2 else rng.integers(0, 5, n) / 4 for n in (2, 9, 20, 20, 57)]
    return [CaseValues.of([[value] for value in each.tolist()]) for each in values]


def test_an_interval_is_the_same_alone_and_among_others():
    samples = drawn_samples()
    together = mean_intervals(samples)
    assert together == [mean_intervals([sample])[0] for sample in samples]
    assert together[::-1] == mean_intervals(samples[::-1])


def test_a_comparison_is_the_same_alone_and_among_others():
    rng = np.random.default_rng(43)
    pairs = [Pair(rng.random(n), np.round(rng.random(n), 1)) for n in (5, 14, 14, 60)]
    assert paired_comparisons(pairs) == [paired_comparisons([pair])[0] for pair in pairs]


def test_scores_that_tie_but_for_rounding_count_as_ties():
    """0.1 + 0.2 is not 0.3: thirds and tenths tie in real scores, and halves do exactly."""
    coarse = [0.0, 0.25, 0.5, 0.75, 1.0] * 4
    exact = mean_interval([[value] for value in coarse])
    tenths = mean_interval([[value * 0.8 + 0.1] for value in coarse])
    assert tenths.low == pytest.approx(exact.low * 0.8 + 0.1, abs=1e-9)
    assert tenths.high == pytest.approx(exact.high * 0.8 + 0.1, abs=1e-9)


def test_a_quantile_is_numpys_to_the_last_digit():
    rng = np.random.default_rng(47)
    for n in (1, 2, 3, 10, 333):
        values = np.sort(rng.random(n))
        for percent in (0, 5, 50, 95, 100):
            lower, upper, along = neighbours(n, percent / 100)
            assert between(values[lower], values[upper], along) == np.percentile(values, percent)
