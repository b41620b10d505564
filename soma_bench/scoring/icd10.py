"""How near an ICD-10-CM code comes to a right one."""

from __future__ import annotations

import re
import warnings
from bisect import bisect_right
from collections.abc import Collection
from functools import cache
from importlib import import_module
from typing import Any, Literal

from soma_bench.cases.pathologist import ICD10_FORM

Grade = Literal["exact", "parent", "chapter", "none"]

_CHAPTER_STARTS = (
    *("A00", "C00", "D50", "E00", "F01", "G00", "H00", "H60", "I00", "J00", "K00"),
    *("L00", "M00", "N00", "O00", "P00", "Q00", "R00", "S00", "U00", "V00", "Z00"),
)
"""First category of each chapter."""


def written(code: str) -> str:
    """A code without stray spaces and in capitals."""
    return code.strip().upper()


def is_well_formed(code: str) -> bool:
    """Whether a code has the form of one."""
    return re.fullmatch(ICD10_FORM, written(code)) is not None


def is_listed(code: str) -> bool | None:
    """Whether the classification has the code; None where ``simple-icd-10-cm`` is not installed.

    No score depends on it: scores are the same wherever they are made.
    """
    table = _classification()
    if table is None:
        return None
    return is_well_formed(code) and bool(table.is_valid_item(written(code)))


@cache
def _classification() -> Any:
    try:
        with warnings.catch_warnings():
            # It reads its tables, on import, by a function that the standard library deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            return import_module("simple_icd_10_cm")
    except ModuleNotFoundError:
        return None


def grade(code: str, right: Collection[str]) -> Grade:
    """``exact``, ``parent`` for the same category of three characters, ``chapter``, or ``none``.

    >>> grade("C34.90", ["C34.11"]), grade("D14.31", ["C34.11"]), grade("J18.9", ["C34.11"])
    ('parent', 'chapter', 'none')
    """
    said = written(code)
    if said in right:
        return "exact"
    if not is_well_formed(said):
        return "none"
    if said[:3] in {known[:3] for known in right}:
        return "parent"
    return "chapter" if _chapter(said) in {_chapter(known) for known in right} else "none"


def _chapter(code: str) -> int:
    return bisect_right(_CHAPTER_STARTS, code[:3])
