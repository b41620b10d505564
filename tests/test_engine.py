"""The sweep engine: side by side within limits, nothing lost, nothing paid beyond the cap."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from scripted import ScriptedProvider, completion
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.adaptive import ALONE, Adaptive
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.explain import explain_misses
from soma_bench.sweeps.limits import Budget, Pace
from soma_bench.sweeps.plan import Plan
from soma_bench.sweeps.recorder import Recorder
from soma_bench.sweeps.runner import Outcome, plan_sweep, run_plan
from soma_bench.sweeps.store import Store
from soma_bench.types import Timings, Usage
from stored import RUN, planned, trial
from test_runner import ANSWER, declared

CLOUD = [{"provider": "claude", "model": "claude-sonnet-5-5"}]


class Slow(ScriptedProvider):
    """A cloud that takes its time, and counts how many calls it has at a time."""

    name, is_local = "claude", False

    def __init__(
        self, seconds: float = 0.01, most: int = 1000, wait_s: float | None = None
    ) -> None:
        super().__init__(lambda _: ANSWER)
        self._seconds, self._most, self._wait_s = seconds, most, wait_s
        self.now = self.peak = self.refused = 0
        self.began: list[float] = []

    async def complete(self, request):
        if self.now >= self._most:
            self.refused += 1
            raise ProviderError("claude", "full", kind="rate_limited", wait_s=self._wait_s)
        self.now += 1
        self.peak = max(self.peak, self.now)
        loop = asyncio.get_running_loop()
        self.began.append(loop.time())
        try:
            await asyncio.sleep(self._seconds)
            self.requests.append(request)
        finally:
            self.now -= 1
        spent = loop.time() - self.began[-1] if self.now == 0 else self._seconds
        return replace(
            completion(ANSWER),
            usage=Usage(prompt_tokens=1000, output_tokens=100),
            timings=Timings(total_s=min(spent, self._seconds)),
        )


def execute(store: Store, provider: ScriptedProvider, **changes) -> tuple[Plan, Outcome]:
    async def go() -> tuple[Plan, Outcome]:
        async with ProviderPool(lambda _: provider) as pool:
            sweep = declared(**{"targets": CLOUD, "privacy": "open", **changes})
            plan = await plan_sweep(sweep, Path(), pool, store)
            return plan, await run_plan(plan, store, pool)

    return asyncio.run(go())


def test_a_stated_concurrency_is_kept_and_written_down(store):
    provider = Slow()
    plan, outcome = execute(store, provider, repeats=5, limits={"claude": {"concurrency": 4}})
    assert (outcome.called, outcome.left, provider.peak) == (15, 0, 4)
    rows = list(store.trials(plan.run_id))
    assert max(row["concurrency"] for row in rows) == 4
    assert len({row["key"] for row in rows}) == 15


def test_a_local_provider_is_asked_one_thing_at_a_time_unless_told(store):
    provider = Slow()
    provider.name, provider.is_local = "llamacpp", True
    local = [{"provider": "llamacpp", "model": "a"}]
    plan, _ = execute(store, provider, targets=local)
    assert provider.peak == 1
    assert {row["concurrency"] for row in store.trials(plan.run_id)} == {1}
    execute(store, provider, targets=local, repeats=4, limits={"llamacpp": {"concurrency": 3}})
    assert provider.peak == 3


def test_a_provider_that_times_its_tokens_itself_is_not_made_to_stream(store):
    class Itself(ScriptedProvider):
        complete_times_tokens = True

        async def complete(self, request):
            whole = await super().complete(request)
            return replace(whole, timings=Timings(first_token_s=0.25, total_s=1.0))

        def stream(self, request):
            raise AssertionError("nothing is to be streamed")

    targets = [{"provider": "llamacpp", "model": "m"}]
    plan, outcome = execute(store, Itself(lambda _: ANSWER), targets=targets)
    assert (outcome.called, outcome.failed) == (3, 0)
    assert [row["first_token_s"] for row in store.trials(plan.run_id)] == [0.25] * 3


def test_refusals_for_want_of_room_are_waited_out_and_no_trial_is_lost(store):
    provider = Slow(most=2, wait_s=0.02)
    _, outcome = execute(store, provider, repeats=20)
    assert (outcome.called, outcome.failed) == (60, 0)
    assert provider.refused > 0


def test_an_adaptive_number_grows_while_there_is_room_and_shrinks_in_a_queue():
    def settled(capacity: int) -> int:
        found, clock = Adaptive(most=64), 0.0
        for _ in range(4000):
            calls = found.limit("kind")
            took = 1.0 * max(1.0, calls / capacity)
            answer = replace(completion(ANSWER), timings=Timings(total_s=took))
            found.answered("kind", answer, clock)
            clock += took
        return found.limit("kind")

    assert settled(capacity=1) <= 2, "one more is tried now and then"
    assert 5 <= settled(capacity=8) <= 16
    assert settled(capacity=1000) == 64


def test_refusals_of_one_moment_halve_the_number_once():
    found = Adaptive()
    answer = replace(completion(ANSWER), timings=Timings(total_s=1.0))
    for second in range(ALONE + 200):
        found.answered("kind", answer, float(second))
    before = found.limit("kind")
    for _ in range(10):
        found.refused(300.0, 301.0)
    assert before > 4
    assert found.limit("kind") == before // 2
    assert found.limit("another kind") == 1, "its first calls go alone"


def test_requests_are_spread_evenly_over_the_minute(store):
    provider = Slow(seconds=0.0)
    limits = {"claude": {"concurrency": 8, "requests_per_minute": 1200}}
    execute(store, provider, limits=limits, repeats=3)
    assert provider.began[-1] - provider.began[0] >= 8 * 0.05 - 0.01


def test_calls_begin_only_as_fast_as_their_answers_can_be_read(store):
    """Else an answer of 20 ms waits behind the beginnings and endings of 31 others."""

    class Laborious(Slow):
        async def complete(self, request):
            work()
            loop = asyncio.get_running_loop()
            sent = loop.time()
            await asyncio.sleep(0.02)
            waits.append(loop.time() - sent)
            work()
            return await super().complete(request)

    def work() -> None:
        until = time.thread_time() + 0.003
        while time.thread_time() < until:
            pass

    waits: list[float] = []
    provider = Laborious(seconds=0)
    execute(store, provider, repeats=40, limits={"claude": {"concurrency": 32}})
    assert len(waits) == 120
    assert median(waits) < 0.05, "begun as they come they wait for some 0.08 s"


def test_tokens_that_were_not_used_are_given_back():
    pace = Pace(60)
    assert pace.take(30, 0.0) == 0.0
    pace.give_back(20)
    assert pace.take(1, 0.0) == pytest.approx(10.0)
    assert Pace(None).take(1000, 5.0) == 5.0


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_cap_on_costs_is_never_passed_and_the_rest_is_left(store, concurrency):
    limits = {"claude": {"concurrency": concurrency}}
    targets = [{"provider": "claude", "model": "claude-sonnet-5-5", "thinking": ["off"]}]
    cap = 0.1
    changes = {"repeats": 40, "limits": limits, "targets": targets, "max_cost_usd": cap}
    plan, outcome = execute(store, Slow(), **changes)
    spent = sum(row["cost_usd"] for row in store.trials(plan.run_id))
    assert outcome.stopped_by == "max_cost_usd"
    assert 0 < outcome.called < 120
    assert outcome.left == 120 - outcome.called
    assert spent <= cap
    _, again = execute(store, Slow(), **changes)
    assert again.resumed == outcome.called
    assert sum(row["cost_usd"] for row in store.trials(plan.run_id)) <= cap


def test_a_cap_without_a_price_is_refused_before_anything_is_sent(store):
    provider = Slow()
    targets = [*CLOUD, {"provider": "claude", "model": "claude-nobody-9"}]
    with pytest.raises(
        ConfigError, match=r"max_cost_usd cannot be held for claude:claude-nobody-9"
    ):
        execute(store, provider, targets=targets, max_cost_usd=1.0)
    assert provider.requests == []


def test_a_budget_waits_for_what_may_come_cheaper():
    async def go() -> tuple[bool, bool]:
        budget = Budget(1.0)
        assert await budget.reserve(0.8)
        second = asyncio.create_task(budget.reserve(0.8))
        await asyncio.sleep(0)
        assert not second.done()
        budget.settle(0.8, 0.1)
        return await second, budget.is_exhausted

    assert asyncio.run(go()) == (True, False)


def test_trials_that_end_together_are_committed_together_and_none_before(store):
    rows = planned(cases=4)
    store.begin_run(RUN, rows)
    batches = []
    record_many = store.record_many

    def counted(trials):
        batch = list(trials)
        record_many(batch)
        batches.append(len(batch))

    store.record_many = counted

    async def go() -> None:
        with Recorder(store) as recorder:
            await asyncio.gather(*(recorder.keep(trial(row)) for row in rows))
            assert store.finished_keys(RUN.id) == {row.key for row in rows}

    asyncio.run(go())
    assert sum(batches) == 4


def test_a_store_that_fails_ends_the_run_with_its_own_words(store):
    def full(trials):
        raise ConfigError("runs.db: cannot be used as a store: disk is full")

    store.record_many = full
    with pytest.raises(ConfigError, match="disk is full"):
        execute(store, Slow(), limits={"claude": {"concurrency": 2}})


def test_signals_pause_a_run_and_let_it_go_on():
    async def go() -> list[bool]:
        control, seen = Control(), []
        with control.heeding_signals():
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.05)
                seen.append(control.paused)
        return seen

    assert asyncio.run(go()) == [True, False]


def test_every_miss_is_explained_by_what_changed(store):
    execute(store, Slow())

    def why(**changes) -> dict[str, int]:
        async def go():
            async with ProviderPool(lambda _: Slow()) as pool:
                sweep = declared(**{"targets": CLOUD, "privacy": "open", **changes})
                return await plan_sweep(sweep, Path(), pool, store)

        return {miss.reason: miss.trials for miss in explain_misses(asyncio.run(go()), store)}

    assert why() == {}
    assert why(options={"temperature": 0.5}) == {"options.temperature: 0.0 → 0.5": 3}
    assert why(repeats=2) == {"repeat: only other repeats are stored": 3}
    assert why(cases_per_agent=4) == {"new case: nothing of it is stored for this agent": 1}
    other = [{"provider": "claude", "model": "claude-sonnet-5-5", "thinking": ["off"]}]
    assert why(targets=other) == {"thinking: None → off": 3}
