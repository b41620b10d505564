"""Readings of slices as a Radiologist without a fault would give them."""

from __future__ import annotations

from soma_bench.agents.radiologist import Finding, RadiologistOutput
from soma_bench.cases.radiologist import RadiologistReference


def faultless_reading(reference: RadiologistReference) -> RadiologistOutput:
    """Exactly the true findings, sizes in whole millimetres."""
    findings = tuple(
        Finding(
            id=f"F{number}",
            kind=truth.kind,
            laterality=truth.laterality,
            location=truth.location,
            size_mm=round(truth.size_mm),
            characteristics=truth.characteristics,
            severity=truth.severity,
            confidence=90,
        )
        for number, truth in enumerate(reference.findings, start=1)
    )
    return RadiologistOutput(
        findings=findings,
        measurements=(),
        incidental=(),
        technical_quality=reference.technical_quality,
    )
