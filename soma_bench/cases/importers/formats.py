"""The formats that can be imported, by name."""

from __future__ import annotations

from collections.abc import Mapping

from soma_bench.cases.importers import (
    aci_bench,
    dicom,
    iu_xray,
    luna16,
    medec,
    medqa,
    mts_dialog,
    plain,
    pubmedqa,
)
from soma_bench.cases.importers.base import Format

FORMAT_BY_NAME: Mapping[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        medec,
        mts_dialog,
        aci_bench,
        pubmedqa,
        medqa,
        luna16,
        iu_xray,
        plain,
        dicom,
    )
}
