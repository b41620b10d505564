"""What an embedded sweep makes of the engine beside the bare engine, with and without prefix reuse.

The sweep's own requests are kept as they reach the engine and put again, one after the other, to a
bare ``xllamacpp.Server`` of the same parameters, in turns within one run. Counted is what the engine
counts, tokens read and written, over the time from the first request to the end; loading is left
out on both sides, storing and scoring are not. Run:

    python benchmarks/bench_embedded.py [CASES]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import xllamacpp

from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import plan_sweep, run_plan
from soma_bench.sweeps.spec import Sweep, sweep_from
from soma_bench.sweeps.store import Store

SUITE = Path(__file__).parent.parent / "data" / "suites" / "alignment.jsonl"
MODEL = "smollm2-135m-instruct-q4_1"
ROUNDS = 3
BareServer = xllamacpp.Server


@dataclass(slots=True)
class Heard:
    """What went through one engine."""

    params: Any = None
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    tokens: int = 0
    """Of prompts and answers, those that came from the cache too."""
    began: float | None = None

    def listen(self, take: Callable[[Any], bool]) -> Callable[[Any], bool]:
        """``take``, with the tokens of each last chunk counted."""

        def hear(chunk: Any) -> bool:
            if usage := chunk.get("usage"):
                self.tokens += usage["prompt_tokens"] + usage["completion_tokens"]
            return take(chunk)

        return hear

    def per_s(self) -> float:
        """Tokens a second since the first request."""
        assert self.began is not None
        return self.tokens / (time.perf_counter() - self.began)


def recording(heard: Heard) -> type:
    """A server that keeps the requests it gets."""

    class Recording:
        def __init__(self, params: Any) -> None:
            heard.params = params
            self._server = BareServer(params)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._server, name)

        def handle_completions(self, body: Mapping[str, Any], take: Callable[[Any], bool]) -> Any:
            heard.began = heard.began or time.perf_counter()
            heard.bodies.append(body)
            return self._server.handle_completions(body, heard.listen(take))

    return Recording


def declared(cases: int, *, reuse: bool) -> Sweep:
    """One agent, one target: every request begins with the same system prompt."""
    target = {"provider": "llamacpp", "model": MODEL, "thinking": ["off"]}
    options = {"context_tokens": 1536, "cache_prompt": reuse}
    return sweep_from(
        {
            "name": "embedded",
            "suites": {"alignment": str(SUITE)},
            "cases_per_agent": cases,
            "targets": [target],
            "options": options,
        },
        "bench",
    )


async def sweep(cases: int, *, reuse: bool) -> tuple[float, Heard]:
    """Tokens a second of the sweep, stored and scored, and what its engine heard."""
    heard = Heard()
    xllamacpp.Server = recording(heard)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            Store(f"{folder}/runs.db", create=True) as store,
        ):
            async with ProviderPool() as pool:
                plan = await plan_sweep(declared(cases, reuse=reuse), Path(), pool, None)
                outcome = await run_plan(plan, store, pool)
                rate = heard.per_s()
            assert (outcome.called, outcome.failed) == (cases, 0), outcome
    finally:
        xllamacpp.Server = BareServer
    return rate, heard


def bare(heard: Heard) -> float:
    """Tokens a second of the bare engine on the same requests."""
    server = BareServer(heard.params)
    again = Heard(began=time.perf_counter())
    for body in heard.bodies:
        server.handle_completions(body, again.listen(lambda _: False))
    rate = again.per_s()
    assert again.tokens == heard.tokens, "greedy answers to the same requests are the same"
    return rate


def main() -> None:
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    rates: dict[tuple[bool, str], list[float]] = {}
    for _ in range(ROUNDS):
        for reuse in (False, True):
            rate, heard = asyncio.run(sweep(cases, reuse=reuse))
            rates.setdefault((reuse, "sweep"), []).append(rate)
            rates.setdefault((reuse, "bare"), []).append(bare(heard))
    print(f"{MODEL}, {cases} cases of alignment, tokens a second, median of {ROUNDS} rounds")
    print(f"{'prefix reuse':>12} {'sweep':>8} {'bare':>8} {'ratio':>6}  of each round")
    for reuse in (False, True):
        pairs = list(zip(rates[reuse, "sweep"], rates[reuse, "bare"], strict=True))
        ratios = [mine / theirs for mine, theirs in pairs]
        mine, theirs = (median(some) for some in zip(*pairs, strict=True))
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{'on' if reuse else 'off':>12} {mine:>8.0f} {theirs:>8.0f} {median(ratios):>6.2f}  {each}"
        )
    gain = median(rates[True, "sweep"]) / median(rates[False, "sweep"])
    print(f"reuse over none, by the sweep: {gain:.2f}")


if __name__ == "__main__":
    main()
