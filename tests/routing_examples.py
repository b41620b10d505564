"""Evidence and profiles that the routing tests share."""

from __future__ import annotations

import random
from typing import Any

from soma_bench.routing.constraints import GOALS, Constraints, Lexicographic, Objective, Weighted
from soma_bench.routing.evidence import Evidence
from soma_bench.routing.profile import Profile
from soma_bench.types import AGENTS, AgentName

GIB = 1 << 30


def row(agent: AgentName, target: str, **figures: Any) -> Evidence:
    """A row of evidence whose figures hang together; any of them can be given."""
    quality = figures.pop("quality", 0.5)
    p50 = figures.pop("latency_p50_s", 2.0)
    content: dict[str, Any] = {
        "agent": agent,
        "target": target,
        "metric": "accuracy",
        "n": 12,
        "cases": 12,
        "quality": quality,
        "quality_low": max(0.0, quality - 0.1),
        "quality_high": min(1.0, quality + 0.1),
        "answer_failures": 0,
        "latency_p50_s": p50,
        "latency_p95_s": p50 * 1.5,
        "cost_usd": 0.0,
        "memory_bytes": 5 * GIB,
        "prompt_tokens": 300.0,
        "output_tokens": 80.0,
        "thinking_tokens": 0.0,
        "synthetic": False,
        **figures,
    }
    return Evidence.model_validate(content)


def profile_content(**changes: Any) -> dict[str, Any]:
    """The JSON of a hybrid profile with aliases, without evidence."""

    def route(primary: str, fallback: str | None, privacy: str) -> dict[str, Any]:
        return {"primary": primary, "fallback": fallback, "privacy": privacy, "reason": "measured"}

    cloud = "claude:claude-sonnet-5-5"
    return {
        "schema_version": 1,
        "name": "hybrid",
        "providers": {"ollama": {"enabled": True}, "claude": {"enabled": True}},
        "models": {
            "ollama": {
                "fast": "llama3.2:3b",
                "balanced": "qwen2.5:14b",
                "vision": "llama3.2-vision:11b",
            }
        },
        "routing": {
            "alignment": route("ollama:fast", None, "local_only"),
            "radiologist": route("ollama:vision", "ollama:balanced", "local_only"),
            "pathologist": route("ollama:qwen3:32b?thinking=256", cloud, "deidentified"),
            "report_writer": route(cloud, "ollama:balanced", "open"),
            "qc_reviewer": route("ollama:fast", None, "open"),
        },
        **changes,
    }


def sealed_profile(**changes: Any) -> Profile:
    """A profile with evidence, provenance and a digest."""
    content = profile_content(
        evidence=[
            row("radiologist", "ollama:llama3.2-vision:11b", quality=0.62),
            row("radiologist", "ollama:qwen2.5:14b", quality=0.4),
            row("pathologist", "ollama:qwen3:32b?thinking=256", quality=0.7),
            row("report_writer", "claude:claude-sonnet-5-5", memory_bytes=None, cost_usd=0.02),
        ],
        provenance={
            "run_ids": ["run-1"],
            "suite_digests": {"radiologist": "sha256:" + "0" * 64},
            "model_digests": {"ollama:qwen2.5:14b": "sha256:" + "1" * 64},
            "hardware": {"cpu": "M4 Max", "memory_gib": 36},
            "date": "2026-11-24T10:00:00+00:00",
        },
        **changes,
    )
    return Profile.model_validate(content).sealed()


def random_instance(random_: random.Random, most: int = 3) -> tuple[list[Evidence], Constraints]:
    """A small table on a coarse grid (so that ties happen) with random constraints of all kinds."""
    models = ["ollama:a", "ollama:b", "llamacpp:c", "claude:d", "openai:e"]
    memory = {model: random_.randint(1, 8) * GIB + random_.randint(0, 2) for model in models}
    load = {model: random_.choice([None, 0.25, 0.5, 1.0, 2.5]) for model in models}
    evidence = []
    for agent in AGENTS:
        texts = sorted(
            f"{model}{query}" for model in models for query in ("", "?thinking=off", "?thinking=64")
        )
        for text in random_.sample(texts, random_.randint(2, most)):
            model = text.partition("?")[0]
            is_local = model.startswith(("ollama", "llamacpp"))
            p50 = random_.randint(1, 12) / 4
            evidence.append(
                row(
                    agent,
                    text,
                    quality=random_.randint(4, 12) / 12,
                    answer_failures=random_.choice([0, 0, 1, 3]),
                    latency_p50_s=p50,
                    latency_p95_s=p50 + random_.randint(0, 4) / 4,
                    cost_usd=0.0 if is_local else random_.randint(1, 6) / 1000,
                    memory_bytes=memory[model] if is_local else None,
                    kv_bytes=random_.choice([None, GIB // 4, GIB]) if is_local else None,
                    load_s=load[model] if is_local else None,
                    failure_rate=random_.choice([None, None, None, 0.2]),
                    synthetic=random_.random() < 0.1,
                )
            )
    random_.shuffle(evidence)

    def maybe(chance: float, value: Any) -> Any:
        return value if random_.random() < chance else None

    floors = {agent: random_.randint(1, 7) / 12 for agent in AGENTS if random_.random() < 0.15}
    some = {agent: random_.random() < 0.4 for agent in AGENTS}
    longest = maybe(0.6, random_.randint(24, 60) / 4)
    memory_limit = maybe(0.6, random_.randint(6, 28) * GIB + random_.randint(0, 6))
    levels = ["local_only", "deidentified", "open", "open", "open", "open", "open", "open"]
    constraints = Constraints(
        quality_floors=floors,
        floor_on=random_.choice(["low", "mean"]),
        privacy={agent: random_.choice(levels) for agent in AGENTS},
        max_latency_s=longest,
        max_degraded_latency_s=None if longest is None else maybe(0.4, longest + 1.5),
        latency=random_.choice(["p50", "p95"]),
        max_memory_bytes=memory_limit,
        may_swap=memory_limit is not None and random_.random() < 0.6,
        contention=random_.choice([1.0, 1.0, 1.5, 2.0]),
        max_cost_usd_per_1000=maybe(0.4, float(random_.randint(2, 20))),
        fallback_rate=maybe(0.2, 0.25),
        fallback_apart=random_.choice(["target", "target", "provider", "machine"]),
        require_fallback=random_.choice([False, False, some, some, True]),
        allow_synthetic=random_.random() < 0.8,
    )
    return evidence, constraints


def random_objective(random_: random.Random) -> Objective:
    """The usual one half of the time; else another order with tolerances, or a weighted sum.

    Tolerances lie off the grid of the figures: on it, rounding would decide.
    """
    kind = random_.choice(["usual", "usual", "order", "weights"])
    if kind == "order":
        return Lexicographic(
            order=tuple(random_.sample(GOALS, 3)),
            quality_tolerance=random_.choice([0.0, 0.21, 0.4]),
            latency_tolerance_s=random_.choice([0.0, 0.9, 2.1]),
            cost_tolerance_usd_per_1000=random_.choice([0.0, 2.5]),
        )
    if kind == "weights":
        return Weighted(
            quality=random_.choice([0.0, 1.0, 1.0]),
            latency_per_s=random_.choice([0.05, 0.2]),
            cost_per_usd_per_1000=random_.choice([0.0, 0.01]),
        )
    return "quality_latency_cost"
