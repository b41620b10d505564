"""A sweep seen while it runs: progress, running estimates, failures, spend, time left; pause and stop."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from soma_bench.providers.pool import ProviderPool
from soma_bench.settings import store_location
from soma_bench.sweeps.background import BackgroundSweep
from soma_bench.sweeps.runner import Outcome
from soma_bench.sweeps.running import RunFigures, RunningFigures
from soma_bench.sweeps.spec import PlacedSweep, Sweep, load_sweep
from soma_bench.sweeps.store import RunRecord, Store
from soma_bench.widgets.panels import make_panel, render, with_text
from soma_bench.widgets.sweep_view_state import Controls, Stage, panel_state

_EVERY_S = 1.0
"""The view is drawn anew this often at most."""
_SHARE = 0.1
"""Most of the time that the view may spend looking: what it takes is lacking the models."""
_LOOK_EVERY_S = 0.05
"""How often `SweepView.ended` looks whether it has."""
_ESTIMATES_S = 0.05
"""Time for running estimates at each look while models work."""


class SweepView:
    """Runs a sweep in the background and shows it, or shows a run that is executed elsewhere.

    Making the view begins the sweep and returns at once; showing it is a matter of naming it at the
    end of a cell, and its buttons work while a later cell waits by ``await view.ended()``. For pages
    without a kernel the same stands as a table in the cell's output, which is left as it was at the
    end. Without a notebook it is in `figures`, `stage` and `wait`.

    Args:
        sweep: a sweep file, a placed sweep, or a sweep.
        store: path or URL of the store; ``$SOMA_BENCH_STORE`` or ``reports/runs.db`` by default.
        folder: where the paths of a sweep that is neither a file nor placed start; the working
            directory by default.
        fresh: start anew as another run, leaving what was measured before.
        providers: makes the pool that providers come from.

    Raises:
        ConfigError: the sweep file cannot be read or is not a sweep.
    """

    def __init__(
        self,
        sweep: Path | str | PlacedSweep | Sweep,
        *,
        store: str | None = None,
        folder: Path | str | None = None,
        fresh: bool = False,
        providers: Callable[[], ProviderPool] = ProviderPool,
    ) -> None:
        placed = _placed(sweep, folder)
        location = store_location(store)
        job = BackgroundSweep(
            placed.sweep, placed.folder, location, fresh=fresh, providers=providers
        )
        self._set_up(location, placed.sweep.name, job=job)
        job.start()
        self._watcher.start()

    @classmethod
    def attach(cls, run: str = "latest", *, store: str | None = None) -> Self:
        """Show a run that another process executes, or has executed; nothing is run or written.

        Args:
            run: a run's id, a sweep's name (its newest run), or ``latest``.
            store: path or URL of the store.

        Raises:
            ConfigError: there is no such store or run.
        """
        location = store_location(store)
        with Store(location) as opened:
            record = opened.find_run(run)
        view = cls.__new__(cls)
        view._set_up(location, record.name, run=record)
        view._watcher.start()
        return view

    def _set_up(
        self,
        location: str,
        name: str,
        *,
        job: BackgroundSweep | None = None,
        run: RunRecord | None = None,
    ) -> None:
        self._location, self._name, self._job, self._run = location, name, job, run
        self._figures: RunFigures | None = None
        self._error: BaseException | None = None
        self._panel: Any = None
        self._shown_as = ""
        """The id of the output in which it is shown."""
        self._left = threading.Event()
        """Set when nobody wants to watch any more."""
        self._watcher = threading.Thread(target=self._watch, name=f"view of {name}", daemon=True)

    @property
    def figures(self) -> RunFigures | None:
        """The run as it was at the latest look; None before it is laid out."""
        return self._figures

    @property
    def run_id(self) -> str | None:
        """The run's id; None while it is planned."""
        return self._figures.run_id if self._figures else None

    @property
    def stage(self) -> Stage:
        """What the sweep is doing."""
        if self._error is not None or (self._job and self._job.error is not None):
            return "failed"
        if self._job is None:
            if self._is_complete():
                return "complete"
            return "left" if self._left.is_set() else "watching"
        if not self._job.running:
            return "stopped" if self._job.control.stopped and not self._is_complete() else "done"
        if self._job.control.stopped:
            return "stopping"
        if self._job.control.paused:
            return "paused"
        return "running" if self._job.run_id else "planning"

    def pause(self) -> None:
        """Let no further trial begin until `resume`; the one in flight is finished and kept."""
        if self._job:
            self._job.control.pause()
        self._draw()

    def resume(self) -> None:
        """Go on after `pause`."""
        if self._job:
            self._job.control.resume()
        self._draw()

    def stop(self) -> None:
        """End the sweep after the trial in flight; of a run that is executed elsewhere, look away."""
        if self._job:
            self._job.control.stop()
        else:
            self._left.set()
        self._draw()

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """Wait until the sweep has ended; an interrupt (Ctrl-C) stops it after the trial in flight.

        Returns:
            What was done; None when it still runs after ``timeout_s``, was stopped while it was
            planned, or is executed elsewhere.

        Raises:
            SomaError: what ended the sweep, or the view of it.
        """
        try:
            self._watcher.join(timeout_s)
            outcome = self._job.wait(0.0 if timeout_s is not None else None) if self._job else None
        except KeyboardInterrupt:
            self.stop()
            raise
        finally:
            if timeout_s is None or not self._watcher.is_alive():
                self._keep_text()
        if self._error is not None:
            raise self._error
        return outcome

    async def ended(self) -> Outcome | None:
        """Wait as `wait` does, and let a notebook's kernel hear the buttons meanwhile.

        An interrupt stops the sweep after the trial in flight.

        Returns:
            What was done; None when it was stopped while it was planned, or is executed elsewhere.

        Raises:
            SomaError: what ended the sweep, or the view of it.
        """
        try:
            while self._watcher.is_alive():  # noqa: ASYNC110 - ended by another thread
                await asyncio.sleep(_LOOK_EVERY_S)
        except asyncio.CancelledError:
            self.stop()
            self._keep_text()
            raise
        return self.wait()

    def panel_state(self) -> dict[str, Any]:
        """What the panel shows, as JSON values."""
        stage = self.stage
        error = self._error or (self._job and self._job.error)
        return panel_state(
            stage,
            self._figures,
            controls=Controls(
                pause=stage in ("planning", "running"),
                resume=stage == "paused",
                stop=stage in ("planning", "running", "paused", "watching"),
            ),
            name=self._name,
            error=str(error or ""),
        )

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict[str, Any], dict[str, Any]]:
        state = self.panel_state()
        if self._panel is None:
            self._panel = make_panel("sweep_view", state, self._obey)
        return with_text(self._panel, render("sweep.html.jinja", **state), **kwargs)

    def _ipython_display_(self) -> None:
        self._shown_as = self._shown_as or secrets.token_hex(8)
        self._show(update=False)

    def _keep_text(self) -> None:
        """Leave in the notebook what can be read when its kernel has gone."""
        if self._shown_as:
            self._panel.send_state("state")
            self._show(update=True)

    def _show(self, *, update: bool) -> None:
        from IPython.display import publish_display_data

        data, metadata = self._repr_mimebundle_()
        publish_display_data(  # type: ignore[no-untyped-call]
            data, metadata, transient={"display_id": self._shown_as}, update=update
        )

    def _obey(self, command: Any) -> None:
        acts = {"pause": self.pause, "resume": self.resume, "stop": self.stop}
        asked = command.get("do") if isinstance(command, dict) else None
        if asked in acts:
            acts[asked]()

    def _is_complete(self) -> bool:
        return self._figures is not None and self._figures.ended == self._figures.planned

    def _draw(self) -> None:
        if self._panel is not None:
            self._panel.state = self.panel_state()

    def _watch(self) -> None:
        try:
            if self._job is None or self._job.wait_for_plan():
                self._follow()
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the thread that asks
            self._error = error
        if self._job:
            # The stage that is drawn last is the one that the sweep ended in.
            self._job.join()
        self._draw()

    def _follow(self) -> None:
        """Look at the run until it has ended or nobody wants to look."""
        job = self._job
        with Store(self._location) as store:
            run = self._run or store.find_run(str(job and job.run_id))
            running = RunningFigures(
                store,
                run,
                executes=job is not None,
                expected_s=job.expected_s if job else store.mean_seconds(),
            )
            running.read()
            while True:
                began = time.monotonic()
                # Asked before the look, so that what ended last is seen by the last look.
                last = not job.running if job else self._left.is_set() or self._is_complete()
                if job:
                    running.take(job.take_ended())
                else:
                    running.read()
                all_estimated = running.estimate(_EVERY_S if last else _ESTIMATES_S)
                self._figures = running.snapshot()
                self._draw()
                if last and all_estimated:
                    return
                if not last:
                    took = time.monotonic() - began
                    self._rest(max(_EVERY_S, took * (1 - _SHARE) / _SHARE))

    def _rest(self, seconds: float) -> None:
        if self._job:
            self._job.join(seconds)
        else:
            self._left.wait(seconds)


def _placed(sweep: Path | str | PlacedSweep | Sweep, folder: Path | str | None) -> PlacedSweep:
    if isinstance(sweep, PlacedSweep):
        return sweep
    if isinstance(sweep, Sweep):
        return PlacedSweep(sweep, Path(folder or "."))
    return PlacedSweep(load_sweep(Path(sweep)), Path(folder or Path(sweep).parent))
