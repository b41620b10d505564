"""Racing: measure all candidates on a few cases, drop the hopeless, go on with the rest.

Every candidate meets the same cases in the same order. At each look, at n units, a candidate j is
tested against every other survivor i by the paired statistic t = mean / (sd / sqrt(n)) of the
differences score_i - score_j, and by the largest of them, T. It is dropped when T exceeds the
quantile of Student's t shared among its rivals (Bonferroni), or when T exceeds the unshared one and
the multiplier bootstrap, which knows how the rivals hang together, gives T a p-value of at most the
look's share of alpha (Chernozhukov, Chetverikov and Kato, Annals of Statistics 41, 2013; each draw
is divided by sqrt(chi2/(n-1)), without which few cases look too sure). The shares are the increments
of alpha * log(1 + (e-1) n/N), Pocock's spending (Lan and DeMets, Biometrika 70, 1983).

The truly best candidate is tested once a look, so over all looks it is lost in at most alpha of all
races, however many candidates there are and however close: the survivors are a confidence set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from soma_bench.errors import ConfigError

Floats = npt.NDArray[np.float64]
Stop = Literal["one is left", "regret is small", "cases are used up"]
Rule = Literal["bonferroni", "bootstrap"]

FIRST_LOOKS = (8, 12, 18, 27, 40, 60)
_GROWTH = 1.5
"""How much later each look is than the one before, when there are more cases than that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceRules:
    """When candidates are dropped and the race is over."""

    alpha: float = 0.05
    """Most probable loss of the best candidate over the whole race."""
    strict: bool = False
    """Bonferroni alone: it holds however few the cases are and saves less."""
    regret: float = 0.0
    """The race is over when choosing the leader is expected to cost no more than this, in score;
    differences below it are ties. 0 to go on until one is left or the cases are used up."""
    sd_floor: float = 0.2
    """The least standard deviation that a difference is believed to have. Scores that agree on the
    first cases hide what is rare: with hardly a floor, a candidate that never fails and is a little
    worse on each of eight cases is dropped before its rivals show their failures."""
    resamples: int = 1999
    seed: int = 20251201


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One candidate at one look."""

    candidate: int
    """Its row in the score matrix."""
    mean: float
    rival: int
    """The survivor that beats it most clearly."""
    t: float
    """The statistic against that rival; at most 0 for the leader."""
    p: float
    """Probability of such a ``t`` against any rival were it the best: Bonferroni's, or the
    bootstrap's where that decided."""
    dropped_by: Rule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen and decided after ``n`` units."""

    n: int
    alpha: float
    """The look's share of the race's alpha."""
    standings: tuple[Standing, ...]
    """Every candidate that was still in the race, in the order of the rows."""
    regret: float
    """Expected cost in score of stopping here with the leader."""
    stop: Stop | None
    """Why the race ended with this look."""

    @property
    def survivors(self) -> tuple[int, ...]:
        """Candidates that stay in the race."""
        return tuple(s.candidate for s in self.standings if s.dropped_by is None)

    @property
    def leader(self) -> int:
        """The survivor of the highest mean, the first of equals."""
        return max(
            (s for s in self.standings if s.dropped_by is None), key=lambda s: s.mean
        ).candidate

    def ties(self, margin: float) -> tuple[int, ...]:
        """Survivors whose mean is within ``margin`` of the leader's."""
        best = max(s.mean for s in self.standings)
        return tuple(
            s.candidate
            for s in self.standings
            if s.dropped_by is None and s.mean >= best - margin - 1e-12
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceResult:
    """A race, as far as the scores go."""

    looks: tuple[Look, ...]
    measured: int
    """Scores that the race needed: for each look, the survivors' new units."""

    @property
    def confidence_set(self) -> tuple[int, ...]:
        """Candidates one of which is the best, but for the race's alpha."""
        return self.looks[-1].survivors


def look_sizes(units: int) -> tuple[int, ...]:
    """Numbers of units at which a race of at most ``units`` is looked at; the last is all of them.

    Raises:
        ConfigError: there are fewer than two units, on which nothing can be compared.
    """
    if units < 2:
        raise ConfigError(f"a race needs at least 2 independent cases, and there are {units}")
    sizes = list(FIRST_LOOKS)
    while sizes[-1] < units:
        sizes.append(round(sizes[-1] * _GROWTH))
    # A last look just after another would spend alpha on almost nothing new.
    return (*(n for n in sizes if n * 1.1 <= units), units)


def race(scores: npt.ArrayLike, rules: RaceRules = RaceRules()) -> RaceResult:
    """Race the rows of a complete score matrix; only what a race would have measured is looked at.

    Args:
        scores: one row a candidate, one column a unit (a case, or the mean of a cluster's cases),
            the columns in the order in which they are measured. A failed answer is 0.
        rules: when candidates are dropped and the race is over.

    Raises:
        ConfigError: there are fewer than two units.
        ValueError: a score is missing.
    """
    matrix = np.asarray(scores, dtype=float)
    sizes = look_sizes(matrix.shape[1])
    survivors: tuple[int, ...] = tuple(range(len(matrix)))
    looks: list[Look] = []
    measured = before = 0
    for n in sizes:
        measured += len(survivors) * (n - before)
        look = take_look(matrix[list(survivors), :n], survivors, sizes, rules)
        looks.append(look)
        survivors, before = look.survivors, n
        if look.stop:
            break
    return RaceResult(looks=tuple(looks), measured=measured)


def take_look(
    scores: Floats, candidates: Sequence[int], sizes: Sequence[int], rules: RaceRules
) -> Look:
    """Decide one look.

    Args:
        scores: the survivors' scores so far, a row for each.
        candidates: what each row is, for the record.
        sizes: the race's looks, as `look_sizes` gives them.
        rules: when candidates are dropped and the race is over.

    Raises:
        ValueError: a score is missing.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is missing: a look takes every survivor on every unit")
    rows, n = scores.shape
    share = alpha_share(n, sizes, rules.alpha)
    means = scores.mean(axis=1)
    centred = scores - means[:, None]
    errors = _errors_of_differences(centred, rules.sd_floor)
    # statistics[i, j]: by how much i beats j.
    statistics = (means[:, None] - means[None, :]) / errors
    np.fill_diagonal(statistics, -np.inf)
    draws = _Draws(centred, rules)
    standings = []
    for j in range(rows):
        if rows == 1:
            standings.append(_alone(candidates[j], means[j]))
            continue
        rival = int(statistics[:, j].argmax())
        t = float(statistics[rival, j])
        p, rule = _verdict(t, j, errors, draws, share, rules)
        standings.append(
            Standing(
                candidate=candidates[j],
                mean=float(means[j]),
                rival=candidates[rival],
                t=t,
                p=p,
                dropped_by=rule,
            )
        )
    staying = [j for j, standing in enumerate(standings) if standing.dropped_by is None]
    regret = draws.regret(means, staying)
    stop: Stop | None = None
    if len(staying) == 1:
        stop = "one is left"
    elif n == sizes[-1]:
        stop = "cases are used up"
    elif rules.regret and regret <= rules.regret:
        stop = "regret is small"
    return Look(n=n, alpha=share, standings=tuple(standings), regret=regret, stop=stop)


def alpha_share(n: int, sizes: Sequence[int], alpha: float) -> float:
    """What the look at ``n`` may spend of ``alpha``; all looks together spend exactly all of it."""

    def spent(units: int) -> float:
        return alpha * math.log(1 + (math.e - 1) * units / sizes[-1])

    earlier = [size for size in sizes if size < n]
    return spent(n) - (spent(earlier[-1]) if earlier else 0.0)


def _errors_of_differences(centred: Floats, sd_floor: float) -> Floats:
    """Standard error of the mean difference of every two rows."""
    n = centred.shape[1]
    covariance = centred @ centred.T / (n - 1)
    own = np.diag(covariance)
    variances = np.maximum(own[:, None] + own[None, :] - 2 * covariance, sd_floor**2)
    errors: Floats = np.sqrt(variances / n)
    return errors


def _alone(candidate: int, mean: float) -> Standing:
    return Standing(
        candidate=candidate, mean=float(mean), rival=candidate, t=0.0, p=1.0, dropped_by=None
    )


class _Draws:
    """Means that other cases like these might have shown, drawn once a look and only if needed."""

    def __init__(self, centred: Floats, rules: RaceRules) -> None:
        self._centred = centred
        self._rules = rules
        self._means: Floats | None = None

    @property
    def means(self) -> Floats:
        """Deviations from the true means: a row for each draw, a column for each candidate."""
        if self._means is None:
            n = self.n
            rng = np.random.default_rng([self._rules.seed, n])
            multipliers = rng.standard_normal((self._rules.resamples, n))
            scale = np.sqrt(rng.chisquare(n - 1, size=(self._rules.resamples, 1)) / (n - 1))
            # n - 1 and not n: centred scores spread a little less than the true ones.
            self._means = multipliers @ self._centred.T / math.sqrt(n * (n - 1)) / scale
        return self._means

    @property
    def n(self) -> int:
        """Units that were looked at."""
        return int(self._centred.shape[1])

    def p(self, t: float, j: int, errors: Floats) -> float:
        """How often chance alone gives candidate ``j``, were it the best, a largest t like this."""
        others = [i for i in range(len(errors)) if i != j]
        beaten = (self.means[:, others] - self.means[:, [j]]) / errors[others, j]
        return float((1 + (beaten.max(axis=1) >= t).sum()) / (self._rules.resamples + 1))

    def regret(self, means: Floats, staying: Sequence[int]) -> float:
        """Expected lead of whoever is best over the one that leads here."""
        if len(staying) == 1:
            return 0.0
        possible = means[staying] + self.means[:, staying]
        return float((possible.max(axis=1) - possible[:, means[staying].argmax()]).mean())


def _verdict(
    t: float, j: int, errors: Floats, draws: _Draws, share: float, rules: RaceRules
) -> tuple[float, Rule | None]:
    from scipy.special import stdtr

    n = draws.n
    alone = float(stdtr(n - 1, -t))
    shared = min(1.0, alone * (len(errors) - 1))
    if shared < share:
        return shared, "bonferroni"
    if rules.strict or alone >= share:
        return shared, None
    p = draws.p(t, j, errors)
    return p, "bootstrap" if p <= share else None
