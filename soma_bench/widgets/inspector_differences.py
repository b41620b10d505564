"""Where two texts differ, word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

_WORD = re.compile(r"\w+|\s+|[^\w\s]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_MOST_WORDS = 4000
"""Texts of more words together are compared line by line: words would take many seconds."""


class Piece(NamedTuple):
    """A run of characters that the other text has too, or has not."""

    text: str
    differs: bool


def mark_differences(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; put together again, the pieces of each are the text.

    A shortest list of changes is not promised: `difflib.SequenceMatcher` looks for the longest
    pieces in common, which people read more easily.
    """
    first, second = _WORD.findall(left), _WORD.findall(right)
    if len(first) + len(second) > _MOST_WORDS:
        first, second = _LINE.findall(left), _LINE.findall(right)
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    ours: list[Piece] = []
    theirs: list[Piece] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        _append(ours, first[a:b], differs=kind != "equal")
        _append(theirs, second[c:d], differs=kind != "equal")
    return ours, theirs


def _append(pieces: list[Piece], words: Sequence[str], *, differs: bool) -> None:
    if words:
        pieces.append(Piece("".join(words), differs))
