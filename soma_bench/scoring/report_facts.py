"""What a report's text says of findings: side, structure, size, look and negation, by small rules.

The rules know chest CT reports in English and no more: a sentence is cut into clauses, each clause
gives what it names, and clauses that complete each other make one `Mention`. They were written for
this project; no lexicon or grammar of others is in them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Status = Literal["present", "absent", "aside"]

_KINDS = {
    "focal": r"nodul\w*|mass(?:es)?(?! effect)|opacit\w+|opacification|lesions?|consolidations?",
    "lymph node": r"lymph[ -]?nodes?|lymphaden\w+|adenopathy",
    "effusion": r"effusions?",
    "pneumothorax": r"pneumothora\w+",
    "atelectasis": r"atelecta\w+",
    "emphysema": r"emphysema\w*",
    "cyst": r"cysts?",
    "fracture": r"fractures?",
    "embolism": r"embol\w+",
}
_STRUCTURES = {
    "upper lobe": r"upper[ -]lobes?|lul|rul",
    "middle lobe": r"middle[ -]lobes?|rml",
    "lower lobe": r"lower[ -]lobes?|lll|rll",
    "lingula": r"lingula\w*",
    "hilum": r"hil(?:um|ar|a)",
    "mediastinum": r"mediastin\w+",
    "pleura": r"pleura\w*",
}
_SIDES = {
    "left": r"left(?:-sided)?|lul|lll",
    "right": r"right(?:-sided)?|rul|rml|rll",
    "bilateral": r"bilateral\w*|both",
}
_LOOKS = {
    "solid": r"(?<!part[ -])(?<!semi[ -])(?<!semi)(?<!sub)(?<!non[ -])(?<!not )solid",
    "part-solid": r"(?:part(?:ly|ially)?|sub|semi)[ -]?solid|mixed(?: attenuation| density)?",
    "ground-glass": r"ground[ -]glass|ggn|ggo|non[ -]?solid",
    "calcified": r"(?<!non[ -])(?<!not )calcified",
    "cavitary": r"cavit(?:ary|ating|ated|ation)",
    "smooth": r"smooth(?:ly)?(?: marginated)?",
    "lobulated": r"lobulat\w+",
    "spiculated": r"(?<!not )(?<!non[ -])spicul\w+",
}
_ANY_KIND = "any"


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b")


_KIND_WORDS = {name: _words(pattern) for name, pattern in _KINDS.items()}
_STRUCTURE_WORDS = {name: _words(pattern) for name, pattern in _STRUCTURES.items()}
_LOOK_WORDS = {name: _words(pattern) for name, pattern in _LOOKS.items()}
_SIDE_WORDS = {name: _words(pattern) for name, pattern in _SIDES.items()}

_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:mm|cm|milli\w*|centi\w*)(?![²³2^3\w])"
_SIZE = re.compile(
    rf"(?P<first>{_NUMBER})(?P<more>(?:[ -]?(?:mm|cm)?\s*(?:x|\u00d7|by)\s*{_NUMBER})*)[ -]?(?P<unit>{_UNIT})"
)
# Sizes of another time, a threshold or a distance are no finding's size.
_OTHER_SIZE = re.compile(
    rf"(?:previously|formerly|from|compared (?:with|to)|versus|less than|greater than|more than|over"
    rf"|under|at least|[<>≤≥])\s*(?:\w+\s+){{0,2}}{_NUMBER}[ -]?{_UNIT}"
    rf"|{_NUMBER}[ -]?{_UNIT}\s+(?:from|above|below|slices?|sections?|thick)\b"
)
# Words that negate something else than a finding's presence.
_NO_CHANGE = re.compile(
    r"\bno (?:evidence of )?(?:(?:significant|interval|suspicious|definite) )*"
    r"(?:change|growth|increase|progression)s?(?: (?:of|in))?\b"
)
_ASIDE = re.compile(
    r"\bno (?:other|additional|further|new|second)\b|\bno \w+ (?:other|additional)\b"
)
_NEGATION = re.compile(
    r"\b(?:no|without|negative for|free of|absence of|absent|denies|not (?:a|an|any))\b"
)
_NEGATED_AFTER = re.compile(
    r"\bnot (?:seen|present|identified|visible|detected|found|noted|evident|demonstrated)\b"
    r"|\b(?:is|are|was|were) absent\b|\b(?:has|have) resolved\b"
    r"|(?<!not be )(?<!not )\b(?:excluded|ruled out)\b"
)
# "Previous CT: none", "prior images are not available".
_NONE_AFTER = re.compile(
    r"(?:\W+\w+){0,3}?\W+(?:none|unavailable|not (?:available|provided|given))\b"
)
_NORMAL = re.compile(r"\b(?:clear|normal|unremarkable)\b")
_REST = re.compile(r"\b(?:otherwise|remain\w*|rest|elsewhere)\b")
_LUNG = re.compile(r"\b(?:lungs?|lobes?|lingula)\b")
_STARTS_ANEW = re.compile(rf"\b(?:but|a|an|the|there|one|two|{_NUMBER}[ -]?{_UNIT})(?!\w)")
_ALTERNATIVE = re.compile(r"(?:or|nor)\b")
# The beginning of "no 8 mm solid, smooth nodule": its noun comes in the next clause.
_OPEN_NEGATION = re.compile(
    r"\b(?:no|without|negative for|free of|absence of|not)"
    r"(?:\s+(?:evidence|signs?|of|an?|any|new|small|large|tiny|focal|discrete|definite|suspicious"
    r"|solid|part-solid|ground[ -]glass|calcified|cavitary|smooth|lobulated|spiculated|round"
    rf"|left|right|pleural|{_NUMBER}[ -]?{_UNIT}))+$"
)
_BOTH_SIDES = re.compile(r"\b(?:left and right|right and left)\b(?! (?:upper|middle|lower))")
_EITHER_SIDE = re.compile(r"\b(?:left or right|right or left)\b(?! (?:upper|middle|lower))")

_BULLET = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")
_SENTENCE_END = re.compile(r"(?<=[.;!?])\s+")
_CLAUSE_END = re.compile(r"[,;]|(?=\b(?:and|or|nor|but|with|without|while|plus)\b)")


@dataclass(frozen=True, slots=True)
class Mention:
    """Something a text says of a finding; empty where it does not say."""

    status: Status
    """``aside`` is neither: "no other nodule" says nothing of a known one."""
    kind: str = ""
    """One of a few groups: nodule, mass and opacity are all ``focal``; ``any`` is whatever it is."""
    sides: frozenset[str] = frozenset()
    structures: frozenset[str] = frozenset()
    sizes_mm: frozenset[float] = frozenset()
    looks: frozenset[str] = frozenset()
    """Density and margin, in the words of a finding's characteristics."""

    @property
    def place(self) -> tuple[frozenset[str], frozenset[str]]:
        """Sides and structures."""
        return self.sides, self.structures


def kind_group(kind: str) -> str:
    """The group that a finding's kind is compared in.

    >>> kind_group("mass")
    'focal'
    """
    return next((name for name, words in _KIND_WORDS.items() if words.search(kind)), kind)


def sentences(text: str) -> list[str]:
    """The sentences of a Markdown text in lower case, without its marks."""
    found: list[str] = []
    for line in text.lower().splitlines():
        plain = re.sub(r"[*_`]+", "", _BULLET.sub("", line))
        found += [part.strip() for part in _SENTENCE_END.split(plain) if part.strip()]
    return found


def is_negated(sentence: str, start: int, end: int) -> bool:
    """Whether the words from ``start`` to ``end`` are denied, before or soon after them."""
    before = _NEGATION.search(sentence, 0, start)
    return before is not None or _NONE_AFTER.match(sentence, end) is not None


def mentions(text: str) -> tuple[Mention, ...]:
    """Everything a text says of findings, in its order."""
    found: list[Mention] = []
    for sentence in sentences(text):
        for index, mention in enumerate(_of_sentence(sentence)):
            if index == 0 and found and _completes(found[-1], mention):
                found[-1] = _joined(found[-1], mention)
            else:
                found.append(mention)
    return tuple(found)


def _of_sentence(sentence: str) -> Iterator[Mention]:
    plain = _NO_CHANGE.sub(" ", _OTHER_SIZE.sub(" ", sentence))
    plain = _EITHER_SIDE.sub(" ", _BOTH_SIDES.sub("bilateral", plain))
    clauses = [clause for clause in map(str.strip, _CLAUSE_END.split(plain)) if clause]
    denied = [_NEGATED_AFTER.search(clause) is not None for clause in clauses]
    # "... is not seen" reaches back over a list, but not to a finding with a size of its own.
    reaches_all = any(
        denies and not _attributes(clause).kind
        for clause, denies in zip(clauses, denied, strict=True)
    )
    current: Mention | None = None
    status: Status = "present"
    for index, clause in enumerate(clauses):
        said = _attributes(clause)
        if said.kind:
            status = _status(clause, status, said)
            if denied[index] or reaches_all or (any(denied[index:]) and not said.sizes_mm):
                status = "absent"
            said = replace(said, status=status)
        elif _OPEN_NEGATION.search(clause):
            status = "absent"
            said = replace(said, status=status)
        elif current is not None:
            said = replace(said, status=current.status)
        if current is None or _fits(current, said):
            current = said if current is None else _joined(current, said)
        else:
            yield current
            current = _another(current, said)
    if current is not None:
        yield current


def _status(clause: str, before: Status, said: Mention) -> Status:
    """Whether what a clause names is there, given the clause before it in the same sentence."""
    if _ASIDE.search(clause):
        return "aside"
    if _NEGATION.search(clause):
        return "absent"
    if _NORMAL.search(clause):
        return "aside" if _REST.search(clause) else "absent"
    if _ALTERNATIVE.match(clause):
        return before
    # An article behind the noun, as in "no effusion, nodule in the left lung", starts nothing.
    noun = _KIND_WORDS[said.kind].search(clause)
    anew = _STARTS_ANEW.search(clause, 0, noun.start() if noun else len(clause))
    return "present" if anew or said.sizes_mm else before


def _attributes(clause: str) -> Mention:
    def named(patterns: dict[str, re.Pattern[str]]) -> list[str]:
        return [name for name, words in patterns.items() if words.search(clause)]

    kinds = named(_KIND_WORDS)
    if not kinds and _NORMAL.search(clause) and _LUNG.search(clause):
        kinds = [_ANY_KIND]
    sides = set(named(_SIDE_WORDS))
    if {"left", "right"} <= sides:
        sides = {"bilateral"}
    return Mention(
        status="present",
        kind=kinds[-1] if kinds else "",
        sides=frozenset(sides),
        structures=frozenset(named(_STRUCTURE_WORDS)),
        sizes_mm=frozenset(map(_millimetres, _SIZE.finditer(clause))),
        looks=frozenset(named(_LOOK_WORDS)),
    )


def _millimetres(size: re.Match[str]) -> float:
    """The longest of the figures of a size such as ``8 x 6 mm``."""
    figures = [float(size["first"]), *map(float, re.findall(_NUMBER, size["more"]))]
    return max(figures) * (10 if size["unit"].startswith("c") else 1)


def _fits(first: Mention, second: Mention) -> bool:
    """Whether two neighbouring clauses can speak of one finding: what both say is the same."""
    return first.status == second.status and all(
        not (one and other) or one == other
        for one, other in (
            (first.kind, second.kind),
            (first.sides, second.sides),
            (first.structures, second.structures),
            (first.sizes_mm, second.sizes_mm),
        )
    )


def _another(before: Mention, said: Mention) -> Mention:
    """A size by itself is one more of what came before, as in "two nodules, 7 mm and 13 mm"."""
    if said.kind or any(said.place) or not (said.sizes_mm and before.sizes_mm):
        return said
    return replace(before, sizes_mm=said.sizes_mm)


def _completes(first: Mention, second: Mention) -> bool:
    """Whether a sentence goes on about the finding of the one before it, as "It measures 8 mm"."""
    whole = any(second.place) and second.sizes_mm
    adds = (any(second.place) and not any(first.place)) or (second.sizes_mm and not first.sizes_mm)
    known = first.kind or any(first.place)
    return bool(
        first.status == second.status == "present"
        and known
        and adds
        and not whole
        and _fits(first, second)
    )


def _joined(first: Mention, second: Mention) -> Mention:
    return Mention(
        status=first.status,
        kind=first.kind or second.kind,
        sides=first.sides | second.sides,
        structures=first.structures | second.structures,
        sizes_mm=first.sizes_mm | second.sizes_mm,
        looks=first.looks | second.looks,
    )
