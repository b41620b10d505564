"""De-identification: a request with placeholders where it said who the patient is.

What the case knows is replaced first, then what the recognizers find in the rest. It lowers the
risk and does not remove it: a name that the case does not know and that stands in no usual place is
not found by patterns.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from soma_bench.errors import PrivacyError
from soma_bench.providers.placeholders import PLACEHOLDER, Replaced
from soma_bench.routing.context import Identifiers
from soma_bench.routing.known import Found, Known, folded
from soma_bench.routing.recognizers import Recognizer
from soma_bench.types import Request

_MARK = "MARK"
"""Kind of what looks like a placeholder before any was put in."""


@dataclass(frozen=True, slots=True)
class Deidentified:
    """A request as it may leave, and the way back."""

    request: Request
    replaced: Replaced
    counts: Mapping[str, int]


class Case:
    """What de-identification remembers of one case, so that its placeholders stay the same.

    Args:
        identifiers: what is known to identify the patient.
        recognize: finds what is not known.

    Raises:
        PrivacyError: an identifier cannot be found in a text.
    """

    def __init__(self, identifiers: Identifiers, recognize: Recognizer) -> None:
        self._known = Known(identifiers.values)
        self._recognize = recognize
        self._placeholders: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()

    def deidentify(self, request: Request) -> Deidentified:
        """The request with every identifier replaced.

        Raises:
            PrivacyError: an identifier is left.
        """
        counts: Counter[str] = Counter()
        messages = tuple(
            replace(message, content=self._clean(message.content, counts))
            for message in request.messages
        )
        cleaned = replace(request, messages=messages)
        self._check(cleaned)
        return Deidentified(
            request=cleaned,
            replaced=Replaced(MappingProxyType(dict(self._values))),
            counts=MappingProxyType(dict(counts)),
        )

    def _clean(self, text: str, counts: Counter[str]) -> str:
        known = self._known.find(text)
        marks = [
            Found(match.start(), match.end(), _MARK, match[0])
            for match in PLACEHOLDER.finditer(text)
        ]
        pieces, at = [], 0
        for found in _merged([*known, *marks, *self._recognize(text)], text):
            pieces += [text[at : found.start], self._placeholder(found)]
            counts[found.kind] += 1
            at = found.end
        return "".join([*pieces, text[at:]])

    def _placeholder(self, found: Found) -> str:
        key = (found.kind, " ".join(folded(found.value)[0].split()))
        if found.kind == _MARK:
            key = (_MARK, found.value)
        if key not in self._placeholders:
            # Numbers by order of appearance say nothing of the value.
            self._numbers[found.kind] += 1
            placeholder = f"[{found.kind}_{self._numbers[found.kind]}]"
            self._placeholders[key] = placeholder
            self._values[placeholder] = found.value
        return self._placeholders[key]

    def _check(self, request: Request) -> None:
        """Look once more, in another way, for what is known."""
        # Between two placeholders nothing must grow together.
        texts = (PLACEHOLDER.sub(" | ", message.content) for message in request.messages)
        schema = json.dumps(request.schema, ensure_ascii=False, default=str)
        if any(self._known.remain(text) for text in texts) or any(
            self._known.remain_whole(text) for text in (schema, request.model)
        ):
            raise PrivacyError("an identifier was left after de-identification")


def _merged(found: Iterable[Found], text: str) -> list[Found]:
    """Places that do not overlap; what overlaps becomes one place."""
    merged: list[Found] = []
    for place in sorted(found, key=lambda place: (place.start, -place.end)):
        if not merged or place.start >= merged[-1].end:
            merged.append(place)
        elif place.end > merged[-1].end:
            start = merged[-1].start
            merged[-1] = Found(start, place.end, merged[-1].kind, text[start : place.end])
    return merged
