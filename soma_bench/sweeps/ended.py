"""The row of a trial that has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from soma_bench.errors import ProviderError
from soma_bench.providers.prices import Cost
from soma_bench.sweeps.identity import describe_request
from soma_bench.sweeps.machine import MachineLoad
from soma_bench.sweeps.plan import Plan, PlannedTrial
from soma_bench.sweeps.store import TrialRecord, now
from soma_bench.types import Completion, Request, Target, Timings


class Rows:
    """Makes the rows of a plan's trials; what all trials of a target share is made once.

    Args:
        plan: the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._shared: dict[Target, Mapping[str, Any]] = {}

    def answered(
        self,
        trial: PlannedTrial,
        request: Request,
        completion: Completion,
        *,
        cost: Cost,
        load: MachineLoad,
        concurrency: int,
        memory_bytes: int | None,
    ) -> TrialRecord:
        """The row of a trial that was answered."""
        as_of = f", as of {cost.as_of}" if cost.as_of else ""
        usage, timings = completion.usage, completion.timings
        return TrialRecord(
            **self._always(trial, request),
            status="done",
            answer=completion.text,
            thoughts=completion.thinking,
            finish=completion.finish,
            structured_by=completion.structured_by,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
            thinking_tokens=usage.thinking_tokens,
            queue_s=timings.queue_s,
            load_s=timings.load_s,
            first_token_s=timings.first_token_s,
            first_answer_token_s=timings.first_answer_token_s,
            prefill_s=timings.prefill_s,
            decode_s=timings.decode_s,
            total_s=timings.total_s,
            start=_start(timings),
            other_cpu_share=load.other_cpu_share,
            busy=load.busy,
            power_mode=load.power_mode,
            concurrency=concurrency,
            memory_bytes=memory_bytes,
            cost_usd=cost.usd,
            cost_basis=cost.basis,
            cost_source=f"{cost.source}{as_of}",
        )

    def failed(self, trial: PlannedTrial, request: Request, error: ProviderError) -> TrialRecord:
        """The row of a trial that its backend did not answer."""
        told = f"{error.kind}: {error}"
        return TrialRecord(**self._always(trial, request), status="error", error=told)

    def _always(self, trial: PlannedTrial, request: Request) -> dict[str, Any]:
        target = trial.target
        if target not in self._shared:
            identity = self._plan.identities[target.provider, target.model]
            self._shared[target] = {
                "target": str(target),
                "provider": target.provider,
                "model": target.model,
                "quantization": target.quantization,
                "thinking": None if target.thinking is None else str(target.thinking),
                "identity": dataclasses.asdict(identity),
                "synthetic": identity.synthetic,
            }
        return {
            **self._shared[target],
            "key": trial.key,
            "agent": trial.agent,
            "case_id": trial.case.id,
            "repeat": trial.repeat,
            "request": describe_request(request),
            "ended_at": now(),
        }


def _start(timings: Timings) -> str | None:
    if timings.load_s is None:
        return None
    return "cold" if timings.load_s > 0 else "warm"
