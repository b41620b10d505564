"""What an analysis takes in either order of its stages, reckoned and measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import get_args

from soma_bench.cases.pipeline import PipelineCase, load_pipeline_cases
from soma_bench.comparison import Comparison
from soma_bench.environment import read_environment
from soma_bench.errors import ConfigError
from soma_bench.optimize import Infeasible
from soma_bench.optimize.solution import pipeline_latency
from soma_bench.plots.routing import primaries
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.constraints import Constraints, Pipeline
from soma_bench.routing.overrides import provider_factory
from soma_bench.routing.profile import Profile
from soma_bench.routing.router import Router
from soma_bench.sweeps.pipelines import AnalysisTime, measure_pipeline
from soma_bench.tuning import tune


def best_in_each_order(comparison: Comparison) -> Mapping[Pipeline, Profile]:
    """The routing of the best means, without any limit, for either order of the stages.

    Synthetic weights may be in it: it is for looking at times, and is written nowhere.

    Raises:
        ConfigError: an agent has no figures.
    """
    found: dict[Pipeline, Profile] = {}
    for order in get_args(Pipeline):
        free = Constraints(allow_synthetic=True)
        routing = tune(comparison, free, pipeline=order, name=f"best-{order}").routing
        if isinstance(routing, Infeasible):
            raise ConfigError(f"run {comparison.run.id}: {routing.message}")
        found[order] = routing
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTime:
    """What one order of the stages takes, reckoned and measured; seconds, p50."""

    order: Pipeline
    reckoned_s: float
    """From the stages' medians, as if those side by side did not slow each other down."""
    measured_s: float | None
    """Of whole analyses; None where none was run."""
    analyses: int
    finished: int
    """Analyses that ended with a report."""


async def order_times(
    routings: Mapping[Pipeline, Profile],
    suite: Path,
    analyses: int,
    *,
    on_case: Callable[[PipelineCase], None] = lambda _: None,
) -> list[OrderTime]:
    """Reckon either order from the profiles' evidence, and measure it on whole analyses.

    Args:
        routings: the profile of each order.
        suite: pipeline cases; the first so many are run.
        analyses: how many analyses are run in each order; 0 calls no model.
        on_case: told of every case as it ends.

    Raises:
        ConfigError: the suite cannot be read.
        PrivacyError: a routing sends an agent where its privacy level forbids.
    """
    cases = load_pipeline_cases(suite)[:analyses] if analyses else []
    found = []
    for order, profile in routings.items():
        times = await _run(profile, cases, order, on_case) if cases else []
        found.append(
            OrderTime(
                order=order,
                reckoned_s=pipeline_latency(primaries(profile), order, "p50"),
                measured_s=median(time.seconds for time in times) if times else None,
                analyses=len(times),
                finished=sum(time.finished for time in times),
            )
        )
    return found


async def _run(
    profile: Profile,
    cases: Sequence[PipelineCase],
    order: Pipeline,
    on_case: Callable[[PipelineCase], None],
) -> Sequence[AnalysisTime]:
    environment = read_environment()
    async with ProviderPool(provider_factory(profile, environment)) as providers:
        router = Router(profile, providers, environment=environment)
        measured = await measure_pipeline(
            cases, router.ask, orders=(order,), true_upstream=False, on_case=on_case
        )
    return measured.times
