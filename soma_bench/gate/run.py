"""The gate over a stored run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from soma_bench.errors import ConfigError
from soma_bench.gate.changes import Change, Margins, Measured, compare
from soma_bench.gate.judge import LEVEL, Gate, judge
from soma_bench.routing.profile import Profile, resolve
from soma_bench.sweeps.scores import scored_trials
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName


def gate_run(
    store: Store,
    run: str,
    baseline: Profile,
    margins: Margins,
    *,
    agents: Sequence[AgentName] = AGENTS,
    level: float = LEVEL,
) -> Gate:
    """Compare a run with the profile that it is to be held against.

    Args:
        store: where the run's trials are, and perhaps those of the profile's own run.
        run: a run's id, a sweep's name or ``latest``.
        baseline: the profile.
        margins: what may be lost.
        agents: which agents to compare.
        level: chance of a false alarm of the whole gate.

    Raises:
        ConfigError: there is no such run, or it has none of the profile's primaries.
    """
    now = measured(store, store.find_run(run).id)
    then: dict[tuple[AgentName, str], Measured] = {}
    known = {record.id for record in store.runs()}
    for run_id in baseline.provenance.run_ids:
        if run_id in known:
            then |= measured(store, run_id)
    rows = {(row.agent, row.target): row for row in baseline.evidence}
    changes: list[Change] = []
    for agent in agents:
        key = agent, str(resolve(baseline, agent).primary)
        changes += compare(key, now.get(key), then.get(key), rows.get(key), margins)
    if not any((change.agent, change.target) in now for change in changes):
        raise ConfigError(
            f"run {run}: has no trial of any primary of profile {baseline.name}; run the sweep that "
            "holds them"
        )
    return judge(changes, level=level)


def measured(store: Store, run_id: str) -> dict[tuple[AgentName, str], Measured]:
    """What a run measured, by agent and target; cases by their digest, so that only equal ones meet."""
    groups: dict[tuple[AgentName, str], list[Any]] = defaultdict(list)
    for scored in scored_trials(store, run_id):
        groups[scored.trial["agent"], scored.trial["target"]].append(scored)
    found = {}
    for (agent, target), group in groups.items():
        clean = [s for s in group if s.trial["start"] != "cold" and not s.trial["busy"]] or group
        fees = [s for s in group if s.trial["cost_basis"] == "price list"]
        found[agent, target] = Measured(
            agent=agent,
            target=target,
            quality=_by_case((s.trial, s.score.primary_value) for s in group),
            latency_s=_by_case((s.trial, s.trial["total_s"]) for s in clean),
            cost_usd=_by_case((s.trial, s.trial["cost_usd"]) for s in fees),
            clusters={s.trial["case_digest"]: s.case.cluster or s.case.id for s in group},
        )
    return found


def _by_case(values: Iterable[tuple[Mapping[str, Any], float | None]]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for trial, value in values:
        if value is not None:
            found[trial["case_digest"]].append(value)
    return {case: fmean(group) for case, group in found.items()}
