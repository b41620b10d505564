"""How far two answers of an agent say the same. It is no quality: both may be wrong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from soma_bench.agents.radiologist import RadiologistOutput
from soma_bench.scoring.rouge import rouge_l
from soma_bench.types import AgentName


def agreement(agent: AgentName, one: Any, other: Any) -> float:
    """Agreement of two typed outputs of an agent, in [0, 1]; `MEASURES` says by what."""
    return _BY_AGENT[agent](one, other)


def _same_intent(one: Any, other: Any) -> float:
    return float((one.intent, one.handler) == (other.intent, other.handler))


def _shared_findings(one: RadiologistOutput, other: RadiologistOutput) -> float:
    """Twice the shared findings over all findings (Dice); 1 where neither has any."""
    ones, others = (
        Counter((f.kind, f.laterality, f.location) for f in output.findings)
        for output in (one, other)
    )
    total = ones.total() + others.total()
    return 2 * (ones & others).total() / total if total else 1.0


def _same_diagnosis(one: Any, other: Any) -> float:
    return float(one.primary.icd10 == other.primary.icd10)


def _same_verdict(one: Any, other: Any) -> float:
    return float(one.verdict == other.verdict)


def _shared_words(one: Any, other: Any) -> float:
    return rouge_l(one.markdown, other.markdown)


_BY_AGENT: Mapping[AgentName, Callable[[Any, Any], float]] = {
    "alignment": _same_intent,
    "radiologist": _shared_findings,
    "pathologist": _same_diagnosis,
    "report_writer": _shared_words,
    "qc_reviewer": _same_verdict,
}

MEASURES: Mapping[AgentName, str] = {
    "alignment": "same intent and handler",
    "radiologist": "findings shared, by kind and place",
    "pathologist": "same code of the first diagnosis",
    "report_writer": "words shared in order (ROUGE-L)",
    "qc_reviewer": "same verdict",
}
"""What agreement is measured by, for tables."""
