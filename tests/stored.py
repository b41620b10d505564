"""Runs and trials as a sweep would store them, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from soma_bench.cases.suite import load_suite
from soma_bench.files import digest
from soma_bench.sweeps.store import PlannedRow, RunRecord, Store, TrialRecord

SUITE = Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl"
RUN = RunRecord(
    id="stored-1",
    name="stored",
    plan_digest=digest("plan"),
    epoch=0,
    sweep={"name": "stored"},
    started_at="2026-01-01T00:00:00+00:00",
    environment={"suites": {}, "prompts": {}, "models": {}, "hardware": {}, "libraries": {}},
)


def planned(models: tuple[str, ...] = ("m",), *, cases: int = 4) -> list[PlannedRow]:
    """The first cases of the alignment suite for each model."""
    return [
        PlannedRow(
            key=digest([model, case.digest]),
            agent="alignment",
            suite="alignment",
            case_digest=case.digest,
            case=case.model_dump(mode="json"),
        )
        for model in models
        for case in load_suite(SUITE).cases[:cases]
    ]


def trial(row: PlannedRow, model: str = "m", **changes: Any) -> TrialRecord:
    """A finished trial whose answer is right."""
    reference = row.case["reference"]
    answer = {"intent": reference["intent"], "handler": "self", "asked": "x", "confidence": 80}
    fields: dict[str, Any] = {
        "key": row.key,
        "agent": row.agent,
        "target": f"ollama:{model}",
        "provider": "ollama",
        "model": model,
        "quantization": None,
        "thinking": None,
        "case_id": row.case["id"],
        "repeat": 0,
        "status": "done",
        "request": {"messages": [{"role": "user", "content": "x"}]},
        "identity": {"weights_digest": None},
        "synthetic": False,
        "answer": json.dumps(answer),
        "finish": "stop",
        "total_s": 1.0,
        "ended_at": "2026-01-01T00:00:01+00:00",
    }
    return TrialRecord(**fields | changes)


def fill(store: Store, models: tuple[str, ...] = ("m",), *, cases: int = 4) -> list[PlannedRow]:
    """A whole run in a store."""
    rows = planned(models, cases=cases)
    store.begin_run(RUN, rows)
    store.record_many(trial(row, models[place // cases]) for place, row in enumerate(rows))
    return rows
