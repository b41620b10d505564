"""Alignment: was the intent read rightly? Primary: intent accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.cases.alignment import AlignmentReference
from soma_bench.scoring.base import Score, Scorer


def score(output: AlignmentOutput, reference: AlignmentReference) -> Score:
    """1 for the right intent, else 0; the handler and the confidence's Brier score beside it."""
    right = output.intent == reference.intent
    return Score(
        primary=float(right),
        parts={
            "intent": output.intent,
            "intent_right": right,
            "handler_right": output.handler in reference.handlers,
            "brier": (output.confidence / 100 - right) ** 2,
        },
    )


def summarize(
    answers: Sequence[tuple[Mapping[str, Any] | None, AlignmentReference]],
) -> dict[str, float]:
    """Macro-F1 over the intents that occur; a failed answer is a miss of its class."""
    classes = sorted({reference.intent for _, reference in answers})
    said = [None if parts is None else parts["intent"] for parts, _ in answers]
    truth = [reference.intent for _, reference in answers]
    f1 = []
    for name in classes:
        hits = sum(s == t == name for s, t in zip(said, truth, strict=True))
        f1.append(2 * hits / (said.count(name) + truth.count(name)))
    return {"macro_f1": sum(f1) / len(f1)} if f1 else {}


SCORER = Scorer(
    agent="alignment", version=1, primary="intent accuracy", score=score, summarize=summarize
)
