"""LIDC-IDRI and LUNA16: annotated nodules by series (CSV with seriesuid, coordX/Y/Z, diameter_mm).

The annotations know no lobe, no density and no margin: neither do the cases. World coordinates run to
the patient's left, back and head, so the side follows from x; near the midline it is not certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soma_bench.cases.generate.scenes import severity
from soma_bench.cases.importers.base import Format, Job, Row, RowError, slug
from soma_bench.cases.importers.tables import read_csv

_CERTAIN_MM = 15.0
_MOST = 6
_LARGEST_MM = 300.0


def _read(job: Job) -> Iterable[Row]:
    """One row a series, numbered by its first line; its nodules in the order of the file."""
    series: dict[str, list[Row]] = {}
    columns = ("seriesuid", "coordx", "coordy", "coordz", "diameter mm")
    for row in read_csv(job.path, columns):
        name = str(row.fields.get("seriesuid") or "").strip()
        if name:
            series.setdefault(name, []).append(row)
        else:
            yield row
    for name, rows in series.items():
        yield Row(rows[0].number, {"seriesuid": name, "nodules": rows})


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:  # noqa: ARG001 - a format's form
    name = row.text("seriesuid")
    nodules = [_nodule(number, one) for number, one in enumerate(row.fields["nodules"], start=1)]
    if len(nodules) > _MOST:
        raise RowError(f"the series has {len(nodules)} nodules, and {_MOST} can be reported")
    return [
        {
            "id": f"luna16-{slug(name)[-50:].strip('-')}",
            "input": {
                "exam": "Chest CT",
                "regions": [region for region, _ in nodules],
            },
            "reference": {
                "findings": [finding for _, finding in nodules],
                "technical_quality": "good",
            },
            "tags": ["luna16", f"{len(nodules)}-nodules"],
            "cluster": name[-80:],
        }
    ]


def _nodule(number: int, row: Row) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    x, y, z, size = (
        _figure(row, column) for column in ("coordx", "coordy", "coordz", "diameter mm")
    )
    if not 1 <= size <= _LARGEST_MM:
        raise RowError(f"diameter is {size:g} mm (row {row.number})")
    if abs(x) < _CERTAIN_MM:
        raise RowError("a nodule lies so near the midline that its side is not certain")
    side = "left" if x > 0 else "right"
    region = {
        "id": f"R{number}",
        "label": "nodule",
        "structure": f"{side} lung",
        "area_mm2": round(math.pi / 4 * size**2, 1),
        "diameter_mm": round(size, 1),
        "centroid_mm": [round(x, 1), round(y, 1), round(z, 1)],
    }
    finding = {
        "kind": "nodule",
        "laterality": side,
        "location": "other",
        "size_mm": round(size, 1),
        "characteristics": [],
        "severity": severity(size, ()),
    }
    return region, finding


def _figure(row: Row, column: str) -> float:
    text = row.text(column)
    try:
        value = float(text)
    except ValueError as error:
        raise RowError(f"{column} is {text[:40]!r} and no number (row {row.number})") from error
    if not math.isfinite(value):
        raise RowError(f"{column} is {text[:40]!r} and no number (row {row.number})")
    return value


FORMAT = Format(
    name="luna16",
    agents=("radiologist",),
    source="LIDC-IDRI (The Cancer Imaging Archive) and LUNA16, annotations",
    licence="CC BY 3.0 (LIDC-IDRI), CC BY 4.0 (LUNA16)",
    read=_read,
    convert=_convert,
)
