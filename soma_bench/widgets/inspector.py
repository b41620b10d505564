"""Looking into a run's trials: a table with filters, one trial whole, two targets side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.settings import store_location
from soma_bench.sweeps.queries import (
    Order,
    Page,
    TrialFilter,
    TrialRow,
    ended_counts,
    same_case,
    trial_page,
    whole_trial,
)
from soma_bench.sweeps.store import Store
from soma_bench.widgets.inspector_trial import case_images, trial_html
from soma_bench.widgets.panels import make_panel, render, with_text


class TrialInspector:
    """A run's trials that have ended, page by page, and any of them whole.

    Showing it is a matter of naming it at the end of a cell. Without a notebook the same is in
    `filter`, `rows`, `open` and `compare`. It reads the store and never writes.

    Args:
        run: a run's id, a sweep's name (its newest run), or ``latest``.
        store: path or URL of the store; ``$SOMA_BENCH_STORE`` or ``reports/runs.db`` by default.
        sweep_folder: folder of the run's sweep file, where the paths of image files start; a phantom
            needs none.
        page_rows: rows of a page, 1 to 500.

    Raises:
        ConfigError: there is no such store or run, or no page of so many rows.
    """

    def __init__(
        self,
        run: str = "latest",
        *,
        store: str | None = None,
        sweep_folder: Path | str = ".",
        page_rows: int = 50,
    ) -> None:
        self._store = Store(store_location(store))
        self._sweep_folder, self._page_rows = Path(sweep_folder), page_rows
        self._panel: Any = None
        self._filter = TrialFilter()
        self._order: Order = "plan"
        self._trial: Mapping[str, Any] | None = None
        self._other: Mapping[str, Any] | None = None
        self._html = ""
        self._drawn = 0
        self._alike: tuple[TrialRow, ...] = ()
        try:
            self._run = self._store.find_run(run)
            self._counts = ended_counts(self._store, self._run.id)
            self._page = self._read(self._filter, "plan", 0)
        except ConfigError:
            self.close()
            raise

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def rows(self) -> tuple[TrialRow, ...]:
        """The rows of the page that is shown."""
        return self._page.rows

    @property
    def total(self) -> int:
        """Trials that the filter leaves in."""
        return self._page.total

    @property
    def pages(self) -> int:
        """Pages that there are, at least 1."""
        return max(1, -(-self.total // self._page_rows))

    @property
    def page_number(self) -> int:
        """The page that is shown, from 1."""
        return self._page.offset // self._page_rows + 1

    @property
    def html(self) -> str:
        """The opened trial, or both, as HTML; empty when none is open."""
        return self._html

    def filter(self, *, order: Order = "plan", **wanted: Any) -> tuple[TrialRow, ...]:
        """Show the trials that a filter leaves in, from the first page.

        Args:
            order: ``plan``, ``worst`` (lowest score first) or ``slowest``.
            wanted: fields of `soma_bench.sweeps.queries.TrialFilter`; what is left out is not
                filtered by.

        Returns:
            The first page's rows.

        Raises:
            ConfigError: it is no filter; what was shown stays.
        """
        try:
            chosen = TypeAdapter(TrialFilter).validate_python(wanted, extra="forbid")
        except ValidationError as error:
            raise ConfigError(f"filter of trials: {first_problem(error)}") from error
        self._page = self._read(chosen, order, 0)
        self._filter, self._order = chosen, order
        self._draw()
        return self.rows

    def show_page(self, number: int) -> tuple[TrialRow, ...]:
        """Show a page, from 1; the last one where there are fewer.

        Returns:
            The page's rows.
        """
        wanted = min(max(1, number), self.pages)
        self._page = self._read(self._filter, self._order, (wanted - 1) * self._page_rows)
        self._draw()
        return self.rows

    def open(self, key: str) -> Mapping[str, Any]:
        """Open one trial: its texts are read now.

        Returns:
            Everything that is stored of it, as `soma_bench.sweeps.queries.whole_trial` gives it.

        Raises:
            ConfigError: the run has no such trial that has ended; what was open stays open.
        """
        trial = whole_trial(self._store, self.run_id, key)
        self._alike = tuple(
            row for row in same_case(self._store, self.run_id, key) if row.key != key
        )
        self._trial, self._other = trial, None
        self._render()
        return trial

    def compare(self, key: str | None) -> str:
        """Put another trial on the same case beside the one that is open; None takes it away.

        Returns:
            Both, as HTML with what differs marked.

        Raises:
            ConfigError: no trial is open, or the other is not on the same case.
        """
        if self._trial is None:
            raise ConfigError("no trial is open to compare with; open one first")
        if key is not None and key not in {row.key for row in self._alike}:
            raise ConfigError(
                f"trial {key!r} is not another one on case {self._trial['case_id']} of this run"
            )
        self._other = None if key is None else whole_trial(self._store, self.run_id, key)
        self._render()
        return self._html

    @property
    def same_case(self) -> tuple[TrialRow, ...]:
        """The other trials on the case of the one that is open."""
        return self._alike

    def close(self) -> None:
        """Close the connection to the store."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repr_mimebundle_(self, **kwargs: object) -> object:
        if self._panel is None:
            self._panel = make_panel("inspector", self.panel_state(), self._obey)
        ended: Counter[str] = Counter()
        for row in self._counts:
            ended[row.outcome] += row.count
        text = render("inspector.html.jinja", run=self.run_id, ended=ended)
        return with_text(self._panel, text, **kwargs)

    def panel_state(self, error: str = "") -> dict[str, Any]:
        """What the panel shows, as JSON values; every text but ``html`` is plain text."""
        first = self._page.offset + 1
        return {
            "run": self.run_id,
            "error": error,
            "drawn": self._drawn,
            "choices": {name: self._choices(name) for name in ("agent", "target", "outcome")},
            "filter": asdict(self._filter),
            "order": self._order,
            "page": {
                "number": self.page_number,
                "pages": self.pages,
                "text": (
                    f"{first:,} to {first + len(self.rows) - 1:,} of {self.total:,} trials"
                    if self.rows
                    else "no trial is like that"
                ),
            },
            "rows": [_row_texts(row) for row in self.rows],
            "open": None if self._trial is None else self._trial["key"],
            "other": None if self._other is None else self._other["key"],
            "alike": [{"key": row.key, "label": _label(row, self._trial)} for row in self._alike],
            "html": self._html,
        }

    def _choices(self, name: str) -> list[dict[str, str]]:
        """What a filter can be set to, with how many trials of the whole run there are of it."""
        counts: Counter[str] = Counter()
        for row in self._counts:
            counts[getattr(row, name)] += row.count
        titles = {str(agent): title for agent, title in AGENT_TITLES.items()}
        return [
            {"value": value, "label": f"{titles.get(value, value)} ({count:,})"}
            for value, count in counts.items()
        ]

    def _read(self, wanted: TrialFilter, order: Order, offset: int) -> Page:
        return trial_page(
            self._store,
            self.run_id,
            wanted,
            order=order,
            offset=offset,
            limit=self._page_rows,
        )

    def _render(self) -> None:
        assert self._trial is not None
        suite = self._run.sweep.get("suites", {}).get(self._trial["agent"], "")
        images = case_images(self._trial, (self._sweep_folder / suite).parent)
        self._html = trial_html(self._trial, self._other, images=images)
        self._draw()

    def _draw(self, error: str = "") -> None:
        # Counted, so that a command which changes nothing is seen to be done.
        self._drawn += 1
        if self._panel is not None:
            self._panel.state = self.panel_state(error)

    def _obey(self, command: Any) -> None:
        """Do what the panel asks; what cannot be done is shown there."""
        try:
            match command:
                case {"do": "filter", "filter": dict(wanted), "order": str(order)}:
                    given = {
                        name: value for name, value in wanted.items() if value not in ("", None)
                    }
                    self.filter(order=order, **given)  # type: ignore[arg-type]
                case {"do": "page", "number": int(number)}:
                    self.show_page(number)
                case {"do": "open", "key": str(key)}:
                    self.open(key)
                case {"do": "compare", "key": str(key)}:
                    self.compare(key or None)
        except ConfigError as error:
            self._draw(str(error))


def _row_texts(row: TrialRow) -> dict[str, str]:
    flags = [name for name, holds in (("cold", row.cold), ("busy", row.busy)) if holds]
    repeat = f", repeat {row.repeat + 1}" if row.repeat else ""
    return {
        "key": row.key,
        "agent": AGENT_TITLES[row.agent],
        "target": row.target,
        "case": f"{row.case_id}{repeat}",
        "outcome": row.outcome,
        "score": "" if row.score is None else f"{row.score:.3f}",
        "time": "" if row.total_s is None else f"{row.total_s:.2f} s",
        "tokens": "" if row.output_tokens is None else f"{row.output_tokens:,}",
        "cost": "?" if row.cost_usd is None else f"${row.cost_usd:.6f}",
        "flags": ", ".join(flags),
    }


def _label(row: TrialRow, opened: Mapping[str, Any] | None) -> str:
    repeat = f", repeat {row.repeat + 1}" if opened and row.target == opened["target"] else ""
    score = "no score" if row.score is None else f"score {row.score:.2f}"
    return f"{row.target}{repeat} ({row.outcome}, {score})"
