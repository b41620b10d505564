"""What is known of models and machines without asking them: two dated tables and their readers."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from soma_bench.errors import ConfigError
from soma_bench.providers.ollama_models import library_size
from soma_bench.types import Target

_FOLDER = Path(__file__).parent
_GIB = 1 << 30
_METAL_SHARE = 0.75
_HERE_FLOPS_A_BYTE = 10.5e12 / 410e9
"""Operations in prefill for each byte of bandwidth, as on the machine that was measured."""
_HERE_DISK = 1e9

_BITS: Mapping[str, float] = {
    "q4_0": 4.5,
    "q4_k_m": 4.83,
    "q4_k_s": 4.5,
    "q4_1": 5.0,
    "q5_0": 5.5,
    "q5_1": 6.0,
    "q5_k_m": 5.69,
    "q5_k_s": 5.5,
    "q6_k": 6.56,
    "q8_0": 8.5,
    "f16": 16.0,
    "fp16": 16.0,
    "bf16": 16.0,
}
"""Bits per weight of a whole file, scales included."""
_MLX_SCALES = 0.5
"""Bits per weight that MLX's scales and offsets take in groups of 64."""
_DEFAULT_QUANTIZATION = "q4_K_M"
"""What an Ollama tag without one holds."""
_BEHIND_THE_SIZE = re.compile(r"-.*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The numbers of a model that its memory and speed follow from."""

    name: str
    parameters: float
    active_parameters: float
    """Those that one token passes through; fewer than all in a mixture of experts."""
    layers: int
    kv_heads: int
    head_dim: int
    source: str
    as_of: str

    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that a token of context takes, each as f16 in two bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine can do, as its maker says or as it was found."""

    name: str
    memory_bytes: int
    working_set_bytes: int
    """Memory that models may take."""
    bandwidth: float
    """Bytes a second from memory."""
    prefill_flops: float
    """Floating-point operations a second while a prompt is read; a start until it is calibrated."""
    disk: float
    """Bytes a second while a model is loaded; likewise."""
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Weights:
    """The size of a model's weights, and by what it is known."""

    size_bytes: int
    source: str


def architecture(target: Target) -> Architecture | None:
    """The numbers of a local target's model; None where the table has none."""
    name = _table_name(target)
    row = _read("architectures.json")["models"].get(name)
    if row is None:
        return None
    return Architecture(
        name=name,
        parameters=row["parameters"],
        active_parameters=row.get("active_parameters", row["parameters"]),
        layers=row["layers"],
        kv_heads=row["kv_heads"],
        head_dim=row["head_dim"],
        source=f"config.json of {row['source']}",
        as_of=_read("architectures.json")["as_of"],
    )


def weights(target: Target) -> Weights | None:
    """The size of a local target's weights, by the library's table or by bits per weight.

    None where neither the model nor its quantization is known.
    """
    if target.provider == "ollama" and (known := library_size(target.model)):
        return Weights(known.size_bytes, f"Ollama's library, {known.as_of}")
    shape, bits = architecture(target), bits_per_weight(target)
    if shape is None or bits is None:
        return None
    return Weights(round(shape.parameters * bits / 8), f"{bits:g} bits per weight, {shape.as_of}")


def bits_per_weight(target: Target) -> float | None:
    """Bits per weight of a target's quantization; None where its name does not say it."""
    quantization = target.quantization
    if quantization is None:
        quantization = _DEFAULT_QUANTIZATION if target.provider == "ollama" else ""
    if target.provider == "mlx":
        bits = re.fullmatch(r"(?:int)?([2-8])(?:-?bit)?", quantization.lower())
        if bits:
            return int(bits[1]) + _MLX_SCALES
    return _BITS.get(quantization.lower())


def machine(name: str) -> Machine:
    """The machine of this name; ``here`` is the one that this runs on.

    Raises:
        ConfigError: there is none.
    """
    if name == "here":
        return _here()
    table = _read("machines.json")
    row = table["machines"].get(name)
    if row is None:
        known = ", ".join((*table["machines"], "here"))
        raise ConfigError(f"machine {name!r} is not known; known: {known}")
    return Machine(
        name=name,
        memory_bytes=row["memory_gib"] * _GIB,
        working_set_bytes=row["working_set_gib"] * _GIB,
        bandwidth=row["bandwidth"],
        prefill_flops=row["prefill_flops"],
        disk=row["disk"],
        source=row["source"],
        as_of=table["as_of"],
    )


def _here() -> Machine:
    import psutil

    from soma_bench.sweeps.estimate import memory_bandwidth
    from soma_bench.sweeps.store import now

    memory = psutil.virtual_memory().total
    on_a_mac = platform.system() == "Darwin"
    bandwidth = memory_bandwidth()
    return Machine(
        name="here",
        memory_bytes=memory,
        working_set_bytes=round(memory * _METAL_SHARE) if on_a_mac else memory,
        bandwidth=bandwidth,
        prefill_flops=bandwidth * _HERE_FLOPS_A_BYTE,
        disk=_HERE_DISK,
        source="bandwidth measured on one core; prefill and disk assumed",
        as_of=now()[:10],
    )


def _table_name(target: Target) -> str:
    """The name under which the table has a model: ``qwen3:32b`` for any of its quantizations."""
    if target.provider == "ollama":
        family, _, tag = target.model.partition(":")
        return f"{family}:{_BEHIND_THE_SIZE.sub('', tag)}"
    model = target.model.rpartition("/")[2].lower()
    found = re.match(r"(smollm2|qwen2\.5|qwen3|llama-3\.[123])-(\d+(?:\.\d+)?[bm])(?:-|$)", model)
    return f"{found[1].replace('llama-', 'llama')}:{found[2]}" if found else model


@cache
def _read(name: str) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((_FOLDER / name).read_text(encoding="utf-8"))
    return table
