"""ReportWriter: does the report say what it was given, whole and nothing else?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from soma_bench.agents.report_writer import HEADINGS, ReportWriterOutput
from soma_bench.cases.report_writer import ReportFact, ReportWriterReference
from soma_bench.scoring.base import Score, Scorer
from soma_bench.scoring.report_facts import Mention, is_negated, kind_group, mentions, sentences

_SIZE_TOLERANCE_MM = 0.05
_IN_A_LUNG = ("upper lobe", "middle lobe", "lower lobe", "lingula")
_PLACEHOLDER = re.compile(r"\[[^\]\n]{1,60}\](?!\()|<[A-Za-z][A-Za-z ]*>|_{3,}|\b(?:TBD|X{2,})\b")


def score(output: ReportWriterOutput, reference: ReportWriterReference) -> Score:
    """Parts of what was asked, weighed, and divided by one more than the number of errors.

    Facts count where the Findings state them. Errors are contradicted and invented findings in
    Findings and Impression, words that only an invented report says, and unfilled placeholders;
    the same one said twice counts once.
    """
    said = {
        heading: mentions(output.sections.get(heading, ""))
        for heading in ("Findings", "Impression")
    }
    contradicted, invented = _errors((*said["Findings"], *said["Impression"]), reference.facts)
    invented += sum(_says(output.markdown, words) for words in reference.absent)
    placeholders = len(set(_PLACEHOLDER.findall(output.markdown)))
    sections = _section_share(output, reference)
    facts = fmean(_carried(said["Findings"], fact) for fact in reference.facts)
    diagnosis = float(_says(output.sections.get("Impression", ""), reference.diagnosis))
    texts = _text_share(output.markdown, reference.present)
    disclaimer = float(bool(output.disclaimer))
    errors = contradicted + invented + placeholders
    return Score(
        primary=(0.2 * sections + 0.5 * facts + 0.1 * (diagnosis + texts + disclaimer))
        / (1 + errors),
        parts={
            "sections_present": sections,
            "facts_carried": facts,
            "diagnosis_named": diagnosis,
            "texts_carried": texts,
            "disclaimer": disclaimer,
            "contradicted": contradicted,
            "invented": invented,
            "placeholders": placeholders,
        },
    )


def _section_share(output: ReportWriterOutput, reference: ReportWriterReference) -> float:
    """Sections asked for and there, of those asked for or there; an empty one is not there."""
    there = {heading for heading in HEADINGS if output.sections.get(heading)}
    asked = set(reference.sections)
    return len(there & asked) / len(there | asked)


def _text_share(text: str, wanted: Sequence[str]) -> float:
    return fmean(float(_stands(text, words)) for words in wanted) if wanted else 1.0


def _stands(text: str, words: str) -> bool:
    return _phrase(words).search(text.lower()) is not None


def _says(text: str, words: str) -> bool:
    """Whether some sentence holds the words without negating them."""
    phrase = _phrase(words)
    return any(
        not is_negated(sentence, match.start(), match.end())
        for sentence in sentences(text)
        for match in phrase.finditer(sentence)
    )


def _phrase(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(words.lower())}(?!\w)")


def _carried(findings: Sequence[Mention], fact: ReportFact) -> float:
    """Share of side, structure and size that the best mention of the fact states.

    A mention that says otherwise of any of them is no mention of it.
    """
    return max(
        (
            _stated(mention, fact)
            for mention in findings
            if mention.status == "present" and _agrees(mention, fact)
        ),
        default=0.0,
    )


def _stated(mention: Mention, fact: ReportFact) -> float:
    parts = [bool(mention.structures), bool(mention.sizes_mm)]
    if fact.laterality != "midline":
        parts.append(fact.laterality in mention.sides)
    return sum(parts) / len(parts)


def _agrees(mention: Mention, fact: ReportFact) -> bool:
    """Whether a mention says nothing of a fact's kind, side, structure and size that is not so."""
    return _same_place(mention, fact) and _same_kind(mention, fact) and _same_size(mention, fact)


def _same_kind(mention: Mention, fact: ReportFact) -> bool:
    # "The lungs are clear" speaks of anything in a lung, and not of nodes or of the pleura.
    if mention.kind == "any":
        return fact.structure in _IN_A_LUNG
    return mention.kind in ("", kind_group(fact.kind))


def _same_place(mention: Mention, fact: ReportFact) -> bool:
    sides = {fact.laterality} | ({"left", "right"} if fact.laterality == "bilateral" else set())
    return mention.sides <= sides and (
        not mention.structures or fact.structure in mention.structures
    )


def _same_size(mention: Mention, fact: ReportFact) -> bool:
    return not mention.sizes_mm or any(
        abs(size - fact.size_mm) <= _SIZE_TOLERANCE_MM for size in mention.sizes_mm
    )


def _errors(said: Sequence[Mention], facts: Sequence[ReportFact]) -> tuple[int, int]:
    """Distinct mentions that deny or alter a fact, and distinct ones of what is no fact at all.

    A finding whose structure holds a fact of its kind alters that fact, and so does one that names
    no structure; any other is invented.
    """
    contradicted: set[Mention] = set()
    invented: set[Mention] = set()
    for mention in said:
        if mention.status == "absent" and mention.kind:
            if any(_agrees(mention, fact) for fact in facts):
                contradicted.add(mention)
        elif mention.status == "present" and (mention.kind or mention.sizes_mm):
            alike = [fact for fact in facts if _same_kind(mention, fact)]
            if any(_agrees(mention, fact) for fact in alike):
                continue
            near = not mention.structures or any(
                fact.structure in mention.structures for fact in alike
            )
            (contradicted if alike and near else invented).add(mention)
    return len(contradicted), len(invented)


def summarize(
    answers: Sequence[tuple[Mapping[str, Any] | None, ReportWriterReference]],
) -> dict[str, float]:
    """Mean shares of sections and facts, and the share of answers with an error of fact.

    A failed answer has no sections, no facts and no error of fact.
    """
    if not answers:
        return {}
    parts = [said or {} for said, _ in answers]
    return {
        "section_rate": fmean(said.get("sections_present", 0.0) for said in parts),
        "fact_rate": fmean(said.get("facts_carried", 0.0) for said in parts),
        "error_rate": fmean(
            float(said.get("contradicted", 0) + said.get("invented", 0) > 0) for said in parts
        ),
    }


SCORER = Scorer(
    agent="report_writer", version=4, primary="report score", score=score, summarize=summarize
)
