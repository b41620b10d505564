"""Placeholders that stand for a patient's identifiers, and how they are put back in an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

PLACEHOLDER = re.compile(r"\[\s{0,2}([A-Z]{2,16})\\?_(\d{1,5})\s{0,2}\]", re.IGNORECASE)
"""``[PATIENT_1]``, and the forms of it that models make: other case, blanks, Markdown's backslash."""

_MOST_CHARACTERS = 30
_BEGINNING = re.compile(
    r"\[\s{0,2}(?:[A-Z]{1,16}(?:\\?(?:_(?:\d{1,5}\s{0,2})?)?)?)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What each placeholder of a request stands for; never shown.

    Values are keyed by the placeholder's plain form, e.g. ``[PATIENT_1]``.
    """

    values: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType[str, str]({}), repr=False
    )

    def restore(self, text: str, *, in_json: bool = False) -> str:
        """A text with every placeholder replaced by its value; those that nobody made stay.

        Args:
            text: what a model said.
            in_json: whether the text is JSON, in whose strings a value's quotes must be escaped.
        """
        if not self.values or "[" not in text:
            return text

        def value(found: re.Match[str]) -> str:
            known = self.values.get(f"[{found[1].upper()}_{int(found[2])}]")
            if known is None:
                return found[0]
            return json.dumps(known, ensure_ascii=False)[1:-1] if in_json else known

        return PLACEHOLDER.sub(value, text)


class Restorer:
    """Puts values back in a text that comes in pieces; never gives out half a placeholder.

    Args:
        replaced: what the placeholders stand for.
        in_json: whether the text is JSON.
    """

    def __init__(self, replaced: Replaced, *, in_json: bool = False) -> None:
        self._replaced = replaced
        self._in_json = in_json
        self._held = ""

    def take(self, piece: str) -> str:
        """What can be given out now that ``piece`` has come."""
        text = self._held + piece
        at = text.rfind("[", max(0, len(text) - _MOST_CHARACTERS))
        if at < 0 or not _BEGINNING.fullmatch(text, at):
            at = len(text)
        self._held = text[at:]
        return self._replaced.restore(text[:at], in_json=self._in_json)

    def rest(self) -> str:
        """What was held back, at the text's end."""
        held, self._held = self._held, ""
        return self._replaced.restore(held, in_json=self._in_json)
