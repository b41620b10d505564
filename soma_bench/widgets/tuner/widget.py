"""The tuner: a form of demands, and beside it the routing that the optimiser chooses for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import traitlets

from soma_bench.comparison import Comparison
from soma_bench.errors import ConfigError, SomaError
from soma_bench.optimize import Infeasible, Order, Solution, build_profile
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.constraints import Constraints, Objective
from soma_bench.routing.profile import Profile
from soma_bench.sweeps.store import Store
from soma_bench.tuning import Tuning, tune
from soma_bench.types import AgentName
from soma_bench.widgets.tuner.answer import Answer, answer, answer_as_json, in_words
from soma_bench.widgets.tuner.background import NewestFirst, SideProcess
from soma_bench.widgets.tuner.beside import PARTS
from soma_bench.widgets.tuner.demands import Demands
from soma_bench.widgets.tuner.export import Exported, export
from soma_bench.widgets.tuner.measure import SWEEP_FOLDERS, Measured, Measuring
from soma_bench.widgets.tuner.runs import Runs
from soma_bench.widgets.tuner.sheet import Sheet
from soma_bench.widgets.tuner.view import TunerView


class RoutingTuner(TunerView):
    """Chooses a routing by sliders; the choice is `soma_bench.optimize.optimize`'s.

    Display it in JupyterLab or Voila, or drive it from a script: set `constraints`, `pipeline`,
    `objective` or `excluded`, then read `solution` or `profile`. Answers are worked out on a thread
    of the tuner's own, and what takes longer in a process, so that the kernel stays free.

    Args:
        runs: a run's id, a sweep's name or ``latest``, or several of them to pick from; all runs
            of the store by default. The first is shown first.
        store: path or URL of the store, or an open store; as the command line finds it by default.
        constraints: what to begin with.
        pipeline: how the stages run.
        objective: what is best.
        profiles: folder that `export` writes to.
        profile_name: name of the exported profile; the sweep's by default.
        current: the profile in use, which an export is compared with; by default the one that it
            takes the place of.
        sweep_folder: folder of the run's sweep file, for `measure_more`; looked for by default.
        pool: makes the providers that `measure_more` calls.

    Raises:
        ConfigError: there is no such run, or the first has nothing to choose from.
    """

    def __init__(
        self,
        runs: str | Sequence[str] | None = None,
        *,
        store: str | Path | Store | None = None,
        constraints: Constraints | None = None,
        pipeline: Order = "sequential",
        objective: Objective = "quality_latency_cost",
        profiles: str | Path = "routing_profiles",
        profile_name: str | None = None,
        current: str | Path | None = None,
        sweep_folder: str | Path | None = None,
        pool: Callable[[], ProviderPool] = ProviderPool,
    ) -> None:
        self._profiles = Path(profiles)
        self._profile_name = profile_name
        self._current = None if current is None else Path(current)
        self._folders = SWEEP_FOLDERS if sweep_folder is None else (Path(sweep_folder),)
        self._pool = pool
        self._publishing = threading.RLock()
        self._parts_changed = threading.Condition(self._publishing)
        self._worker = NewestFirst("tuner")
        self._side = SideProcess(self._on_part)
        self._measurement: Measuring | None = None
        self._latest: Answer | None = None
        self._has_new_trials = False
        # What is closed later stands above: what follows may be refused.
        self._all_runs = Runs(store, runs)
        self._current_sheet = Sheet(self._all_runs.first())
        self._side.load(self._current_sheet.comparison)
        demands = Demands(
            run=self._current_sheet.comparison.run.id,
            constraints=constraints or Constraints(),
            pipeline=pipeline,
            objective=objective,
        )
        with self._publishing:  # so that no answer comes before there is a widget to show it
            super().__init__(
                _runs=self._all_runs.offered,
                _sheet=self._sheet_as_json(),
                _demands=demands.as_json(),
                _measuring=asdict(Measured(state="done")),
            )
        self.on_msg(self._on_message)

    # What is asked.

    @property
    def demands(self) -> Demands:
        """All that is asked for."""
        return Demands.checked(self._demands)

    def demand(self, **changes: Any) -> None:
        """Change some of the `Demands` at once; the others stay.

        Raises:
            ConfigError: a field is unknown or out of its range; nothing was changed.
        """
        with self._publishing:
            now = self.demands
            content = {**dict(now), **changes, "revision": now.revision + 1}
            self._demands = Demands.checked(content).as_json()

    def apply_preset(self, name: str) -> None:
        """Change what a preset changes: ``private``, ``fastest``, ``cheapest`` or ``original``.

        Raises:
            ConfigError: there is no such preset.
        """
        presets = {preset.name: preset for preset in self._current_sheet.presets}
        if name not in presets:
            raise ConfigError(f"no preset {name!r}; there are: {', '.join(presets)}")
        with self._publishing:
            now = self.demands
            changed = presets[name].apply(now.as_json())
            self._demands = Demands.checked({**changed, "revision": now.revision + 1}).as_json()

    @property
    def run(self) -> str:
        """Id of the run that is chosen from."""
        return self.demands.run

    @run.setter
    def run(self, value: str) -> None:
        self.demand(run=self._all_runs.find(value), excluded={})

    @property
    def constraints(self) -> Constraints:
        """What the routing must hold."""
        return self.demands.constraints

    @constraints.setter
    def constraints(self, value: Constraints) -> None:
        self.demand(constraints=value)

    @property
    def pipeline(self) -> Order:
        """How the stages run."""
        return self.demands.pipeline

    @pipeline.setter
    def pipeline(self, value: Order) -> None:
        self.demand(pipeline=value)

    @property
    def objective(self) -> Objective:
        """What is best."""
        return self.demands.objective

    @objective.setter
    def objective(self, value: Objective) -> None:
        self.demand(objective=value)

    @property
    def excluded(self) -> Mapping[AgentName, Sequence[str]]:
        """By agent, the targets that may not play."""
        return self.demands.excluded

    @excluded.setter
    def excluded(self, value: Mapping[AgentName, Sequence[str]]) -> None:
        self.demand(excluded={agent: list(targets) for agent, targets in value.items()})

    # What is answered.

    @property
    def comparison(self) -> Comparison:
        """The run that is chosen from, summed up without the details of its scores."""
        self._worker.wait()
        return self._current_sheet.comparison

    @property
    def solution(self) -> Solution | Infeasible:
        """The optimiser's answer to the newest demands.

        Raises:
            SomaError: the demands cannot be answered, e.g. for a limit on an unknown price.
        """
        result = self._newest().result
        if isinstance(result, SomaError):
            raise result
        return result

    @property
    def profile(self) -> Profile | Infeasible:
        """The profile that `export` would write, or what stands in its way.

        Raises:
            ConfigError: as `solution`, or its name does not fit.
        """
        return self._profile(None)

    def _profile(self, name: str | None) -> Profile | Infeasible:
        solution = self.solution
        if isinstance(solution, Infeasible):
            return solution
        comparison = self.comparison
        return build_profile(
            solution,
            name=name or self._profile_name or comparison.run.name,
            evidence=self._newest().playing,
            provenance=comparison.provenance,
        ).sealed()

    def tuning(self, name: str | None = None) -> Tuning:
        """The choice with what binds and its profile, for figures and tables.

        Raises:
            ConfigError: as `solution`, or the name does not fit.
        """
        demands = self.demands
        comparison = self.comparison
        return tune(
            comparison,
            demands.constraints,
            pipeline=demands.pipeline,
            objective=demands.objective,
            name=name or self._profile_name or comparison.run.name,
            evidence=demands.playing(comparison.evidence),
        )

    def parts(self, timeout_s: float = 60.0) -> Mapping[str, Mapping[str, Any]]:
        """What stands beside the choice, by the names of `beside.PARTS`; waits until it is there.

        Raises:
            SomaError: it was not there in time.
            OSError: the process that works it out cannot be started.
        """
        newest = self._newest()
        if not isinstance(newest.result, Solution):
            return {}
        self._side.wait(timeout_s)
        with self._parts_changed:
            if not self._parts_changed.wait_for(self._has_all_parts, timeout_s):
                raise SomaError(f"the tuner's side figures took longer than {timeout_s:g} s")
            return dict(self._beside["parts"])

    def export(self, name: str | None = None) -> Exported:
        """Write the chosen routing to the folder of profiles.

        Raises:
            ConfigError: nothing fits, the name does not fit, or the file cannot be written.
        """
        routing = self._profile(name)
        if isinstance(routing, Infeasible):
            raise ConfigError(routing.message)
        return export(routing, self._profiles / f"{routing.name}.json", self._current)

    # Measuring.

    def measure_more(self) -> Measuring:
        """Run the run's missing trials in the background; the choice follows when they have ended.

        Raises:
            ConfigError: it is under way already.
        """
        run = self.comparison.run
        with self._publishing:
            if self._measuring["state"] == "running":
                raise ConfigError("trials are being measured already; stop them first")
            self._measurement = Measuring(
                run,
                self._all_runs.opened,
                folders=self._folders,
                pool=self._pool,
                on_change=self._on_measured,
            )
            self._measurement.start()
            return self._measurement

    def stop_measuring(self) -> None:
        """Let the trial under way end and begin no other."""
        if self._measurement is not None:
            self._measurement.stop()

    def close(self) -> None:
        """Stop all that runs in the background, and take the widget off."""
        if self._measurement is not None:
            self._measurement.stop()
            self._measurement.wait()
        self._worker.close()
        self._side.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and for pages without a kernel the choice in words."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        self._worker.wait()
        where = f"The tuner of run {self.run} moves in JupyterLab and Voila. Its choice here:"
        said = in_words(self._latest) if self._latest else self._answer["message"]
        return {**data, "text/html": f"<p>{escape(where)} {escape(said)}.</p>"}, metadata

    # Between the threads.

    @traitlets.observe("_demands")
    def _on_demands(self, _: object) -> None:
        self._ask()

    def _ask(self) -> None:
        self._worker.submit(partial(self._solve, self._demands))

    def _solve(self, content: Mapping[str, Any]) -> None:
        try:
            demands = Demands.checked(content)
            sheet = self._sheet_for(demands.run)
        except SomaError as error:
            told = {"revision": content.get("revision"), "state": "error", "message": str(error)}
            self._publish(_answer=told)
            return
        given = answer(sheet, demands)
        self._latest = given
        self._publish(_answer=answer_as_json(sheet, given))
        if isinstance(given.result, Solution):
            self._side.ask(demands)

    def _sheet_for(self, run_id: str) -> Sheet:
        if self._has_new_trials or self._current_sheet.comparison.run.id != run_id:
            self._has_new_trials = False
            self._current_sheet = Sheet(self._all_runs.compare(run_id))
            self._side.load(self._current_sheet.comparison)
            self._publish(_sheet=self._sheet_as_json(), _exported={})
        return self._current_sheet

    def _sheet_as_json(self) -> dict[str, Any]:
        name = self._profile_name or self._current_sheet.comparison.run.name
        return {**self._current_sheet.as_json(), "profile_name": name}

    def _newest(self) -> Answer:
        self._worker.wait()
        if self._latest is None or self._latest.demands != self.demands:
            raise SomaError(str(self._answer.get("message", "the tuner is closed")))
        return self._latest

    def _on_part(self, revision: int, name: str, content: Mapping[str, Any]) -> None:
        with self._parts_changed:
            if self._latest is None or revision != self._latest.demands.revision:
                return
            earlier = self._beside["parts"] if self._beside.get("revision") == revision else {}
            self._beside = {"revision": revision, "parts": {**earlier, name: dict(content)}}
            self._parts_changed.notify_all()

    def _has_all_parts(self) -> bool:
        assert self._latest is not None
        here = self._beside.get("revision") == self._latest.demands.revision
        return here and PARTS.keys() == self._beside["parts"].keys()

    def _on_measured(self, measured: Measured) -> None:
        self._publish(_measuring=asdict(measured))
        if measured.state != "running":
            self._has_new_trials = True
            self.demand()

    def _on_message(self, _: object, content: Mapping[str, Any], __: object) -> None:
        actions: Mapping[str, Callable[[], object]] = {
            "preset": lambda: self.apply_preset(str(content.get("name"))),
            "export": self._export_aside(str(content.get("name") or "")).start,
            "measure": self.measure_more,
            "stop": self.stop_measuring,
        }
        try:
            actions[content["do"]]()
        except SomaError as error:
            self._publish(_exported={"error": str(error)})

    def _export_aside(self, name: str) -> threading.Thread:
        # The newest answer is waited for, which is not to hold the kernel up.
        return threading.Thread(target=self._export, args=(name,), daemon=True)

    def _export(self, name: str) -> None:
        try:
            done = self.export(name or None)
        except SomaError as error:
            self._publish(_exported={"error": str(error)})
            return
        self._publish(_exported=done.as_json())
