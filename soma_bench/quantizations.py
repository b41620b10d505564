"""Quality and speed by bits per weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from soma_bench.hardware.catalogue import bits_per_weight
from soma_bench.routing.evidence import Evidence
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AGENTS, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """One target of known quantization at one agent."""

    row: Evidence
    family: str
    """``provider:model`` without its quantization, and its thinking: what is compared."""
    quantization: str
    bits: float
    """Bits per weight of the file, scales included."""
    weights_bytes: int | None
    decode_tokens_s: float | None
    """Output tokens a second of decoding: the median over the target's trials at all agents; None
    where nobody timed it."""


def quantized_targets(
    evidence: Sequence[Evidence], scored: Iterable[ScoredTrial]
) -> list[Quantized]:
    """The rows whose targets name a known quantization, the fewest bits first within a family.

    Speeds are of trials that ran on a quiet machine, where there are any.
    """
    trials: dict[str, list[ScoredTrial]] = defaultdict(list)
    for one in scored:
        trials[one.trial["target"]].append(one)
    found = []
    for row in evidence:
        target = Target.parse(row.target)
        bits = bits_per_weight(target)
        if bits is None or target.quantization is None:
            continue
        group = trials[row.target]
        model = target.model.removesuffix(target.quantization).rstrip("-_:.")
        sizes = {one.trial["identity"].get("weights_bytes") for one in group}
        found.append(
            Quantized(
                row=row,
                family=str(Target(target.provider, model, target.thinking)),
                quantization=target.quantization,
                bits=bits,
                weights_bytes=sizes.pop() if len(sizes) == 1 else None,
                decode_tokens_s=_speed(group),
            )
        )
    return sorted(found, key=lambda one: (AGENTS.index(one.row.agent), one.family, one.bits))


def _speed(group: Sequence[ScoredTrial]) -> float | None:
    quiet = [one for one in group if not one.trial["busy"]] or group
    speeds = [
        one.trial["output_tokens"] / one.trial["decode_s"]
        for one in quiet
        if one.trial["output_tokens"] and one.trial["decode_s"]
    ]
    return median(speeds) if speeds else None
