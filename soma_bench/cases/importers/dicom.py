"""A folder of DICOM slices, with a table of what each shows.

The table (CSV) has a row a finding: ``file`` (within the folder), ``kind``, ``laterality``,
``location``, ``size_mm`` and, where known, ``characteristics`` (parted by ``;``), ``x_mm``, ``y_mm``
and ``z_mm``. A file whose ``kind`` is ``none`` shows nothing. Only the pixel spacing is read from the
header; the image itself is loaded when a model is to see it, and no header goes along.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from soma_bench.cases.generate.scenes import severity
from soma_bench.cases.importers.base import BROKEN, Format, Job, Row, RowError, slug
from soma_bench.cases.importers.tables import read_csv
from soma_bench.errors import ConfigError
from soma_bench.providers.images import load_image

_COLUMNS = ("file", "kind", "laterality", "location", "size mm")


def _read(job: Job) -> Iterable[Row]:
    """One row a file of the table, numbered by its first line, and one a file it does not name."""
    if not job.path.is_dir():
        raise ConfigError(f"{job.path}: is no folder; give the folder of the DICOM files")
    assert job.mapping is not None
    by_file: dict[str, list[Row]] = {}
    for row in read_csv(job.mapping, _COLUMNS):
        name = str(row.fields.get("file") or "").strip()
        if name:
            by_file.setdefault(name, []).append(row)
        else:
            yield row
    for name, rows in by_file.items():
        yield Row(rows[0].number, {"file": name, "rows": rows})
    for path in sorted(job.path.rglob("*")):
        name = path.relative_to(job.path).as_posix()
        if path.is_file() and path.suffix.lower() == ".dcm" and name not in by_file:
            yield Row(0, {BROKEN: f"{name} is not in the table: nobody knows what it shows"})


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:
    name = row.text("file")
    file = job.path / name
    if not file.resolve().is_relative_to(job.path.resolve()):
        raise RowError(f"{name} lies outside the folder")
    spacing = _checked_spacing(file, name)
    rows = row.fields["rows"]
    empty = [one for one in rows if one.text("kind").lower() == "none"]
    if empty and len(rows) > 1:
        raise RowError(f"{name} shows nothing and something")
    found = [] if empty else [_finding(n, one, spacing) for n, one in enumerate(rows, start=1)]
    regions = [region for region, _ in found] or [
        {
            "id": "R1",
            "label": "lung",
            "structure": "both lungs",
            "area_mm2": 20000.0,
            "centroid_mm": [0.0, 0.0, 0.0],
        }
    ]
    return [
        {
            "id": f"dicom-{slug(name)}",
            "input": {
                "exam": "CT, one slice",
                "regions": regions,
                "pixel_spacing_mm": spacing,
                "image": {
                    "kind": "file",
                    "path": Path(os.path.relpath(file, job.out.parent)).as_posix(),
                },
            },
            "reference": {
                "findings": [finding for _, finding in found],
                "technical_quality": "good",
            },
            "tags": ["dicom", f"{len(found)}-findings"],
        }
    ]


def _checked_spacing(file: Path, name: str) -> float:
    """Pixel spacing of a slice that can be shown.

    Raises:
        RowError: it cannot be shown, or does not say how large a pixel is.
    """
    try:
        load_image(file)
    except ConfigError as error:
        raise RowError(str(error).removeprefix(f"{file}: ")) from error
    import pydicom

    spacing = pydicom.dcmread(file, stop_before_pixels=True).get("PixelSpacing")
    if spacing is None or len(spacing) != 2:
        raise RowError(f"{name} has no pixel spacing: nobody can tell a size in it")
    first, second = (float(value) for value in spacing)
    if not math.isclose(first, second, rel_tol=0.01):
        raise RowError(f"{name} has pixels of {first:g} by {second:g} mm; they must be square")
    return round(first, 4)


def _finding(number: int, row: Row, spacing: float) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    try:
        size = float(row.text("size mm"))
        centroid = [float(row.fields.get(f"{axis} mm") or 0) for axis in "xyz"]
    except ValueError as error:
        raise RowError(f"size or place is no number (row {row.number})") from error
    if not 1 <= size <= 300:
        raise RowError(f"size is {size:g} mm (row {row.number})")
    looks = [
        part.strip().lower()
        for part in str(row.fields.get("characteristics") or "").split(";")
        if part.strip()
    ]
    kind, side = row.text("kind").lower(), row.text("laterality").lower()
    location = row.text("location").lower()
    region = {
        "id": f"R{number}",
        "label": kind,
        "structure": location if side == "midline" else f"{side} {location}",
        "area_px": max(1, round(math.pi / 4 * (size / spacing) ** 2)),
        "diameter_mm": size,
        "centroid_mm": centroid,
    }
    finding = {
        "kind": kind,
        "laterality": side,
        "location": location,
        "size_mm": size,
        "characteristics": looks,
        "severity": severity(size, ["spiculated"] if "spiculated" in looks else []),
    }
    return region, finding


FORMAT = Format(
    name="dicom",
    agents=("radiologist",),
    source="not stated",
    licence="not stated",
    needs_mapping=True,
    read=_read,
    convert=_convert,
)
