"""Putting a plan's trials to their targets: each model loaded once, each account as it can bear.

What runs on this machine comes first and by itself, model after model, because a latency that was
measured beside other work is not the model's own. Clouds come after it, all accounts side by side.
Of the trials no more are in memory than are under way.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from soma_bench.errors import ProviderError
from soma_bench.providers import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.providers.prices import Prices
from soma_bench.providers.transports import CloudTransport, LocalTransport
from soma_bench.routing.privacy import Guard, stays
from soma_bench.sweeps.asking import Watched, asked_here, whole
from soma_bench.sweeps.control import Control
from soma_bench.sweeps.ended import Rows
from soma_bench.sweeps.lane import LONGEST_WAIT_S, Lane, Turn
from soma_bench.sweeps.limits import Budget, Need, need_of
from soma_bench.sweeps.machine import Watch
from soma_bench.sweeps.plan import Block, ModelKey, Plan, PlannedTrial
from soma_bench.sweeps.recorder import Recorder
from soma_bench.sweeps.spec import ProviderLimits
from soma_bench.sweeps.store import TrialRecord
from soma_bench.types import Completion, Message, ProviderName, Request, Target

POINTLESS = frozenset({"model_missing", "bad_key"})
"""Failures after which every other trial of the model would fail as well."""
_TRIES = 2
_TRIES_WITHOUT_ROOM = 6
"""A backend that has no room is well, and says so at once: that is worth more patience."""
_GREETING_TOKENS = 8
_FREE = Need(tokens=0, usd=0.0)


@dataclass(frozen=True, slots=True)
class _Group:
    """The blocks of one model, which run in a row."""

    blocks: Sequence[Block]
    start: int
    end: int

    @property
    def target(self) -> Target:
        """One of its targets, all of which have the same model."""
        return self.blocks[0].target


class Engine:
    """Runs the trials of one plan.

    Args:
        plan: the plan.
        wanted: a byte for each of its trials; 1 where it is to run. It becomes 0 when the trial
            begins, so that engines which share it share the work.
        providers: where providers come from; the caller closes it.
        recorder: keeps trials as they end.
        prices: what calls cost.
        guard: what every call to a cloud has to pass.
        budget: what the run may cost.
        control: pauses and stops the run.
        on_kept: told of every trial once it is stored.
        models: the models whose trials are run; None for all.
    """

    def __init__(
        self,
        plan: Plan,
        wanted: bytearray,
        *,
        providers: ProviderPool,
        recorder: Recorder,
        prices: Prices,
        guard: Guard,
        budget: Budget,
        control: Control,
        on_kept: Callable[[PlannedTrial, TrialRecord], None],
        models: Container[ModelKey] | None = None,
    ) -> None:
        self._plan = plan
        self._wanted = wanted
        self._providers = providers
        self._recorder = recorder
        self._prices = prices
        self._guard = guard
        self._budget = budget
        self._control = control
        self._on_kept = on_kept
        self._models = models
        self._rows = Rows(plan)

    async def run(self) -> None:
        """Run them all, or those that the budget and the control allow.

        Raises:
            ConfigError: a target cannot honour what the sweep asks of it, a price is not known that
                has to be, or the store cannot be written to.
            PrivacyError: a request must not leave this machine; nothing of it did.
            ProviderError: a model is missing or its key is wrong, so that going on is pointless.
        """
        here: list[_Group] = []
        clouds: dict[ProviderName, list[_Group]] = {}
        for group in self._groups():
            target = group.target
            if stays(target, self._providers.get(target.provider)):
                here.append(group)
                continue
            if self._budget.most_usd is not None:
                for block in group.blocks:
                    first = self._plan.trials[block.start]
                    need_of(block.target, self._plan.request(first), self._prices)
            clouds.setdefault(target.provider, []).append(group)
        for name, groups in groupby(here, key=lambda group: group.target.provider):
            await self._run_groups(name, list(groups), is_local=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                for name, cloud in clouds.items():
                    tasks.create_task(self._run_groups(name, cloud, is_local=False))
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures

    @property
    def is_over(self) -> bool:
        """Whether the control or the budget lets no further trial begin."""
        return self._control.stopped or self._budget.is_exhausted

    def models_left(self) -> list[ModelKey]:
        """The models that have trials which nobody has begun, in the order of the plan."""
        return [(group.target.provider, group.target.model) for group in self._groups()]

    def _groups(self) -> Iterator[_Group]:
        """The models that have anything to run, in the order of the plan."""
        size = len(self._plan.trials)
        blocks = self._plan.trials.blocks
        ends = [block.start for block in blocks[1:]] + [size]
        pairs = zip(blocks, ends, strict=True)
        for model, found in groupby(pairs, key=lambda pair: pair[0].model):
            if self._models is not None and model not in self._models:
                continue
            part = [(block, end) for block, end in found if block.start < end]
            if part and self._wanted.find(1, part[0][0].start, part[-1][1]) >= 0:
                yield _Group([block for block, _ in part], part[0][0].start, part[-1][1])

    async def _run_groups(
        self, name: ProviderName, groups: Sequence[_Group], *, is_local: bool
    ) -> None:
        provider = self._providers.get(name)
        lane = Lane(
            self._plan.sweep.limits.get(name, ProviderLimits()),
            is_local=is_local,
            budget=Budget(None) if is_local else self._budget,
            control=self._control,
        )
        for group in groups:
            if not await self._control.proceed():
                return
            first = self._wanted.find(1, group.start, group.end)
            if first < 0:
                continue  # another engine has begun them all
            await provider.unload(keep=frozenset({group.target.model}))
            if is_local and self._plan.sweep.warm_up:
                await _warm_up(self._plan.request(self._plan.trials[first]), provider)
            await self._run_group(group, provider, lane)
            await provider.unload()

    async def _run_group(self, group: _Group, provider: Provider, lane: Lane) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                at = self._wanted.find(1, group.start, group.end)
                while at >= 0:
                    self._wanted[at] = 0
                    trial = self._plan.trials[at]
                    if not await self._enter(lane, trial, at):
                        return
                    task = tasks.create_task(self._run_trial(trial, provider, lane))
                    # Not in the task itself: one that is cancelled at once never begins.
                    task.add_done_callback(partial(self._give_back, at))
                    at = self._wanted.find(1, at + 1, group.end)
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures

    async def _enter(self, lane: Lane, trial: PlannedTrial, at: int) -> bool:
        """Wait until a trial may begin; one that does not begin is still wanted."""
        entered = False
        try:
            entered = await lane.enter((trial.agent, trial.target))
        finally:
            self._wanted[at] = not entered
        return entered

    def _give_back(self, at: int, task: asyncio.Task[bool]) -> None:
        """A trial of which nothing was kept is still wanted."""
        self._wanted[at] = task.cancelled() or task.exception() is not None or not task.result()

    async def _run_trial(self, trial: PlannedTrial, provider: Provider, lane: Lane) -> bool:
        """Put one case to one target, and keep what came of it; False where it was not asked."""
        try:
            row = await self._ask(trial, provider, lane)
            if row is None:
                return False
            await self._recorder.keep(row)
            self._on_kept(trial, row)
            return True
        finally:
            lane.leave()

    async def _ask(self, trial: PlannedTrial, provider: Provider, lane: Lane) -> TrialRecord | None:
        """The trial's row, after another try where the failure may pass; None if it was not asked."""
        request = self._plan.request(trial)
        need = self._need(trial, request, lane)
        tries = 0
        while (turn := await lane.turn(need)) is not None:
            watch = Watch(trial.target.provider)
            try:
                completion = await self._answer(trial.target, request, provider)
            except ProviderError as error:
                turn.failed(error, tries)
                if error.kind in POINTLESS:
                    raise
                tries += 1
                if not _worth_another(error, tries):
                    return self._rows.failed(trial, request, error)
            except BaseException:
                turn.abandoned()
                raise
            else:
                return await self._answered(trial, request, completion, turn, watch, provider)
        return None

    async def _answered(
        self,
        trial: PlannedTrial,
        request: Request,
        completion: Completion,
        turn: Turn,
        watch: Watch,
        provider: Provider,
    ) -> TrialRecord:
        cost = self._prices.cost(trial.target, completion.usage, completion.timings.total_s)
        beside = turn.answered((trial.agent, trial.target), completion, cost.usd)
        if isinstance(completion, Watched):
            load, memory_bytes = completion.load, completion.memory_bytes
        else:
            load, memory_bytes = watch.stop(), await provider.memory_bytes(trial.target.model)
        return self._rows.answered(
            trial,
            request,
            completion,
            cost=cost,
            load=load,
            concurrency=beside,
            memory_bytes=memory_bytes,
        )

    def _need(self, trial: PlannedTrial, request: Request, lane: Lane) -> Need:
        capped = lane.budget.most_usd is not None
        if not capped and not lane.tokens.is_limited:
            return _FREE
        return need_of(trial.target, request, self._prices if capped else None)

    async def _answer(self, target: Target, request: Request, provider: Provider) -> Completion:
        """The whole answer, streamed where only a stream times the first token."""
        if stays(target, provider):
            return await asked_here(provider, request)
        cleared = self._guard.clear(request, target, self._plan.sweep.privacy)
        return await whole(provider.name, CloudTransport(provider).stream(cleared))


def _worth_another(error: ProviderError, tries: int) -> bool:
    most = _TRIES_WITHOUT_ROOM if error.kind in ("rate_limited", "overloaded") else _TRIES
    return error.retryable and tries < most and (error.wait_s or 0.0) <= LONGEST_WAIT_S


async def _warm_up(first: Request, provider: Provider) -> None:
    """Have a model loaded, with the context and thinking of its first trial; nothing is kept."""
    greeting = dataclasses.replace(
        first,
        messages=(Message("user", "Hello"),),
        max_tokens=_GREETING_TOKENS,
        schema=None,
    )
    try:
        await LocalTransport(provider).complete(greeting)
    except ProviderError as error:
        if error.kind in POINTLESS:
            raise
        # Whatever else is wrong, the first trial meets it too, and keeps it.


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended a group of tasks: the first failure, after which the others were cancelled."""
    failure = failures.exceptions[0]
    return _first(failure) if isinstance(failure, BaseExceptionGroup) else failure
