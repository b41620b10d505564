"""Reports as a writer without a fault would write them, for tests of suites and scorers."""

from __future__ import annotations

from collections.abc import Sequence

from soma_bench.agents.radiologist import Finding
from soma_bench.agents.report_writer import DISCLAIMER, ReportWriterInput


def sentence(finding: Finding) -> str:
    """``There is a 14 mm solid, lobulated nodule in the left lower lobe.``"""
    looks = ", ".join(finding.characteristics)
    words = filter(None, (f"There is a {finding.size_mm} mm", looks, finding.kind))
    return f"{' '.join(words)} in the {finding.place}."


def faultless_report(inputs: ReportWriterInput, findings: Sequence[str] | None = None) -> str:
    """Everything of ``inputs`` under its heading; ``findings`` are the Findings' sentences."""
    context, diagnosis = inputs.context, inputs.diagnosis
    parts = []
    if inputs.patient is not None:
        given = inputs.patient.model_dump(exclude_none=True)
        parts.append("## Patient Information\n" + ", ".join(map(str, given.values())))
    if findings is None:
        findings = [sentence(finding) for finding in inputs.findings]
    parts += [
        f"## Clinical Indication\n{context.indication}",
        f"## Comparison\n{context.comparison or 'None.'}",
        f"## Technique\n{context.technique}",
        "## Findings\n" + " ".join(findings),
        f"## Impression\n{diagnosis.primary.name}.",
        f"## Recommendations\n{'; '.join(diagnosis.workup)}.",
        DISCLAIMER,
    ]
    return "\n\n".join(parts)
