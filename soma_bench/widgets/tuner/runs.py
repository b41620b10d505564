"""The runs that a tuner may pick from, in whatever store they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from soma_bench.comparison import Comparison, compare_run
from soma_bench.errors import ConfigError
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store


class Runs:
    """A store's runs.

    Args:
        store: path or URL of the store, or an open store, which stays open; as the command line
            finds it by default.
        named: a run's id, a sweep's name or ``latest``, or several of them; all runs by default.

    Raises:
        ConfigError: there is no such store or run.
    """

    def __init__(self, store: str | Path | Store | None, named: str | Sequence[str] | None) -> None:
        self._store = (
            store
            if isinstance(store, Store)
            else store_location(None if store is None else str(store))
        )
        self._is_strict = named is not None
        with self.opened() as opened:
            found = (
                opened.runs()[::-1]
                if named is None
                else [opened.find_run(text) for text in _listed(named)]
            )
            if not found:
                raise ConfigError(f"{opened.location}: holds no run; make one by soma-bench sweep")
        self.offered = [
            {"id": run.id, "name": run.name, "started_at": run.started_at} for run in found
        ]
        """Id, name and start of each."""

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """The store, open as long as it is needed."""
        if isinstance(self._store, Store):
            yield self._store
            return
        with Store(self._store) as opened:
            yield opened

    def find(self, text: str) -> str:
        """Id of the run called ``text``.

        Raises:
            ConfigError: there is none.
        """
        with self.opened() as opened:
            return opened.find_run(text).id

    def compare(self, run_id: str) -> Comparison:
        """A run, summed up without the details of its scores, which no choice asks for.

        Raises:
            ConfigError: none of its trials has ended.
        """
        with self.opened() as opened:
            return compare_run(opened, run_id, details=False)

    def first(self) -> Comparison:
        """The first run; where none was named, the first of which any trial has ended.

        Raises:
            ConfigError: there is none.
        """
        ids = [run["id"] for run in self.offered]
        if self._is_strict:
            return self.compare(ids[0])
        for run_id in ids[:-1]:
            try:
                return self.compare(run_id)
            except ConfigError:
                continue  # begun and not measured yet: nobody asked for this one by name
        return self.compare(ids[-1])


def _listed(named: str | Sequence[str]) -> Sequence[str]:
    return [named] if isinstance(named, str) else named
