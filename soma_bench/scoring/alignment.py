"""Alignment: was the intent read rightly? Primary: intent accuracy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from soma_bench.agents.alignment import AlignmentOutput, Intent
from soma_bench.cases.alignment import AlignmentReference
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.scoring.classification import calibration, confusion, f1_by_class

COST: Mapping[Intent, Mapping[Intent, float]] = {
    "QUESTION": {"INFO": 0.4, "REVISION": 0.4, "APPROVAL": 0.8, "UNCLEAR": 0.2},
    "INFO": {"QUESTION": 0.3, "REVISION": 0.4, "APPROVAL": 0.8, "UNCLEAR": 0.2},
    "REVISION": {"QUESTION": 0.5, "INFO": 0.7, "APPROVAL": 1.0, "UNCLEAR": 0.3},
    "APPROVAL": {"QUESTION": 0.2, "INFO": 0.2, "REVISION": 0.5, "UNCLEAR": 0.2},
    "UNCLEAR": {"QUESTION": 0.3, "INFO": 0.3, "REVISION": 0.6, "APPROVAL": 0.9},
}
"""What it costs to take the intent of a row for that of a column; the right reading costs nothing.

A judgement, not a measurement: a report that goes out although its error was pointed out is the
worst (1); asking back, when nothing was unclear, is the cheapest mistake.
"""

FAILED_COST = 1.0
"""An answer that cannot be read costs as much as the worst mistake: somebody waits for nothing."""


def score(output: AlignmentOutput, reference: AlignmentReference) -> Score:
    """1 for the right intent, else 0; handler, cost and the confidence's Brier score beside it."""
    right = output.intent == reference.intent
    return Score(
        primary=float(right),
        parts={
            "intent": output.intent,
            "intent_right": right,
            "cost": COST[reference.intent].get(output.intent, 0.0),
            "handler": output.handler,
            "handler_right": output.handler in reference.handlers,
            "confidence": output.confidence,
            "brier": (output.confidence / 100 - right) ** 2,
        },
    )


def summarize(answers: Sequence[Answer]) -> dict[str, float]:
    """Macro-F1 of intents and handlers, mean cost, calibration, consistency; a failure is wrong.

    A handler counts as the one that was meant if it is among those that are right, else the first
    of these was. Brier score and calibration error are over the answers that were read.
    """
    if not answers:
        return {}
    handlers = f1_by_class(*_handlers(answers))
    figures = {
        "macro_f1": fmean(f1_by_class(*_intents(answers)).values()),
        "handler_f1": fmean(handlers.values()),
        "mean_cost": fmean(
            FAILED_COST if answer.parts is None else answer.parts["cost"] for answer in answers
        ),
        **calibration(
            [
                (answer.parts["confidence"] / 100, answer.parts["intent_right"])
                for answer in answers
                if answer.parts is not None
            ]
        ),
    }
    consistency = paraphrase_consistency(answers)
    if consistency is not None:
        figures["consistency"] = consistency
    return figures


def breakdown(answers: Sequence[Answer]) -> dict[str, Any]:
    """F1 by intent and by handler, and what each intent was taken for."""
    if not answers:
        return {}
    return {
        "f1_by_intent": f1_by_class(*_intents(answers)),
        "f1_by_handler": f1_by_class(*_handlers(answers)),
        "confusion": confusion(*_intents(answers)),
    }


def paraphrase_consistency(answers: Sequence[Answer]) -> float | None:
    """Share of pairs of one message's paraphrases that were read alike; None without such a pair.

    Right or wrong is not asked, but a failed answer is like no other. Paraphrases are the cases of
    one cluster that mean the same; each message counts alike, however many paraphrases it has.
    """
    groups: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.cluster is not None:
            groups[answer.cluster, answer.reference.intent].append(answer)
    shares = []
    for group in groups.values():
        pairs = [(a, b) for a, b in combinations(group, 2) if a.case != b.case]
        if pairs:
            shares.append(fmean(float(_read_alike(a, b)) for a, b in pairs))
    return fmean(shares) if shares else None


def _read_alike(one: Answer, other: Answer) -> bool:
    if one.parts is None or other.parts is None:
        return False
    return bool(one.parts["intent"] == other.parts["intent"])


def _intents(answers: Sequence[Answer]) -> tuple[list[str], list[str | None]]:
    """The right intents, and those that were said."""
    truth = [answer.reference.intent for answer in answers]
    return truth, [_said(answer, "intent") for answer in answers]


def _handlers(answers: Sequence[Answer]) -> tuple[list[str], list[str | None]]:
    """The right handlers, and those that were said."""
    said = [_said(answer, "handler") for answer in answers]
    truth = [
        str(answer.reference.handlers[0])
        if handler is None or handler not in answer.reference.handlers
        else handler
        for handler, answer in zip(said, answers, strict=True)
    ]
    return truth, said


def _said(answer: Answer, name: str) -> str | None:
    return None if answer.parts is None else str(answer.parts[name])


SCORER = Scorer(
    agent="alignment",
    version=2,
    primary="intent accuracy",
    score=score,
    summarize=summarize,
    headline=("macro_f1", "mean_cost", "ece", "consistency"),
    breakdown=breakdown,
)
