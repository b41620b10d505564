"""MedQA: examination questions with options (JSONL); those that ask for a diagnosis are taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.base import Format, Job, Row, RowError
from soma_bench.cases.importers.tables import read_jsonl

_LONGEST_NAME = 60


def _read(job: Job) -> Iterable[Row]:
    return read_jsonl(job.path)


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    question, answer = row.text("question"), row.text("answer")
    options = row.fields.get("options")
    if isinstance(options, list) and all(isinstance(o, dict) for o in options):
        options = {str(o.get("key")): o.get("value") for o in options}
    if not isinstance(options, dict) or not all(isinstance(o, str) for o in options.values()):
        raise RowError("options is no list of answers")
    if answer not in options.values():
        raise RowError("the answer is none of the options")
    if "diagnosis" not in question.lower().rsplit(".", 1)[-1]:
        return []
    if len(answer) > _LONGEST_NAME:
        raise RowError(f"the answer is longer than the {_LONGEST_NAME} characters of a name")
    listed = "; ".join(options.values())
    return [
        {
            "id": f"medqa-{row.number}",
            "input": {
                "findings": [],
                "context": f"{question}\nThe diagnosis is one of: {listed}.",
            },
            "reference": {"names": [answer], "icd10": []},
            "tags": ["medqa"],
            "cluster": f"medqa-{row.number}",
        }
    ]


FORMAT = Format(
    name="medqa",
    agents=("pathologist",),
    source="MedQA, Jin et al., Applied Sciences 11(14), 2021",
    licence="MIT for the collection; the questions' own terms are not stated",
    read=_read,
    convert=_convert,
)
