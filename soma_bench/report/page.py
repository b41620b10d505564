"""The page: what stands in it, and its making into one file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from soma_bench import __version__, plots
from soma_bench.amounts import dollars, gibibytes, seconds
from soma_bench.comparison import Comparison, compare_run
from soma_bench.optimize.optimizer import all_demands, read_tables
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.report.decision import Decision, Demands, Undecided, decide
from soma_bench.report.figures import inline_svg
from soma_bench.report.readings import KINDS, Kind, Readings, read_trials
from soma_bench.routing.constraints import Lexicographic, Objective, Weighted
from soma_bench.routing.evidence import Evidence
from soma_bench.separation import SMALL_DIFFERENCE
from soma_bench.standing import how_sure, standing
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report says of a run."""

    comparison: Comparison
    readings: Readings
    demands: Demands
    decision: Decision | Undecided

    @property
    def verdict(self) -> str:
        """The decision in one line."""
        if isinstance(self.decision, Decision):
            plan = self.decision.solution.plan
            return (
                f"decided: quality {plan.quality:.3f} of 5, p95 {seconds(plan.latency_p95_s)},"
                f" {self.decision.solution.pipeline}"
            )
        if self.decision.infeasible is not None:
            return f"no decision: {self.decision.infeasible.message}"
        return f"no decision: not measured: {', '.join(self.decision.missing)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One target in an agent's table."""

    figures: Evidence
    role: str
    """``primary``, ``fallback``, or empty where the choice leaves it out."""
    standing: str
    clean: bool
    """Whether its latencies are of trials that found their model loaded and the machine quiet."""
    failed: Mapping[Kind, int]
    """Failed trials by kind; what did not happen is left out."""


def build_report(store: Store, run: str, demands: Demands) -> Report:
    """Gather what the report says; no model is called.

    Args:
        store: where the run is kept.
        run: the run's id, a sweep's name, or ``latest``.
        demands: what the routing must hold.

    Raises:
        ConfigError: there is no such run, none of its trials has ended, it is damaged, or a limit
            cannot be checked.
    """
    comparison = compare_run(store, run)
    readings = read_trials(store, comparison.run.id)
    return Report(
        comparison=comparison,
        readings=readings,
        demands=demands,
        decision=decide(comparison, demands),
    )


def render(report: Report) -> str:
    """The report as HTML that fetches nothing; the same report always gives the same text."""
    comparison, decision = report.comparison, report.decision
    decided = decision if isinstance(decision, Decision) else None
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            comparison=comparison,
            run=comparison.run,
            sweep=comparison.run.sweep,
            environment=comparison.run.environment,
            readings=report.readings,
            decision=decided,
            undecided=None if decided else decision,
            profile=report.demands.profile,
            demands=_demand_lines(report),
            objective=_objective_line(report.demands.objective),
            rows={agent: rows for agent in AGENTS if (rows := _rows(report, agent))},
            close=_as_good_as_the_best(comparison),
            small_difference=SMALL_DIFFERENCE,
            how_sure={agent: how_sure(comparison, agent) for agent in AGENTS},
            failed=_failed_by_agent(report.readings),
            kinds=KINDS,
            warnings=list(_warnings(report)),
            synthetic_rows=sum(row.synthetic for row in comparison.evidence),
            figures=_figures(report),
            provenance=comparison.provenance,
            titles=AGENT_TITLES,
            version=__version__,
            style=resources.files(__package__).joinpath("report.css").read_text("utf-8"),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("soma_bench.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        seconds=seconds, dollars=dollars, gibibytes=gibibytes, as_html=Markup, spaced=_spaced
    )
    return environment


def _spaced(digest: str | None) -> str:
    """A digest, or what stands for one that nobody publishes."""
    return digest or "not published"


def _demand_lines(report: Report) -> list[str]:
    decision = report.decision
    if isinstance(decision, Undecided) and decision.missing:
        return []
    limits, pipeline = report.demands.constraints, report.demands.pipeline
    tables = read_tables(report.comparison.evidence, limits, pipeline)
    return [demand.name for demand in all_demands(tables)]


def _objective_line(objective: Objective) -> str:
    if isinstance(objective, Weighted):
        return (
            f"the highest weighted sum: {objective.quality:g} per unit of quality, less"
            f" {objective.latency_per_s:g} per second and {objective.cost_per_usd_per_1000:g} per"
            " dollar of 1000 analyses"
        )
    given = objective if isinstance(objective, Lexicographic) else Lexicographic()
    amounts = {
        "quality": f"{given.quality_tolerance:g}",
        "latency": f"{given.latency_tolerance_s:g} s",
        "cost": f"{given.cost_tolerance_usd_per_1000:g} USD per 1000",
    }
    words = {"quality": "highest quality", "latency": "lowest latency", "cost": "lowest cost"}
    parts = []
    for goal in given.order:
        free = amounts[goal].split(" ", 1)[0] == "0"
        parts.append(words[goal] + ("" if free else f" (within {amounts[goal]})"))
    return ", then ".join(parts)


def _rows(report: Report, agent: AgentName) -> list[Row]:
    comparison, counts = report.comparison, report.readings.counts
    roles: dict[str, str] = {}
    if isinstance(report.decision, Decision):
        choice = report.decision.solution.plan.choices[AGENTS.index(agent)]
        roles[choice.primary.target] = "primary"
        if choice.fallback is not None:
            roles[choice.fallback.target] = "fallback"
    return [
        Row(
            figures=row,
            role=roles.get(row.target, ""),
            standing=standing(comparison, row),
            clean=comparison.samples[agent, row.target].clean > 0,
            failed={kind: count for kind in KINDS if (count := counts[agent, row.target, kind])},
        )
        for row in comparison.evidence
        if row.agent == agent
    ]


def _as_good_as_the_best(comparison: Comparison) -> Counter[AgentName]:
    """By agent, how many targets are not told apart from its best."""
    return Counter(pair.agent for pair in comparison.against_best.values() if not pair.is_worse)


def _failed_by_agent(readings: Readings) -> dict[AgentName, dict[Kind, int]]:
    failed = {agent: dict.fromkeys(KINDS, 0) for agent in AGENTS}
    for (agent, _, kind), count in readings.counts.items():
        failed[agent][kind] += count
    return {agent: kinds for agent, kinds in failed.items() if any(kinds.values())}


def _warnings(report: Report) -> Iterator[str]:
    """What a reader must know before any figure."""
    comparison = report.comparison
    missing = comparison.planned - comparison.finished
    if missing:
        yield (
            f"{missing} of {comparison.planned} trials have no answer yet: the figures are of the"
            " others."
        )
    dirty = sum(not samples.clean for samples in comparison.samples.values())
    if dirty:
        yield (
            f"{dirty} of {len(comparison.samples)} latencies were measured while models were loaded,"
            " other programs used the machine or other calls were under way; measure again in quiet."
        )
    few = [row.cases for row in comparison.evidence]
    if min(few) < 20:
        yield (
            f"There are only {min(few)} cases for some targets: intervals are wide, and a mean may"
            " be luck."
        )


def _figures(report: Report) -> list[tuple[str, str]]:
    """Title and SVG of each figure."""
    comparison, decision = report.comparison, report.decision
    chosen: dict[AgentName, str] = {}
    found: list[tuple[str, Any, str]] = []
    if isinstance(decision, Decision):
        chosen = {c.agent: c.primary.target for c in decision.solution.plan.choices}
        found += [
            (
                "The chosen routing",
                plots.chosen_routing(decision.profile),
                "Primary and fallback of each agent with the 95 % interval of their quality",
            ),
            (
                "Where the time goes",
                plots.latency_by_stage(decision.profile),
                "The stages of one analysis on a clock in seconds",
            ),
        ]
    found.append(
        (
            "Quality against latency",
            plots.quality_against_latency(comparison.evidence, chosen=chosen),
            "One panel an agent, one point a target: mean quality against median latency",
        )
    )
    if report.readings.effects:
        found.append(
            (
                "What thinking and quantization change",
                plots.effects_of_settings(report.readings.effects),
                "Differences in quality, case by case, with their 95 % intervals",
            )
        )
    return [
        (title, inline_svg(figure, f"f{place}", description))
        for place, (title, figure, description) in enumerate(found)
    ]
