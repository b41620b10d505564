"""Figures for notebooks, reports and papers.

Every function takes measured rows or a profile and returns a `matplotlib.figure.Figure` of its own;
nothing is registered with pyplot and no global setting is changed. matplotlib is loaded by the first
figure, not by the import.
"""

from soma_bench.plots.bits import quality_and_speed_by_bits
from soma_bench.plots.budgets import quality_by_tokens
from soma_bench.plots.calls import parts_of_calls
from soma_bench.plots.effects import effects_of_settings
from soma_bench.plots.hardware import memory_of_models
from soma_bench.plots.pareto import pareto_front
from soma_bench.plots.quality import quality_against_latency
from soma_bench.plots.routing import chosen_routing
from soma_bench.plots.stages import latency_by_stage

__all__ = [
    "chosen_routing",
    "effects_of_settings",
    "latency_by_stage",
    "memory_of_models",
    "pareto_front",
    "parts_of_calls",
    "quality_against_latency",
    "quality_and_speed_by_bits",
    "quality_by_tokens",
]
