"""IU X-ray: reports of chest radiographs (the CSV of Kaggle's edition, or the original XML).

The Impression is reviewed against the Findings that it was written from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from soma_bench.cases.importers.alterations import pair
from soma_bench.cases.importers.base import BROKEN, Format, Job, Row
from soma_bench.cases.importers.tables import read_any_text, read_csv
from soma_bench.errors import ConfigError

_DECLARATION = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_SECTIONS = ("findings", "impression")


def _read(job: Job) -> Iterable[Row]:
    if job.path.is_dir():
        files = sorted(job.path.glob("*.xml"))
        if not files:
            raise ConfigError(f"{job.path}: holds no .xml file")
        return (_read_xml(file, number) for number, file in enumerate(files, start=1))
    if job.path.suffix.lower() == ".xml":
        return [_read_xml(job.path, 1)]
    return read_csv(job.path, ("uid", *_SECTIONS))


def _read_xml(path: Path, number: int) -> Row:
    text = read_any_text(path)
    if _DECLARATION.search(text):
        return Row(number, {BROKEN: f"{path.name} declares entities, which are not read"})
    try:
        root = ElementTree.fromstring(text.encode())  # noqa: S314 - no declarations
    except (ElementTree.ParseError, ValueError) as error:
        return Row(number, {BROKEN: f"{path.name} is not XML: {error}"})
    fields: dict[str, Any] = {"uid": path.stem}
    for part in root.iter("AbstractText"):
        fields[str(part.get("Label", "")).strip().lower()] = "".join(part.itertext()).strip()
    return Row(number, fields)


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    return pair(
        f"iu-xray-{row.text('uid')}",
        f"Impression: {row.text('impression')}",
        f"Findings: {row.text('findings')}",
        row.number,
        ("iu-xray",),
    )


FORMAT = Format(
    name="iu-xray",
    agents=("qc_reviewer",),
    source="Indiana University chest X-ray collection (Open-i), Demner-Fushman et al., JAMIA 2016",
    licence="CC BY-NC-ND 4.0: the texts may not be passed on",
    read=_read,
    convert=_convert,
)
