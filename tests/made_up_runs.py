"""Runs in a store, made by a scripted provider: every figure is made up and said to be so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripted import ScriptedProvider, completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.errors import ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, AgentName, Completion, ModelIdentity, Request, Timings

SUITES = Path(__file__).parent.parent / "data" / "suites"
SKILL = {"small-q4_0": 0.35, "small-q8_0": 0.6, "large-q4_0": 0.85}
"""How often each made-up model gives its agent's worked example as the answer."""


class _Models(ScriptedProvider):
    """Models of which those named ``synthetic`` say so."""

    def __init__(self, script: Callable[[Request], Completion], synthetic: frozenset[str]) -> None:
        super().__init__(script)
        self._synthetic = synthetic

    async def identity(self, model: str) -> ModelIdentity:
        return replace(
            await super().identity(model),
            synthetic=model in self._synthetic,
            weights_bytes=3_000_000_000 if model.startswith("large") else 1_000_000_000,
        )

    async def memory_bytes(self, model: str) -> int:
        return 3_500_000_000 if model.startswith("large") else 1_200_000_000


def store_run(
    path: Path,
    *,
    agents: tuple[AgentName, ...] = AGENTS,
    cases: int = 6,
    synthetic: frozenset[str] = frozenset(),
    script: Callable[[Request], Completion] | None = None,
    **sweep: Any,
) -> str:
    """Run a sweep of made-up models into the store at ``path``; the run's id."""
    declared = sweep_from(
        {
            "name": "made-up",
            "suites": {agent: str(SUITES / f"{agent}.jsonl") for agent in agents},
            "cases_per_agent": cases,
            "targets": [
                {"provider": "llamacpp", "model": model, "thinking": ["off", 64]} for model in SKILL
            ],
            **sweep,
        },
        "made-up.yaml",
    )

    async def go(store: Store) -> str:
        provider = _Models(script or answer, synthetic)
        async with ProviderPool(lambda _: provider) as pool:
            plan = await plan_sweep(declared, Path(), pool, store)
            await run_plan(plan, store, pool)
            return plan.run_id

    with Store(str(path), create=True) as store:
        return asyncio.run(go(store))


def answer(request: Request) -> Completion:
    """A made-up answer: right in form as often as the model's skill says, the same every time."""
    drawn = random.Random(f"{request.model} {request.thinking} {request.messages[-1].content}")
    agent = next(
        agent for agent in AGENT_BY_NAME.values() if agent.system == request.messages[0].content
    )
    skill = SKILL[request.model] + (0.1 if request.thinking != "off" else 0.0)
    total_s = (4.0 if request.model.startswith("large") else 1.0) * drawn.uniform(0.8, 1.4)
    if drawn.random() < 0.03:
        raise ProviderError("llamacpp", "the server <b>went</b> away", kind="backend")
    good = drawn.random() < skill
    said = completion(
        agent.write(drawn.choice(agent.examples)[1]) if good else "I am <script>not</script> sure",
        finish="stop" if good or drawn.random() < 0.7 else "length",
    )
    return replace(said, timings=Timings(load_s=0.0, first_token_s=0.1, total_s=total_s))
