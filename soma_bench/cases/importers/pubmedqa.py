"""PubMedQA: questions that an abstract answers by yes, no or maybe (JSON).

It is no diagnosis: the answer is given as the diagnosis's name, by the Pathologist's own form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.base import Format, Job, Row, RowError, slug
from soma_bench.cases.importers.tables import read_json_records

_ANSWERS = ("yes", "no", "maybe")


def _read(job: Job) -> Iterable[Row]:
    return read_json_records(job.path, "pmid")


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    contexts = row.fields.get("contexts")
    if not isinstance(contexts, list) or not all(isinstance(c, str) for c in contexts):
        raise RowError("contexts is no list of texts")
    if not contexts:
        raise RowError("contexts is empty")
    answer = row.text("final decision").lower()
    if answer not in _ANSWERS:
        raise RowError(f"final decision is {answer[:40]!r} and not yes, no or maybe")
    name = slug(row.text("pmid"))
    return [
        {
            "id": f"pubmedqa-{name}",
            "input": {
                "findings": [],
                "context": "\n".join(
                    [
                        *contexts,
                        f"Question: {row.text('question')}",
                        "Give yes, no or maybe as the name of the diagnosis.",
                    ]
                ),
            },
            "reference": {"names": [answer], "icd10": []},
            "tags": ["pubmedqa", answer],
            "cluster": name,
        }
    ]


FORMAT = Format(
    name="pubmedqa",
    agents=("pathologist",),
    source="PubMedQA, Jin et al., EMNLP 2019",
    licence="MIT; abstracts belong to their publishers",
    read=_read,
    convert=_convert,
)
