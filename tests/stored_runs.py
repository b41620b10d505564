"""Runs written straight into a store, with figures that are drawn and not measured."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.base import Case
from soma_bench.cases.suite import load_suite
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.environment import describe_environment
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import PlannedRow, RunRecord, ScoreRecord, Store, TrialRecord
from soma_bench.types import AGENTS, Target

SUITES = Path(__file__).parent.parent / "data" / "suites"
GIB = 1 << 30
MODELS = (
    *(f"ollama:qwen3:{size}b-q4_K_M" for size in (4, 8, 14, 32)),
    *(f"ollama:llama3.1:{size}b-q8_0" for size in (1, 3, 8)),
    *(f"ollama:gemma4:{size}b" for size in (2, 9, 27)),
    *(f"mlx:mistral-{size}b-4bit" for size in (7, 12, 24)),
    *(f"llamacpp:smollm-{size}m-q8_0" for size in (135, 360)),
    "claude:claude-haiku-5-5",
    "claude:claude-sonnet-5-5",
    "openai:gpt-6-luna",
    "openai:gpt-6-sol",
    "mlx:phi-6-mini-8bit",
)
THINKING = ("off", "256", "1024")
ENDED = "2026-11-25T10:00:00+00:00"


def sweep_json(name: str, models: int, thinking: int, cases: int) -> dict[str, object]:
    """The sweep that such a run would have been declared by."""
    return sweep_from(
        {
            "name": name,
            "suites": {agent: str(SUITES / f"{agent}-generated.jsonl") for agent in AGENTS},
            "cases_per_agent": cases,
            "targets": [
                {"provider": t.provider, "model": t.model, "thinking": list(THINKING[:thinking])}
                for t in map(Target.parse, MODELS[:models])
            ],
            "privacy": "open",
        },
        "tests",
    ).model_dump(mode="json")


def store_run(
    store: Store, *, name: str = "drawn", models: int = 4, thinking: int = 1, cases: int = 4
) -> str:
    """Write a run of all agents on ``models`` x ``thinking`` targets; gives its id."""
    draw = random.Random(name)
    run_id = f"{name}-{models}x{thinking}x{cases}"
    targets = [
        Target.parse(f"{model}?thinking={budget}")
        for model in MODELS[:models]
        for budget in THINKING[:thinking]
    ]
    sizes = {model: draw.uniform(0.5, 20) for model in MODELS}
    planned, trials, scores = [], [], []
    for agent in AGENTS:
        suite = load_suite(SUITES / f"{agent}-generated.jsonl").take(cases)
        for target in targets:
            skill = draw.betavariate(5, 3)
            speed = draw.uniform(0.5, 8) * (1 if target.is_local else 0.4)
            price = 0.0001 if target.is_local else draw.uniform(0.001, 0.01)
            size = round(sizes[target.whole_model] * GIB) if target.is_local else None
            for case in suite.cases:
                key = f"{run_id}-{agent}-{target}-{case.id}"
                planned.append(planned_row(key, suite.name, case))
                seconds = speed * draw.uniform(0.8, 1.6)
                trials.append(trial(key, target, case, seconds, size, price))
                scores.append(score(key, case, draw.gauss(skill, 0.25)))
    sweep = sweep_json(name, models, thinking, cases)
    store.begin_run(run_record(run_id, name, sweep, targets), planned)
    for row in trials:
        store.record(row)
    store.save_scores(scores)
    return run_id


def planned_row(key: str, suite: str, case: Case) -> PlannedRow:
    return PlannedRow(
        key=key,
        agent=case.agent,
        suite=suite,
        case_digest=case.digest,
        case=case.model_dump(mode="json"),
    )


def trial(
    key: str, target: Target, case: Case, total_s: float, memory_bytes: int | None, cost_usd: float
) -> TrialRecord:
    """A trial that was answered by a warm model, all of whose other figures are the same."""
    return TrialRecord(
        key=key,
        agent=case.agent,
        target=str(target),
        provider=target.provider,
        model=target.model,
        quantization=target.quantization,
        thinking=str(target.thinking),
        case_id=case.id,
        repeat=0,
        status="done",
        request={},
        identity={},
        synthetic=False,
        answer="{}",
        finish="stop",
        prompt_tokens=400,
        output_tokens=120,
        load_s=0.0,
        total_s=total_s,
        start="warm",
        busy=False,
        memory_bytes=memory_bytes,
        cost_usd=cost_usd,
        ended_at=ENDED,
    )


def score(key: str, case: Case, primary: float) -> ScoreRecord:
    return ScoreRecord(
        key=key,
        case_digest=case.digest,
        scorer_version=SCORER_BY_AGENT[case.agent].version,
        primary_value=min(1.0, max(0.0, primary)),
        failure=None,
        parts=None,
    )


def run_record(
    run_id: str, name: str, sweep: dict[str, object], targets: Sequence[Target]
) -> RunRecord:
    return RunRecord(
        id=run_id,
        name=name,
        plan_digest="sha256:" + "0" * 64,
        epoch=0,
        sweep=sweep,
        started_at=ENDED,
        environment={
            **describe_environment(),
            "suites": dict.fromkeys(AGENTS, "sha256:" + "1" * 64),
            "prompts": {agent: AGENT_BY_NAME[agent].digest for agent in AGENTS},
            "models": {
                target.whole_model: {"weights_digest": "sha256:" + "2" * 64} for target in targets
            },
        },
    )
