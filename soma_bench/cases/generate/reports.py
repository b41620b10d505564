"""Reports that say what they were written from, in one of several wordings that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from soma_bench.agents.radiologist import Finding
from soma_bench.agents.report_writer import DISCLAIMER, Heading

STYLES = 3
"""How many wordings there are."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A report in parts."""

    sections: tuple[tuple[Heading, str], ...]
    disclaimer: str = DISCLAIMER

    @property
    def markdown(self) -> str:
        """The whole text."""
        parts = [f"## {heading}\n{text}" for heading, text in self.sections]
        return "\n".join(parts) + (f"\n\n{self.disclaimer}" if self.disclaimer else "")

    def text(self, heading: Heading) -> str:
        """What stands under a heading."""
        return dict(self.sections)[heading]

    def having(self, heading: Heading, text: str) -> Draft:
        """The report with another text under a heading."""
        changed = tuple((name, text if name == heading else old) for name, old in self.sections)
        return Draft(changed, self.disclaimer)

    def without(self, heading: Heading) -> Draft:
        """The report without a section."""
        return Draft(tuple(s for s in self.sections if s[0] != heading), self.disclaimer)


def sentence(finding: Finding, style: int) -> str:
    """What the Findings say of one finding."""
    looks = ", ".join(finding.characteristics)
    what = " ".join(filter(None, (f"{finding.size_mm} mm", looks, finding.kind)))
    article = "an" if finding.size_mm in (8, 11, 18) or 80 <= finding.size_mm < 90 else "a"
    return (
        f"There is {article} {what} in the {finding.place}.",
        f"{article.capitalize()} {what} lies in the {finding.place}.",
        f"The {finding.place} shows {article} {what}.",
    )[style]


def findings_text(findings: Sequence[Finding], style: int) -> str:
    """The Findings; the last wording names them in reverse."""
    ordered = list(reversed(findings)) if style == STYLES - 1 else list(findings)
    return " ".join(sentence(finding, style) for finding in ordered)


def impression_text(findings: Sequence[Finding], diagnosis: str, next_step: str, style: int) -> str:
    """The Impression, which names the largest finding, the diagnosis and the next step."""
    first = findings[0]
    seen = f"{first.size_mm} mm {first.kind} in the {first.place}"
    step = next_step[0].lower() + next_step[1:] if next_step[1].islower() else next_step
    name = diagnosis[0].lower() + diagnosis[1:]
    return (
        f"{seen}, most likely {name}. Advised: {step}.",
        f"{seen}; the leading diagnosis is {name}. Next: {step}.",
        f"The {seen} fits {name} best. Recommended: {step}.",
    )[style]
