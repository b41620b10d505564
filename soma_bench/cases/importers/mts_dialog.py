"""MTS-Dialog: conversations with a section of the note written from each (CSV)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.importers.alterations import pair
from soma_bench.cases.importers.base import Format, Job, Row, slug
from soma_bench.cases.importers.tables import read_csv


def _read(job: Job) -> Iterable[Row]:
    return read_csv(job.path, ("id", "section text", "dialogue"))


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    header = str(row.fields.get("section header") or "section")
    return pair(
        f"mts-dialog-{row.text('id')}",
        row.text("section text"),
        row.text("dialogue"),
        row.number,
        ("mts-dialog", slug(header)),
    )


FORMAT = Format(
    name="mts-dialog",
    agents=("qc_reviewer",),
    source="MTS-Dialog, Ben Abacha et al., EACL 2023",
    licence="CC BY 4.0",
    read=_read,
    convert=_convert,
)
