"""Whether a measurement is slower than an earlier one, beyond chance and beyond what matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from soma_bench.errors import ConfigError
from soma_bench.latency.load import Load
from soma_bench.latency.measure import describe_load
from soma_bench.latency.report import Level, Report
from soma_bench.latency.samples import MEASURES
from soma_bench.scoring.statistics import holm

ALPHA = 0.05
"""Chance of calling anything slower where nothing is, over all comparisons together."""
LEAST_CHANGE = 0.05
"""Share of the earlier median by which the later one must be higher."""
_COMPARED = ("ttft", "total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One measure of one target under one load, then and now."""

    target: str
    agent: str | None
    load: str
    measure: str
    then_p50_s: float
    now_p50_s: float
    p: float
    """One-sided, of being no slower; adjusted for all comparisons."""

    @property
    def relative(self) -> float:
        """Change of the median as a share of the earlier one."""
        return self.now_p50_s / self.then_p50_s - 1

    @property
    def slower(self) -> bool:
        """Whether it is slower beyond chance, and by more than `LEAST_CHANGE`."""
        return self.p < ALPHA and self.relative > LEAST_CHANGE


_Key = tuple[str, str, Load]


def compare_reports(then: Report, now: Report) -> tuple[Change, ...]:
    """Compare what two reports have in common: target, work and load.

    Values are compared by the test of Mann and Whitney (Annals of Mathematical Statistics 18, 1947),
    which asks for no distribution.

    Raises:
        ConfigError: they have nothing in common.
    """
    from scipy.stats import mannwhitneyu

    earlier = _levels(then)
    found: list[Change] = []
    for key, (agent, level) in _levels(now).items():
        if key not in earlier:
            continue
        for measure in _COMPARED:
            before, after = _values(earlier[key][1], measure), _values(level, measure)
            if before and after:
                found.append(
                    Change(
                        target=key[0],
                        agent=agent,
                        load=describe_load(level.load),
                        measure=measure,
                        then_p50_s=median(before),
                        now_p50_s=median(after),
                        p=float(mannwhitneyu(after, before, alternative="greater").pvalue),
                    )
                )
    if not found:
        raise ConfigError(
            "--baseline: the two reports have no target with the same work and load in common;"
            " measure with the options of the baseline"
        )
    adjusted = holm([change.p for change in found])
    return tuple(replace(change, p=p) for change, p in zip(found, adjusted, strict=True))


def _levels(report: Report) -> dict[_Key, tuple[str | None, Level]]:
    """Levels by target, work, and what of their load decides a latency."""
    return {
        (target.target, target.work, _rate_of(level.load)): (target.agent, level)
        for target in report.targets
        for level in target.levels
    }


def _rate_of(load: Load) -> Load:
    return Load(concurrency=load.concurrency, rate=load.rate)


def _values(level: Level, measure: str) -> list[float]:
    warm = (s for s in level.samples if s.failure is None and not s.load_s)
    return [value for s in warm if (value := MEASURES[measure](s)) is not None]
