"""The store: one row per trial, unique by its key, in SQLite or PostgreSQL.

The contract: what is in the store is whole, for trials are recorded in transactions when they end,
one or many at a time, and what was running when a process died is simply not there. A trial that
failed for the backend's sake is kept as ``error`` and runs again on the next execution; every other
row is final. Requests and answers are kept, so that scoring can be repeated without calling a model.
"""

from __future__ import annotations

from soma_bench.sweeps.store.database import StoreMissingError
from soma_bench.sweeps.store.reading import Reading
from soma_bench.sweeps.store.records import (
    LookRecord,
    PlannedRow,
    RunRecord,
    ScoreRecord,
    TrialRecord,
    TrialStatus,
    now,
)
from soma_bench.sweeps.store.summary import Summing
from soma_bench.sweeps.store.writing import Writing

__all__ = [
    "LookRecord",
    "PlannedRow",
    "RunRecord",
    "ScoreRecord",
    "Store",
    "StoreMissingError",
    "TrialRecord",
    "TrialStatus",
    "now",
    "open_if_made",
]


class Store(Writing, Reading, Summing):
    """Reads and writes runs, trials and scores, and sums them up; see `Database` for opening it."""


def open_if_made(location: str) -> Store | None:
    """The store at a location; None where none has been made yet.

    Raises:
        ConfigError: what is there is no store.
    """
    try:
        return Store(location)
    except StoreMissingError:
        return None
