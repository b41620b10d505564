"""What a plan will take, before anything is run: each figure says where it comes from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Literal

import numpy as np

from soma_bench.providers.prices import Prices
from soma_bench.sweeps.plan import Plan, PlannedTrial
from soma_bench.types import Request, Target, Usage

CHARACTERS_PER_TOKEN = 3.5
"""English text and JSON in the vocabularies of current models; only used to predict."""
_PREFILL_SPEED_UP = 4.0
"""Prompt tokens a second over generated ones, as seen with small models on CPUs."""
_PROBE_BYTES = 128 << 20

Basis = Literal["measured", "predicted", "unknown"]
TrialKind = tuple[str, str]
"""Agent and target: trials that are alike enough to stand for each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEstimate:
    """What the trials of one model will take."""

    model: str
    """``provider:model``."""
    trials: int
    missing: int
    """Trials that are not in the store yet."""
    weights_bytes: int | None
    seconds: float | None
    """Time for the missing trials; an upper bound where it is predicted."""
    basis: Basis
    cost_usd: float | None
    """Price of the missing trials, electricity on one's own machine; None where a price or a token
    count is not known. An upper bound where it is predicted."""
    cost_basis: Basis
    cost_note: str
    """By which prices, or why the cost is not known; empty when nothing is missing."""


def estimate(
    plan: Plan,
    *,
    finished: set[str],
    mean_seconds: Mapping[TrialKind, float],
    mean_usage: Mapping[TrialKind, Usage],
    prices: Prices,
) -> list[ModelEstimate]:
    """Estimate each model's part of a plan.

    Args:
        plan: the plan.
        finished: keys that need not run.
        mean_seconds: measured mean time by agent and target, where the store has any. For the rest
            the time is predicted from the weights' size and this machine's memory bandwidth, with
            answers at their token limit.
        mean_usage: measured mean tokens, likewise. For the rest the prompt's are predicted from its
            length, and answer and thinking are taken at their limits.
        prices: what calls cost.
    """
    estimates = []
    for (provider, model), group in groupby(
        plan.trials, key=lambda trial: (trial.target.provider, trial.target.model)
    ):
        trials = list(group)
        missing = [trial for trial in trials if trial.key not in finished]
        weights = plan.identities[provider, model].weights_bytes
        local = trials[0].target.is_local
        seconds, basis = expected_time(plan, missing, mean_seconds)
        if local:
            cost = prices.cost(trials[0].target, Usage(), seconds)
            cost_usd, cost_basis, note = cost.usd, basis, cost.source
        else:
            cost_usd, cost_basis, note = _fees(plan, missing, mean_usage, prices)
        estimates.append(
            ModelEstimate(
                model=f"{provider}:{model}",
                trials=len(trials),
                missing=len(missing),
                weights_bytes=weights,
                seconds=seconds,
                basis=basis,
                cost_usd=cost_usd,
                cost_basis=cost_basis,
                cost_note=note if missing else "",
            )
        )
    return estimates


def expected_time(
    plan: Plan, missing: Sequence[PlannedTrial], mean_seconds: Mapping[TrialKind, float]
) -> tuple[float | None, Basis]:
    """Seconds that trials of one model take together, and by what they are known.

    Args:
        plan: the plan that the trials belong to.
        missing: the trials.
        mean_seconds: measured mean time by agent and target; for the rest as `estimate` predicts it,
            and None where nothing is known of a model.
    """
    total, basis = 0.0, "measured"
    for trial in missing:
        target = trial.target
        weights_bytes = (
            plan.identities[target.provider, target.model].weights_bytes
            if target.is_local
            else None
        )
        measured = mean_seconds.get((trial.agent, str(target)))
        if measured is not None:
            total += measured
        elif weights_bytes:
            total += predict_seconds(plan.request(trial), weights_bytes)
            basis = "predicted"
        else:
            return None, "unknown"
    return total, "predicted" if basis == "predicted" else "measured"


def _fees(
    plan: Plan,
    missing: Sequence[PlannedTrial],
    mean_usage: Mapping[TrialKind, Usage],
    prices: Prices,
) -> tuple[float | None, Basis, str]:
    total, basis, note = 0.0, "measured", ""
    for trial in missing:
        usage = mean_usage.get((trial.agent, str(trial.target)))
        if usage is None:
            usage = predict_usage(trial.target, plan.request(trial))
            basis = "predicted"
        cost = prices.cost(trial.target, usage, None)
        if cost.usd is None:
            return None, "unknown", cost.source
        total += cost.usd
        note = cost.source
    return total, "predicted" if basis == "predicted" else "measured", note


def predict_usage(target: Target, request: Request) -> Usage:
    """Most tokens that a request to a cloud should take: answer and thinking at their limits."""
    characters = sum(len(message.content) for message in request.messages)
    return Usage(
        prompt_tokens=math.ceil(characters / CHARACTERS_PER_TOKEN),
        output_tokens=request.max_tokens + _thinking_allowance(target, request),
    )


def _thinking_allowance(target: Target, request: Request) -> int:
    """Tokens that a provider lets a model think beside its answer."""
    # These tables import their vendors' libraries, which a local sweep can do without.
    if target.provider == "claude":
        from soma_bench.providers import claude_models

        return claude_models.from_table(target.model).allowance(request)
    from soma_bench.providers import openai_models

    known = openai_models.from_table(target.model)
    return known.allowance(request) if known else 0


def predict_seconds(request: Request, weights_bytes: int) -> float:
    """Longest time that a request should take on this machine, in seconds.

    Decoding reads all weights once per token, so its speed is the memory bandwidth over their size.
    """
    decode = memory_bandwidth() / weights_bytes
    characters = sum(len(message.content) for message in request.messages)
    thinking = request.thinking if isinstance(request.thinking, int) else 0
    prompt_tokens = characters / CHARACTERS_PER_TOKEN
    return prompt_tokens / (_PREFILL_SPEED_UP * decode) + (request.max_tokens + thinking) / decode


@cache
def memory_bandwidth() -> float:
    """Bytes a second that this machine reads from memory on one core, measured once."""
    block = np.ones(_PROBE_BYTES // 8)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - started)
    return _PROBE_BYTES / best
