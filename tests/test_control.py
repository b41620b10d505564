"""Pausing and stopping a sweep between its trials."""

import asyncio
import time
from pathlib import Path

from scripted import ScriptedProvider
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.store import Store
from test_runner import ANSWER, declared


def run(store: Store, control: Control, on_progress=lambda _: None):
    async def go():
        async with ProviderPool(lambda _: ScriptedProvider(lambda _: ANSWER)) as pool:
            plan = await plan_sweep(declared(), Path(), pool, store)
            return await run_plan(plan, store, pool, control=control, on_progress=on_progress)

    return asyncio.run(go())


def test_a_stopped_run_keeps_what_it_has_and_the_next_execution_runs_the_rest(tmp_path):
    control = Control()

    def stop_after_five(progress):
        if progress.done == 5:
            control.stop()

    with Store(str(tmp_path / "runs.db"), create=True) as store:
        stopped = run(store, control, stop_after_five)
        assert (stopped.called, stopped.total) == (5, 12)
        rest = run(store, Control())
        assert (rest.resumed, rest.called) == (5, 7)


def test_a_paused_run_begins_no_trial_until_it_is_resumed(tmp_path):
    control, waited = Control(), []

    def pause_once(progress):
        if progress.done == 3 and not waited:
            control.pause()
            waited.append(time.monotonic())
            asyncio.get_running_loop().call_later(0.2, control.resume)
        elif progress.done == 4:
            waited.append(time.monotonic())

    with Store(str(tmp_path / "runs.db"), create=True) as store:
        assert run(store, control, pause_once).called == 12
    assert waited[1] - waited[0] >= 0.2
