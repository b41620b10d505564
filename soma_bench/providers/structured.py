"""Structured answers from backends that cannot hold a model to a JSON Schema.

The schema goes into the prompt, and the JSON is taken out of what the model says around it. The
reading is tolerant of prose and code fences and of nothing else: JSON that is cut short, damaged or
stands twice is left as it is, so that it fails where the answer is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from soma_bench.files import canonical_json
from soma_bench.types import Message

_INSTRUCTION = "Answer with one JSON object and nothing else. It must follow this JSON Schema:\n"
_DECODER = json.JSONDecoder()


def ask_for_json(messages: Sequence[Message], schema: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation with the schema added to its system text."""
    instruction = _INSTRUCTION + canonical_json(schema)
    if messages and messages[0].role == "system":
        first = replace(messages[0], content=f"{messages[0].content}\n\n{instruction}")
        return (first, *messages[1:])
    return (Message("system", instruction), *messages)


def only_json(text: str) -> str:
    """The one JSON object that ``text`` holds; ``text`` itself where there is none or several."""
    found: list[str] = []
    place = text.find("{")
    while place >= 0:
        try:
            value, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            # What opens here never closes: whatever follows is a piece of it and no answer.
            return text
        assert isinstance(value, dict)
        found.append(text[place:end])
        place = text.find("{", end)
    return found[0] if len(found) == 1 else text
