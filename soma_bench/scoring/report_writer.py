"""ReportWriter: does the report say what it was given, whole and nothing else?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import get_args

from soma_bench.agents.radiologist import Margin
from soma_bench.agents.report_writer import HEADINGS, ReportWriterOutput
from soma_bench.cases.report_writer import ReportFact, ReportWriterReference
from soma_bench.scoring.base import Answer, Score, Scorer
from soma_bench.scoring.report_facts import Mention, is_negated, kind_group, mentions, sentences
from soma_bench.scoring.rouge import rouge_l

_SIZE_TOLERANCE_MM = 0.05
_IN_A_LUNG = ("upper lobe", "middle lobe", "lower lobe", "lingula")
_DENSITIES = frozenset({"solid", "part-solid", "ground-glass"})
_MARGINS = frozenset(get_args(Margin))
_PLACEHOLDER = re.compile(
    r"\[[^\]\n]{1,60}\](?!\()|<[A-Za-z][A-Za-z ]*>|\{\{?[A-Za-z][\w ]*\}\}?|_{3,}|\?{3,}"
    r"|\b(?:TBD|TBC|TODO|X{2,})\b|\b(?i:lorem ipsum|lorem|insert [a-z ]{1,30} here)\b"
)


def score(output: ReportWriterOutput, reference: ReportWriterReference) -> Score:
    """Parts of what was asked, weighed, and divided by one more than the number of errors.

    Facts count where the Findings state them; one that they do not state is omitted. Errors are
    contradicted and invented findings in Findings and Impression, words that only an invented
    report says, and unfilled placeholders; the same one said twice counts once.
    """
    said = {
        heading: mentions(output.sections.get(heading, ""))
        for heading in ("Findings", "Impression")
    }
    contradicted, invented = _errors((*said["Findings"], *said["Impression"]), reference.facts)
    invented += sum(_says(output.markdown, words) for words in reference.absent)
    placeholders = len(set(_PLACEHOLDER.findall(output.markdown)))
    sections = _section_share(output, reference)
    carried = [_carried(said["Findings"], fact) for fact in reference.facts]
    diagnosis = float(_says(output.sections.get("Impression", ""), reference.diagnosis))
    texts = _text_share(output, reference)
    disclaimer = float(bool(output.disclaimer))
    errors = contradicted + invented + placeholders
    return Score(
        primary=(0.2 * sections + 0.5 * fmean(carried) + 0.1 * (diagnosis + texts + disclaimer))
        / (1 + errors),
        parts={
            "sections_present": sections,
            "facts_carried": fmean(carried),
            "omitted": carried.count(0.0),
            "looks_carried": _looks_share(said["Findings"], reference.facts),
            "diagnosis_named": diagnosis,
            "texts_carried": texts,
            "disclaimer": disclaimer,
            "contradicted": contradicted,
            "invented": invented,
            "placeholders": placeholders,
            "impression_conflicts": _conflicts(said["Impression"], said["Findings"]),
            "rouge_l": rouge_l(
                f"{output.sections.get('Findings', '')} {output.sections.get('Impression', '')}",
                _plain_report(reference),
            ),
        },
    )


def _section_share(output: ReportWriterOutput, reference: ReportWriterReference) -> float:
    """Sections asked for and there, of those asked for or there; an empty one is not there."""
    there = {heading for heading in HEADINGS if output.sections.get(heading)}
    asked = set(reference.sections)
    return len(there & asked) / len(there | asked)


def _text_share(output: ReportWriterOutput, reference: ReportWriterReference) -> float:
    """Share of the words asked for that stand somewhere, or that the recommendations say."""
    advice = output.sections.get("Recommendations", "")
    there = [float(_stands(output.markdown, words)) for words in reference.present]
    there += [float(_says(advice, words)) for words in reference.recommendations]
    return fmean(there) if there else 1.0


def _plain_report(reference: ReportWriterReference) -> str:
    """The facts and the diagnosis in the fewest words, twice as in Findings and Impression."""
    facts = [
        " ".join((f"{fact.size_mm} mm", *fact.characteristics, fact.kind, "in the", _place(fact)))
        for fact in reference.facts
    ]
    return " ".join((*facts, *facts, reference.diagnosis))


def _place(fact: ReportFact) -> str:
    return fact.structure if fact.laterality == "midline" else f"{fact.laterality} {fact.structure}"


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


def _looks_share(findings: Sequence[Mention], facts: Sequence[ReportFact]) -> float | None:
    """Share of the densities and margins asked for that are stated; None where none is asked."""
    shares = [
        max(
            (
                len(mention.looks.intersection(fact.characteristics)) / len(fact.characteristics)
                for mention in findings
                if mention.status == "present" and _agrees(mention, fact)
            ),
            default=0.0,
        )
        for fact in facts
        if fact.characteristics
    ]
    return fmean(shares) if shares else None


def _agrees(mention: Mention, fact: ReportFact) -> bool:
    """Whether a mention says nothing of a fact that is not so: kind, place, size and look."""
    return (
        _same_place(mention, fact)
        and _same_kind(mention, fact)
        and _same_size(mention, fact)
        and _same_look(mention, fact)
    )


def _same_look(mention: Mention, fact: ReportFact) -> bool:
    """Whether density and margin, where both say something of them, are the same."""
    return all(
        not (said and known) or said <= known
        for among in (_DENSITIES, _MARGINS)
        for said, known in [
            (mention.looks & among, among.intersection(fact.characteristics)),
        ]
    )


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
        # Said again without its density or margin, it is still the same.
        same = replace(mention, looks=frozenset())
        if mention.status == "absent" and mention.kind:
            if any(_agrees(mention, fact) for fact in facts):
                contradicted.add(same)
        elif mention.status == "present" and (mention.kind or mention.sizes_mm):
            alike = [fact for fact in facts if _same_kind(mention, fact)]
            if any(_agrees(mention, fact) for fact in alike):
                continue
            near = not mention.structures or any(
                fact.structure in mention.structures for fact in alike
            )
            (contradicted if alike and near else invented).add(same)
    return len(contradicted), len(invented)


def _conflicts(impression: Sequence[Mention], findings: Sequence[Mention]) -> int:
    """How many findings of the impression the report's own findings state otherwise, or deny."""
    there = [mention for mention in findings if mention.status == "present" and mention.kind]
    denied = [mention for mention in findings if mention.status == "absent" and mention.kind]
    count = 0
    for mention in impression:
        if mention.status != "present" or not mention.kind:
            continue
        alike = [other for other in there if other.kind == mention.kind]
        if alike:
            count += not any(_compatible(mention, other) for other in alike)
        else:
            count += any(other.kind == mention.kind for other in denied)
    return count


def _compatible(one: Mention, other: Mention) -> bool:
    return all(
        not (said and known) or bool(said & known)
        for said, known in (
            (one.sides, other.sides),
            (one.structures, other.structures),
            (one.sizes_mm, other.sizes_mm),
        )
    )


def summarize(answers: Sequence[Answer]) -> dict[str, float]:
    """Mean shares of sections and facts, and the shares of answers with each kind of error.

    A failed answer has no sections, omits its facts and makes no other error. ``rouge_l`` is over the answers
    that were read, for readers who know it: it says little of what matters.
    """
    if not answers:
        return {}
    parts = [{"omitted": 1} if answer.parts is None else answer.parts for answer in answers]

    def with_any(*names: str) -> float:
        return fmean(float(sum(said.get(name, 0) for name in names) > 0) for said in parts)

    figures = {
        "section_rate": fmean(said.get("sections_present", 0.0) for said in parts),
        "fact_rate": fmean(said.get("facts_carried", 0.0) for said in parts),
        "disclaimer_rate": fmean(said.get("disclaimer", 0.0) for said in parts),
        "error_rate": with_any("contradicted", "invented"),
        "omission_rate": with_any("omitted"),
        "contradiction_rate": with_any("contradicted"),
        "hallucination_rate": with_any("invented"),
        "placeholder_rate": with_any("placeholders"),
        "impression_conflict_rate": with_any("impression_conflicts"),
    }
    read = [answer.parts for answer in answers if answer.parts is not None]
    if read:
        figures["rouge_l"] = fmean(said["rouge_l"] for said in read)
    return figures


SCORER = Scorer(
    agent="report_writer",
    version=6,
    primary="report score",
    score=score,
    summarize=summarize,
    headline=("fact_rate", "omission_rate", "contradiction_rate", "hallucination_rate"),
)
