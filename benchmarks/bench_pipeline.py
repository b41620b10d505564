"""How much the pipeline adds to the stages on its critical path.

Stub stages take fixed times, so the critical path is known to the millisecond; a run also goes
through machines, deadlines, events and telemetry as a live one does. The second part counts what
one analysis costs in CPU time where stages take no time at all.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.report_writer import ReportContext
from soma_bench.pipeline import Analysis, Machines, analyse
from soma_bench.routing.constraints import Pipeline, chains
from soma_bench.routing.context import CallContext
from soma_bench.routing.routed import Routed
from soma_bench.types import AGENTS, AgentName, Completion, Target, Timings, Usage

STAGE_S: Mapping[AgentName, float] = {
    "alignment": 0.05,
    "radiologist": 0.2,
    "pathologist": 0.15,
    "report_writer": 0.25,
    "qc_reviewer": 0.1,
}
REPEATS = 7
ANALYSES = 200

_COMPLETION = Completion(text="", finish="stop", usage=Usage(), timings=Timings(total_s=0.0))
_OUTPUTS: dict[AgentName, Any] = {
    name: agent.examples[0][1] for name, agent in AGENT_BY_NAME.items()
}


def stub(seconds: Mapping[AgentName, float]) -> Any:
    async def ask(agent: AgentName, _: BaseModel, __: CallContext) -> Routed:
        if seconds:
            await asyncio.sleep(seconds[agent])
        return Routed(
            agent=agent,
            target=Target("llamacpp", "stub"),
            completion=_COMPLETION,
            output=_OUTPUTS[agent],
            passed_over=(),
            privacy="open",
            cost_usd=0.0,
        )

    return ask


def example() -> Analysis:
    return Analysis(
        message="Please report this CT.",
        imaging=AGENT_BY_NAME["radiologist"].examples[0][0],
        context=ReportContext(indication="Cough.", technique="Chest CT."),
    )


async def measure(order: Pipeline, machines: Machines) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        await analyse(example(), stub(STAGE_S), order=order, deadline_s=60, machines=machines)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


async def cpu_s() -> float:
    machines = Machines(lambda *_: "gpu")
    case, ask = example(), stub({})
    started = time.process_time()
    for _ in range(ANALYSES):
        await analyse(case, ask, order="parallel", deadline_s=60, machines=machines)
    return (time.process_time() - started) / ANALYSES


async def main() -> None:
    remote = Machines(lambda *_: None)
    cases: tuple[tuple[str, Pipeline, Machines, float], ...] = (
        ("sequential", "sequential", Machines(lambda *_: "gpu"), sum(STAGE_S.values())),
        (
            "parallel, remote",
            "parallel",
            remote,
            max(sum(STAGE_S[agent] for agent in chain) for chain in chains("parallel")),
        ),
        # One accelerator, so the way through it is all five stages one after the other.
        ("parallel, one machine", "parallel", Machines(lambda *_: "gpu"), sum(STAGE_S.values())),
    )
    for name, order, machines, path_s in cases:
        taken = await measure(order, machines)
        print(
            f"{name:24} {taken * 1000:7.1f} ms of {path_s * 1000:6.1f} ms  {taken / path_s:6.4f} x"
        )
    each = await cpu_s()
    print(
        f"{'CPU of one analysis':24} {each * 1e6:7.0f} us  {each * 1e6 / len(AGENTS):5.0f} us a stage"
    )


if __name__ == "__main__":
    asyncio.run(main())
