"""Finding identifiers that nobody told us of: Presidio's recognizers, and some of a hospital's own.

Names of people are found where a title or a label stands before them. Other names need a model of
language, which is used where one is installed and named.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from soma_bench.errors import ConfigError, PrivacyError
from soma_bench.routing.known import Found

if TYPE_CHECKING:
    import presidio_analyzer

Recognizer = Callable[[str], Sequence[Found]]
"""Finds identifiers in a text."""

INSTALL = 'pip install "soma-bench[deidentify]"'

_KINDS: Mapping[str, str] = {
    "DATE_TIME": "DATE",
    "PHONE_NUMBER": "PHONE",
    "EMAIL_ADDRESS": "EMAIL",
    "US_SSN": "SSN",
    "CREDIT_CARD": "CARD",
    "IP_ADDRESS": "ADDRESS",
    "MAC_ADDRESS": "ADDRESS",
    "URL": "URL",
    "UUID": "UID",
    "DICOM_UID": "UID",
    "MEDICAL_RECORD_NUMBER": "MRN",
    "HEADER": "HEADER",
    "PERSON": "NAME",
    "LOCATION": "PLACE",
    "ORGANIZATION": "PLACE",
}
_LEAST_SCORE = 0.3
"""Below it Presidio's patterns are guesses that need words around them, such as 12/24 for a date."""
_MOST_CHARACTERS = 200_000
_LANGUAGE = "en"

_MONTH = (
    "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    "|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATES = (
    rf"\b\d{{1,2}}(?:st|nd|rd|th)?[ ./-]{{1,2}}(?:of )?{_MONTH}\.?,?[ ./-]{{1,2}}(?:\d{{4}}|\d{{2}})\b",
    rf"\b{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}\b",
    rf"\b{_MONTH}\.? \d{{4}}\b",
    r"\b(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\b",
    r"\b(?:0?[1-9]|1[0-2])/(?:19|20)\d{2}\b",
    r"\b(?:19|20)\d{2}-(?:0[1-9]|1[0-2])\b",
)
_RECORD_LABEL = (
    r"\b(?:mrn|medical record(?: (?:no|number|#))?|patient[ _-]?(?:id|no|number)"
    r"|(?:hospital|chart|case|record|admission) (?:no|number|id)|accession(?:[ _-]?(?:no|number))?)"
    r"\b[\s.:#=\"']{0,6}"
)
_RECORDS = (
    rf"(?<={_RECORD_LABEL})(?=[A-Z0-9./_-]*\d)[A-Z0-9][A-Z0-9./_-]{{1,30}}[A-Z0-9]",
    rf"(?<={_RECORD_LABEL})\d(?:[ -]?\d){{3,15}}",
)
_HEADERS = (
    # A DICOM attribute as dumps write it, to the end of its line.
    r"^[ \t>]*\(?[0-9a-f]{4},[ ]?[0-9a-f]{4}\)?[^\n]*",
    r"(?<=\b(?:patient|(?:referring|performing|requesting)[ ]?physician|operators?|institution(?:al)?)"
    r"(?:['\u2019]s|s['\u2019]?)?[ ]?"
    r"(?:name|address|birth[ ]?date|department[ ]?name|telephone[ ]?numbers?)"
    r"[\"']?[ \t]*[:=^][ \t\"']*)[^\s\"'][^\n\"]{0,200}",
    r"(?<=\b(?:date of birth|dob|born(?: on)?)[ \t]*[:=][ \t]*)[^\s][^\n,;\"]{1,40}",
)
_NAMES = (
    r"(?-i:(?<=\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|MR|MRS|MS|DR|PROF|Herr|Frau|Mme)\.?[ \t]+)"
    r"(?:(?:van|von|de|der|den|la|le|al|bin|[A-Z]\.)[ \t]+){0,3}[A-Z](?:[\w-]|['\u2019](?!s\b))+"
    r"(?:[ \t]+(?:[A-Z]\.[ \t]+)?[A-Z](?:[\w-]|['\u2019](?!s\b))+){0,2})",
)
_UIDS = (r"\b[0-2](?:\.(?:0|[1-9]\d*)){5,}\b",)


def is_installed() -> bool:
    """Whether Presidio is there."""
    return find_spec("presidio_analyzer") is not None


@cache
def presidio(nlp_model: str | None = None) -> Recognizer:
    """Presidio's recognizers that need no network, with those for records, headers and titled names.

    Args:
        nlp_model: name of an installed spaCy model that finds names of people and places; None for
            patterns alone.

    Raises:
        PrivacyError: Presidio is not installed.
        ConfigError: the model is not installed.
    """
    if not is_installed():
        raise PrivacyError(f"de-identification needs Presidio. Run: {INSTALL}")
    analyzer = _analyzer(nlp_model)
    from presidio_analyzer.pattern_recognizer import REGEX_TIMEOUT_SECONDS

    def recognize(text: str) -> list[Found]:
        if len(text) > _MOST_CHARACTERS:
            raise PrivacyError(
                f"a text of {len(text)} characters is too long to be de-identified;"
                f" {_MOST_CHARACTERS} are the most"
            )
        began = time.monotonic()
        results = analyzer.analyze(text, _LANGUAGE, score_threshold=_LEAST_SCORE)
        if time.monotonic() - began >= REGEX_TIMEOUT_SECONDS:
            # Presidio leaves a pattern out that takes this long, and says so in its log only.
            raise PrivacyError("the recognizers took too long, so that some may have given up")
        return [
            Found(r.start, r.end, _KINDS.get(r.entity_type, "OTHER"), text[r.start : r.end])
            for r in results
        ]

    return recognize


def _analyzer(nlp_model: str | None) -> presidio_analyzer.AnalyzerEngine:
    # A library beneath advises to install PyTorch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from presidio_analyzer import AnalyzerEngine, Pattern, PatternRecognizer, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NoOpNlpEngine, SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        DateRecognizer,
        EmailRecognizer,
        IpRecognizer,
        MacAddressRecognizer,
        PhoneRecognizer,
        UrlRecognizer,
        UsSsnRecognizer,
        UuidRecognizer,
    )

    # A log that says what is done with each text has no place here.
    logging.getLogger("presidio-analyzer").setLevel(logging.CRITICAL)

    def own(entity: str, patterns: Sequence[str]) -> PatternRecognizer:
        named = [Pattern(f"{entity} {i}", text, 0.8) for i, text in enumerate(patterns, 1)]
        return PatternRecognizer(supported_entity=entity, patterns=named, name=entity)

    recognizers = [
        DateRecognizer(),
        PhoneRecognizer(),
        UsSsnRecognizer(),
        CreditCardRecognizer(),
        IpRecognizer(),
        MacAddressRecognizer(),
        UuidRecognizer(),
        UrlRecognizer(),
        # Its own check of the domain would fetch a list from the network.
        PatternRecognizer(supported_entity="EMAIL_ADDRESS", patterns=EmailRecognizer.PATTERNS),
        own("DATE_TIME", _DATES),
        own("MEDICAL_RECORD_NUMBER", _RECORDS),
        own("HEADER", _HEADERS),
        own("PERSON", _NAMES),
        own("DICOM_UID", _UIDS),
    ]
    registry = RecognizerRegistry(recognizers=recognizers, supported_languages=[_LANGUAGE])
    if nlp_model is None:
        engine = NoOpNlpEngine([{"lang_code": _LANGUAGE, "model_name": "none"}])
    else:
        from spacy.util import is_package

        if not is_package(nlp_model):
            # Presidio would fetch it.
            raise ConfigError(f"the spaCy model {nlp_model!r} is not installed; install it first")
        engine = SpacyNlpEngine([{"lang_code": _LANGUAGE, "model_name": nlp_model}])
        engine.load()
        registry.add_nlp_recognizer(engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[_LANGUAGE])
