"""Which targets of a sweep can run on a machine at all, before anything is fetched or called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

from soma_bench.cases.suite import Suite
from soma_bench.hardware.calibrate import Calibration
from soma_bench.hardware.catalogue import Machine, Weights, architecture, weights
from soma_bench.hardware.model import Memory, Prediction, Work, memory, predict
from soma_bench.hardware.original import ANSWER_TOKENS, THINKING_TOKENS
from soma_bench.providers.ollama_models import known_not_to_exist, which_do
from soma_bench.sweeps.estimate import CHARACTERS_PER_TOKEN
from soma_bench.sweeps.plan import build_request, load_suites
from soma_bench.sweeps.spec import Sweep
from soma_bench.types import AgentName, Target

Verdict = Literal["fits", "does not fit", "too slow", "does not exist", "cloud", "unknown"]
_THINKING_FAMILIES = ("qwen3", "gpt-oss", "deepseek-r1")
_LEVEL_TOKENS = {"off": 0, "low": 256, "medium": 1024, "high": 4096}
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """What is predicted of one target at one agent."""

    agent: AgentName
    target: Target
    verdict: Verdict
    reason: str
    weights: Weights | None = None
    memory: Memory | None = None
    work: Work | None = None
    prediction: Prediction | None = None
    basis: Literal["predicted"] = "predicted"

    @property
    def can_run(self) -> bool:
        """Whether nothing known stands against it."""
        return self.verdict in ("fits", "cloud", "unknown")


def plan_sweep(
    sweep: Sweep,
    folder: Path,
    machine: Machine,
    calibration: Calibration,
    *,
    max_latency_s: float | None = None,
) -> tuple[TargetPlan, ...]:
    """What each target of a sweep would need at each of its agents.

    Args:
        sweep: the sweep.
        folder: where its paths start from.
        machine: where it is to run.
        calibration: how much of its bounds the machine reaches.
        max_latency_s: longest time that a call may take, with its model loaded.

    Raises:
        ConfigError: a suite cannot be read.
    """
    suites = {suite.agent: suite for suite in load_suites(sweep, folder)}
    return tuple(
        _plan(sweep, suites[agent], target, machine, calibration, max_latency_s)
        for agent, target in _pairs(sweep)
    )


def _pairs(sweep: Sweep) -> Iterator[tuple[AgentName, Target]]:
    for group in sweep.targets:
        for target in group.targets():
            for agent in group.agents or sweep.suites:
                yield agent, target


def _plan(
    sweep: Sweep,
    suite: Suite,
    target: Target,
    machine: Machine,
    calibration: Calibration,
    max_latency_s: float | None,
) -> TargetPlan:
    agent: AgentName = suite.agent
    if not target.is_local:
        return TargetPlan(
            agent=agent, target=target, verdict="cloud", reason="runs elsewhere; not predicted"
        )
    if target.provider == "ollama" and known_not_to_exist(target.model):
        reason = which_do(target.model)
        return TargetPlan(agent=agent, target=target, verdict="does not exist", reason=reason)
    shape, size = architecture(target), weights(target)
    if shape is None or size is None:
        what = "its size" if size is None else "its architecture"
        return TargetPlan(
            agent=agent, target=target, verdict="unknown", reason=f"{what} is not in the table"
        )
    need = memory(size.size_bytes, shape, sweep.options.context_tokens)
    work = expected_work(sweep, suite, target)
    guess = predict(size.size_bytes, shape, work, machine, calibration)
    verdict, reason = _judge(need, guess, machine, max_latency_s)
    return TargetPlan(
        agent=agent,
        target=target,
        verdict=verdict,
        reason=reason,
        weights=size,
        memory=need,
        work=work,
        prediction=guess,
    )


def _judge(
    need: Memory, guess: Prediction, machine: Machine, max_latency_s: float | None
) -> tuple[Verdict, str]:
    if need.total > machine.working_set_bytes:
        room = machine.working_set_bytes / _GIB
        needs = f"needs {need.total / _GIB:.1f} GiB of {room:.1f} GiB"
        return "does not fit", f"{needs}; choose fewer bits, a shorter context or a smaller model"
    if max_latency_s is not None and guess.total_s > max_latency_s:
        return "too slow", f"about {guess.total_s:.1f} s a call, above {max_latency_s:g} s"
    return "fits", ""


def expected_work(sweep: Sweep, suite: Suite, target: Target) -> Work:
    """The tokens that a call should take: prompts by their length, answers as they were measured.

    Answers are those of the original plan's measurements, cut at the agent's own limit.
    """
    requests = [build_request(sweep, suite.agent, target, case, 0) for case in suite.cases]
    characters = fmean(
        sum(len(message.content) for message in request.messages) for request in requests
    )
    answer = min(ANSWER_TOKENS[suite.agent], requests[0].max_tokens)
    return Work(
        prompt_tokens=characters / CHARACTERS_PER_TOKEN,
        output_tokens=answer + _thinking_tokens(target),
    )


def _thinking_tokens(target: Target) -> int:
    if isinstance(target.thinking, int):
        return target.thinking
    if target.thinking is not None:
        return _LEVEL_TOKENS[target.thinking]
    name = target.model.rpartition("/")[2].lower()
    return THINKING_TOKENS if name.startswith(_THINKING_FAMILIES) else 0
