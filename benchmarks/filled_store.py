"""Stores filled with drawn trials: real cases and scorers, answers and figures by chance."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from soma_bench.agents.report_writer import DISCLAIMER
from soma_bench.cases.base import Case
from soma_bench.cases.suite import load_suite
from soma_bench.files import digest
from soma_bench.sweeps.store import PlannedRow, RunRecord, Store, TrialRecord
from soma_bench.types import AGENTS, AgentName

SUITES = Path(__file__).parent.parent / "data" / "suites"
TARGETS = 60
RUN_ID = "drawn-00000000"
_BATCH = 500
_PROMPT = "x" * 3000
"""As long as a prompt of these agents."""


def run_record() -> RunRecord:
    """The run that the trials belong to."""
    return RunRecord(
        id=RUN_ID,
        name="drawn",
        plan_digest=digest("drawn"),
        epoch=0,
        sweep={},
        started_at="2026-01-01T00:00:00+00:00",
        environment={
            "suites": {},
            "prompts": {},
            "models": {},
            "hardware": {"machine": "drawn"},
            "libraries": {},
        },
    )


def planned_rows(trials: int) -> list[PlannedRow]:
    """The plan: per agent the same cases for each of the targets, a target's cases together."""
    per_target = max(1, round(trials / len(AGENTS) / TARGETS))
    rows = []
    for agent in AGENTS:
        cases = list(islice(_cases(agent), per_target))
        contents = [(case.digest, case.model_dump(mode="json")) for case in cases]
        rows += [
            PlannedRow(
                key=digest([agent, target, case_digest]),
                agent=agent,
                suite=f"{agent}-generated",
                case_digest=case_digest,
                case=content,
            )
            for target in range(TARGETS)
            for case_digest, content in contents
        ]
    return rows


def trial_records(rows: Sequence[PlannedRow]) -> Iterator[TrialRecord]:
    """A finished trial for each row of the plan."""
    chance = random.Random(20260101)
    per_target = len(rows) // len(AGENTS) // TARGETS
    for position, row in enumerate(rows):
        target = position // per_target % TARGETS
        model = f"drawn{target}"
        yield TrialRecord(
            key=row.key,
            agent=row.agent,
            target=f"ollama:{model}",
            provider="ollama",
            model=model,
            quantization=None,
            thinking=None,
            case_id=row.case["id"],
            repeat=0,
            status="done",
            request={"messages": [{"role": "user", "content": _PROMPT}]},
            identity={"weights_digest": None, "weights_bytes": 1_000_000_000},
            synthetic=True,
            answer=_answer(chance, row, skill=0.3 + target / 90),
            finish="stop",
            prompt_tokens=chance.randint(300, 900),
            cached_tokens=0,
            output_tokens=chance.randint(20, 200),
            thinking_tokens=0,
            load_s=0.0,
            first_token_s=chance.uniform(0.1, 0.4),
            total_s=chance.lognormvariate(0.5, 0.4),
            start="warm",
            other_cpu_share=0.02,
            busy=chance.random() < 0.02,
            memory_bytes=2_000_000_000,
            cost_usd=chance.uniform(1e-5, 2e-5),
            cost_basis="electricity",
            cost_source="drawn",
            ended_at="2026-01-01T01:00:00+00:00",
        )


def fill(store: Store, trials: int) -> int:
    """Plan and record about so many trials; how many they became."""
    rows = planned_rows(trials)
    store.begin_run(run_record(), rows)
    records = trial_records(rows)
    while batch := list(islice(records, _BATCH)):
        store.record_many(batch)
    return len(rows)


def _cases(agent: AgentName) -> Iterator[Case]:
    """The generated cases again and again, each time under other ids."""
    cases = load_suite(SUITES / f"{agent}-generated.jsonl").cases
    for turn in range(1000):
        for case in cases:
            cluster = f"{case.cluster}-{turn}" if case.cluster else None
            update = {"id": f"{case.id}-{turn}", "cluster": cluster, "split": None}
            yield case.model_copy(update=update)


def _answer(chance: random.Random, row: PlannedRow, *, skill: float) -> str:
    """The right answer with the probability ``skill``, else a wrong one or none."""
    if chance.random() < 0.02:
        return "I cannot help with that."
    right = chance.random() < skill
    return _WRITERS[row.agent](chance, row.case, right)


def _alignment(chance: random.Random, case: dict[str, Any], right: bool) -> str:
    reference = case["reference"]
    intent = reference["intent"] if right else "UNCLEAR"
    said = {"intent": intent, "handler": reference["handlers"][0], "asked": "x"}
    return json.dumps(said | {"confidence": chance.randint(0, 100)})


def _radiologist(chance: random.Random, case: dict[str, Any], right: bool) -> str:
    findings = [
        {
            "id": f"F{number}",
            **{
                k: finding[k]
                for k in ("kind", "laterality", "location", "characteristics", "severity")
            },
            "size_mm": max(1, round(finding["size_mm"] * (1 if right else chance.uniform(0.3, 2)))),
            "confidence": chance.randint(0, 100),
        }
        for number, finding in enumerate(case["reference"]["findings"], start=1)
    ]
    said = {"findings": findings, "measurements": [], "incidental": []}
    return json.dumps(said | {"technical_quality": "good"})


def _pathologist(chance: random.Random, case: dict[str, Any], right: bool) -> str:
    reference = case["reference"]
    primary = {
        "name": reference["names"][0] if right else "Lipoma",
        "icd10": reference["icd10"][0] if right and reference["icd10"] else "D17.9",
        "confidence": chance.randint(0, 100),
        "reasoning": "x",
    }
    return json.dumps({"primary": primary, "differentials": [], "workup": []})


def _qc_reviewer(chance: random.Random, case: dict[str, Any], right: bool) -> str:
    wrong = case["reference"]["defect"] is not None
    verdict = "fail" if wrong == right else "pass"
    issue = {"category": "CONSISTENCY", "severity": "major", "description": "x"}
    issues = [issue] if verdict == "fail" else []
    return json.dumps({"issues": issues, "score": chance.randint(0, 100), "verdict": verdict})


def _report_writer(_: random.Random, case: dict[str, Any], right: bool) -> str:
    inputs = case["input"]
    shown = inputs["findings"] if right else inputs["findings"][:1]
    lines = [
        f"There is a {finding['size_mm']} mm {finding['kind']} in the "
        f"{finding['laterality']} {finding['location']}."
        for finding in shown
    ]
    return "\n\n".join(
        (
            f"## Clinical Indication\n{inputs['context']['indication']}",
            "## Findings\n" + " ".join(lines),
            f"## Impression\n{inputs['diagnosis']['primary']['name']}.",
            DISCLAIMER,
        )
    )


_WRITERS = {
    "alignment": _alignment,
    "radiologist": _radiologist,
    "pathologist": _pathologist,
    "qc_reviewer": _qc_reviewer,
    "report_writer": _report_writer,
}
