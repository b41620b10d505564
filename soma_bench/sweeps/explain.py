"""Why a trial is run again: what of its identity differs from the nearest that is stored.

Stored trials keep what they were asked and of which model, so the parts of their identity are read
from there and compared one by one. The nearest is the one of the same agent and case that differs in
the fewest parts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soma_bench.files import digest
from soma_bench.sweeps.identity import describe_request
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.store import Store

_LONGEST_SHOWN = 40
Parts = tuple[tuple[str, str], ...]
"""A trial's identity by the names of its parts, without agent, case and repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Trials that are run for the same reason."""

    agent: str
    target: str
    reason: str
    trials: int


def explain_misses(plan: Plan, store: Store | None) -> list[Miss]:
    """Say of every trial that a plan would run why it is not taken from the store, grouped.

    Args:
        plan: the plan.
        store: the store; None where there is none yet.
    """
    finished: set[str] = set()
    known: dict[tuple[str, str], dict[Parts, set[int]]] = defaultdict(lambda: defaultdict(set))
    failed: dict[str, str] = {}
    agents = {suite.agent for suite in plan.suites}
    for row in store.identities(agents) if store else ():
        if row["status"] == "error":
            failed[row["key"]] = str(row["error"]).partition(":")[0]
        else:
            finished.add(row["key"])
            known[row["agent"], row["case_id"]][_stored_parts(row)].add(row["repeat"])
    counts: Counter[tuple[str, str, str]] = Counter()
    for trial in plan.trials:
        if trial.key in finished:
            continue
        reason = f"failed before ({failed[trial.key]})" if trial.key in failed else ""
        if not reason:
            described = describe_request(plan.request(trial))
            identity = plan.identities[trial.target.provider, trial.target.model]
            parts = _parts(
                trial.target.provider,
                described,
                {name: getattr(identity, name) for name in _MODEL},
                trial.repeat,
            )
            reason = _reason(parts, trial.repeat, known.get((trial.agent, trial.case.id), {}))
        counts[trial.agent, str(trial.target), reason] += 1
    return [
        Miss(agent=agent, target=target, reason=reason, trials=count)
        for (agent, target, reason), count in counts.items()
    ]


_MODEL = ("weights_digest", "chat_template", "engine")


def _stored_parts(row: Mapping[str, Any]) -> Parts:
    return _parts(row["provider"], row["request"], row["identity"], row["repeat"])


def _parts(
    provider: str, request: Mapping[str, Any], model: Mapping[str, Any], repeat: int
) -> Parts:
    options = dict(request.get("options") or {})
    if isinstance(options.get("seed"), int):
        # Each repeat has a seed of its own, which is the sweep's and its number.
        options["seed"] -= repeat
    found = {
        "model": f"{provider}:{request.get('model')}",
        "thinking": str(request.get("thinking")),
        "max_tokens": str(request.get("max_tokens")),
        "prompt": digest(request.get("messages"))[:15],
        "schema": digest(request.get("schema"))[:15],
        **{f"options.{name}": str(value) for name, value in options.items()},
        **{name: str(model.get(name)) for name in _MODEL},
    }
    return tuple(sorted(found.items()))


def _reason(parts: Parts, repeat: int, known: Mapping[Parts, set[int]]) -> str:
    """The difference to the nearest stored trial, in words."""
    if not known:
        return "new case: nothing of it is stored for this agent"
    if parts in known:
        if repeat not in known[parts]:
            return "repeat: only other repeats are stored"
        return "started anew, or sent with placeholders where it was not: the same was asked before"
    wanted = dict(parts)

    def differing(stored: Parts) -> list[str]:
        other = dict(stored)
        return [name for name in wanted if wanted[name] != other.get(name)]

    nearest = min(known, key=lambda stored: len(differing(stored)))
    other = dict(nearest)
    return "; ".join(
        f"{name}: {_short(other.get(name, 'none'))} → {_short(wanted[name])}"
        for name in differing(nearest)
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
