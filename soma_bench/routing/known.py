"""Finding what is known to identify a patient, however a text writes it.

Texts are compared without case, accents and invisible characters. Names are found in any order of
their parts and each part by itself, record numbers with or without separators, dates in the usual
forms, numeric or with an English month. Initials that stand alone are not certain and stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import permutations

from soma_bench.errors import PrivacyError

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_TITLES = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "miss",
        "mx",
        "dr",
        "prof",
        "sir",
        "md",
        "phd",
        "jr",
        "sr",
        "ii",
        "iii",
        "iv",
    ]
)
_PARTICLES = frozenset(
    [
        "van",
        "von",
        "der",
        "den",
        "de",
        "la",
        "le",
        "du",
        "da",
        "di",
        "do",
        "dos",
        "del",
        "della",
        "bin",
        "ibn",
        "ten",
        "ter",
    ]
)
_BETWEEN_NAMES = (
    rf"[\W_]{{0,3}}(?:(?:[^\W\d_]|{'|'.join(sorted(_PARTICLES | _TITLES))})[\W_]{{1,3}}){{0,3}}"
)
"""Between two parts of a name: blanks, commas, carets; also initials, particles and titles."""
_MOST_PERMUTED = 4
_SURE_CHARACTERS = 6
"""So many letters and digits in a row are no chance: they are found inside longer words too."""


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a text that identifies somebody."""

    start: int
    end: int
    kind: str
    """Name of its placeholder."""
    value: str = field(repr=False)
    """What the placeholder stands for."""


@dataclass(frozen=True, slots=True)
class _Form:
    pattern: re.Pattern[str] = field(repr=False)
    kind: str
    value: str = field(repr=False)


def folded(text: str) -> tuple[str, list[int] | range]:
    """A text as it is compared, and where each of its characters comes from."""
    if text.isascii():
        return text.lower(), range(len(text))
    characters: list[str] = []
    origins: list[int] = []
    for index, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character).casefold():
            if unicodedata.combining(part) or unicodedata.category(part) == "Cf":
                continue
            characters.append(part)
            origins.append(index)
    return "".join(characters), origins


class Known:
    """The known identifiers of one case.

    Args:
        values: the identifiers as they are known.

    Raises:
        PrivacyError: one is too short to be found.
    """

    def __init__(self, values: frozenset[str]) -> None:
        self._forms: list[_Form] = []
        self._words: set[str] = set()
        self._squeezed: set[str] = set()
        # Sets have no order of their own; a fixed one makes the same call do the same.
        for value in sorted(value.strip() for value in values):
            if value:
                self._add(value)

    def find(self, text: str) -> list[Found]:
        """Where the identifiers stand in a text; places may overlap."""
        plain, origins = folded(text)
        found = []
        for form in self._forms:
            for match in form.pattern.finditer(plain):
                start, end = origins[match.start()], origins[match.end() - 1] + 1
                found.append(Found(start, end, form.kind, form.value))
        return found

    def remain(self, text: str) -> bool:
        """Whether an identifier is still in a text; looks in another way than `find`."""
        plain, _ = folded(text)
        letters = {word for word in re.split(r"[\W\d_]+", plain) if word}
        whole = set(re.split(r"[\W_]+", plain))
        return bool(self._words & (letters | whole)) or self.remain_whole(text)

    def remain_whole(self, text: str) -> bool:
        """Whether a whole name, number or date is still in a text; single words do not count."""
        plain, _ = folded(text)
        squeezed = re.sub(r"[\W_]+", "", plain)
        return any(value in squeezed for value in self._squeezed) or any(
            form.kind == "DATE" and form.pattern.search(plain) for form in self._forms
        )

    def _add(self, value: str) -> None:
        plain, _ = folded(value)
        squeezed = re.sub(r"[\W_]+", "", plain)
        if len(squeezed) < 2:
            raise PrivacyError(
                "an identifier of the case has fewer than 2 letters and digits, which cannot be"
                " found in a text; leave it out or choose a local target"
            )
        if dates := _dates(plain):
            for day in dates:
                self._form(_date_pattern(day), "DATE", value)
        elif any(character.isdigit() for character in squeezed):
            self._add_number(value, squeezed)
        else:
            self._add_name(value, plain)

    def _add_number(self, value: str, squeezed: str) -> None:
        self._form(_spread(squeezed), "MRN", value)
        self._remember(squeezed)
        # A number is the same number without its letters and its leading zeros.
        for digits in re.findall(r"\d{5,}", squeezed):
            for form in {digits, digits.lstrip("0")} - {squeezed}:
                if len(form) >= 5:
                    self._form(_spread(form), "MRN", form)
                    self._remember(form)

    def _add_name(self, value: str, plain: str) -> None:
        parts = [part for part in re.split(r"[\W\d_]+", plain) if len(part) > 1]
        parts = [part for part in parts if part not in _TITLES | _PARTICLES] or parts
        if not parts:
            # Only initials: sure together, not one by one.
            self._form(_bounded(_joined(re.findall(r"[^\W\d_]", plain))), "PATIENT", value)
            return
        if len(parts) > 1:
            orders = (
                permutations(parts) if len(parts) <= _MOST_PERMUTED else (parts, reversed(parts))
            )
            for order in orders:
                names = [re.escape(part) for part in order]
                self._form(_BETWEEN_NAMES.join(names), "PATIENT", value)
                self._remember("".join(order))
        for part in parts:
            self._form(_bounded(re.escape(part)), "PATIENT", _as_written(value, part))
            self._words.add(part)

    def _form(self, pattern: str, kind: str, value: str) -> None:
        self._forms.append(_Form(re.compile(pattern), kind, value))

    def _remember(self, squeezed: str) -> None:
        if len(squeezed) >= _SURE_CHARACTERS:
            self._squeezed.add(squeezed)
        else:
            self._words.add(squeezed)


def _joined(parts: list[str]) -> str:
    return r"[\W_]{0,2}".join(re.escape(part) for part in parts)


def _spread(squeezed: str) -> str:
    pattern = _joined(list(squeezed))
    if len(squeezed) >= _SURE_CHARACTERS:
        return pattern
    return rf"(?<![^\W_]){pattern}(?![^\W_])"


def _bounded(pattern: str) -> str:
    """A pattern that is no part of a longer word; scripts without case write no blanks."""
    letters = pattern.replace("\\", "")
    if letters.upper() == letters.lower():
        return pattern
    return rf"(?<![^\W\d_]){pattern}(?![^\W\d_])"


def _as_written(value: str, part: str) -> str:
    """A part of a name as the name's own text writes it."""
    words = re.split(r"[\W\d_]+", value)
    return next((word for word in words if folded(word)[0] == part), part)


def _dates(plain: str) -> set[date]:
    """The days that an identifier may mean; empty where it is no date."""
    compact = re.fullmatch(r"\d{8}", plain)
    if compact:
        parts = [(plain[:4], plain[4:6], plain[6:])]
    else:
        tokens = re.findall(r"\d+|[^\W\d_]+", re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", plain))
        tokens = [word for word in tokens if word != "of"]
        is_time = re.search(r"\d[t ]\d?\d:\d\d", plain) is not None
        if len(tokens) < 3 or (len(tokens) > 3 and not is_time):
            return set()
        first, second, third = tokens[:3]
        parts = [(first, second, third), (third, second, first), (third, first, second)]
    return {day for year, month, number in parts for day in _days(year, month, number)}


def _days(year: str, month: str, number: str) -> Iterator[date]:
    if month.isdigit():
        months = [int(month)]
    else:
        months = [
            n for n, name in enumerate(_MONTHS, 1) if len(month) > 2 and name.startswith(month)
        ]
    if not (year.isdigit() and number.isdigit() and len(year) in (2, 4) and len(number) < 3):
        return
    for whole_year in (int(year),) if len(year) == 4 else (1900 + int(year), 2000 + int(year)):
        for whole_month in months:
            try:
                day = date(whole_year, whole_month, int(number))
            except ValueError:
                continue
            if 1850 <= day.year <= 2150:
                yield day


def _date_pattern(day: date) -> str:
    year = rf"(?:{day.year}|'?{day.year % 100:02})"
    number = rf"0?{day.day}(?:st|nd|rd|th)?"
    name = _MONTHS[day.month - 1]
    word = rf"{name[:3]}(?:{name[3:]}|t)?" if name == "september" else rf"{name[:3]}(?:{name[3:]})?"
    digits = rf"0?{day.month}"
    gap, any_gap = r"[\W_]{1,3}", r"[\W_]{0,3}(?:of[\W_]{1,3})?"
    compact = (
        f"{day.year}{day.month:02}{day.day:02}",
        f"{day.day:02}{day.month:02}{day.year}",
        f"{day.month:02}{day.day:02}{day.year}",
    )
    forms = [
        rf"{year}{gap}{digits}{gap}{number}",
        rf"{number}{gap}{digits}{gap}{year}",
        rf"{digits}{gap}{number}{gap}{year}",
        rf"{year}{any_gap}{word}{any_gap}{number}",
        rf"{number}{any_gap}{word}{any_gap}{year}",
        rf"{word}{any_gap}{number}{gap}{year}",
        *compact,
    ]
    return rf"(?<!\d)(?:{'|'.join(forms)})(?!\d)"
