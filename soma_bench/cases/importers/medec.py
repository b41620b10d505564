"""MEDEC: clinical texts that are right or have one error (CSV)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.base import Format, Job, Row, RowError, slug
from soma_bench.cases.importers.tables import read_csv

_FLAGS = {"0": False, "0.0": False, "1": True, "1.0": True}


def _read(job: Job) -> Iterable[Row]:
    return read_csv(job.path, ("text id", "text", "error flag"))


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    flag = row.text("error flag")
    if flag not in _FLAGS:
        raise RowError(f"error flag is {flag[:40]!r} and not 0 or 1")
    wrong = _FLAGS[flag]
    kind = row.text("error type").lower() if wrong and row.fields.get("error type") else ""
    defect = {
        "kind": "clinical_error",
        "categories": ["CONSISTENCY", "TERMINOLOGY"],
        "severity": "critical",
    }
    name = slug(row.text("text id"))
    return [
        {
            "id": f"medec-{name}",
            "input": {"report": row.text("text")},
            "reference": {"defect": defect if wrong else None},
            "tags": ["medec", *([slug(kind)] if kind else []), "error" if wrong else "clean"],
            "cluster": name,
        }
    ]


FORMAT = Format(
    name="medec",
    agents=("qc_reviewer",),
    source="MEDEC, Ben Abacha et al. 2024, arXiv:2412.19260",
    licence="CC BY 4.0 for the MS collection; the UW collection under its own agreement",
    read=_read,
    convert=_convert,
)
