"""ACI-Bench: conversations of whole visits with the note written from each (CSV)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.alterations import pair
from soma_bench.cases.importers.base import Format, Job, Row
from soma_bench.cases.importers.tables import read_csv


def _read(job: Job) -> Iterable[Row]:
    return read_csv(job.path, ("encounter id", "dialogue", "note"))


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    return pair(
        f"aci-bench-{row.text('encounter id')}",
        row.text("note"),
        row.text("dialogue"),
        row.number,
        ("aci-bench",),
    )


FORMAT = Format(
    name="aci-bench",
    agents=("qc_reviewer",),
    source="ACI-Bench, Yim et al., Scientific Data 10, 586 (2023)",
    licence="CC BY 4.0",
    read=_read,
    convert=_convert,
)
