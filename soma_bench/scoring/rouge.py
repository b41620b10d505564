"""ROUGE-L, because readers know it; never ranked on.

It hardly sees what matters: on real reports a left for a right scores 0.965 and a harmless paraphrase
0.545.
"""

from __future__ import annotations

import re


def rouge_l(text: str, reference: str) -> float:
    """F1 of the longest common subsequence of words (Lin 2004).

    >>> rouge_l("8 mm nodule in the left lung", "8 mm nodule in the right lung")
    0.8571428571428571
    """
    said, known = _tokens(text), _tokens(reference)
    if not said or not known:
        return 0.0
    return 2 * _common(said, known) / (len(said) + len(known))


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+(?:\.[0-9]+)?", text.lower())


def _common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for column, match in enumerate(other, start=1):
            above = row[column]
            row[column] = before + 1 if word == match else max(above, row[column - 1])
            before = above
    return row[-1]
