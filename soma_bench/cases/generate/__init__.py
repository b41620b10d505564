"""Suites made by seed: every case follows from the seed and this code, on every machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from soma_bench.cases.base import Case
from soma_bench.cases.generate import (
    alignment,
    pathologist,
    qc_reviewer,
    radiologist,
    report_writer,
)
from soma_bench.types import AgentName

SEED = 2026
"""Of the suites that are published."""

GENERATOR_BY_AGENT: Mapping[AgentName, Callable[[int], Sequence[Case]]] = {
    "alignment": alignment.generate,
    "radiologist": radiologist.generate,
    "pathologist": pathologist.generate,
    "report_writer": report_writer.generate,
    "qc_reviewer": qc_reviewer.generate,
}


def suite_text(cases: Sequence[Case]) -> str:
    """The lines of a suite's file, without what is the default anyway."""
    rows = (case.model_dump(mode="json", exclude_defaults=True) for case in cases)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
