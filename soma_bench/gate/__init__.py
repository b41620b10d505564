"""Whether a run is worse than what a profile promises, by more than a margin and beyond chance.

For each agent the profile's primary is compared with itself in the new run: quality, latency and, in
the cloud, cost. Where the store still has the trials of the profile's own run, case by case; else
with the figures that the profile carries, which needs larger changes to be sure, and is said.

A change counts only when two one-sided tests see it: Student's on the mean over clusters, that it is
beyond the margin; and Fisher's sign flips, that it is there at all, which holds for few cases and for
any distribution. p-values are adjusted over all agents and figures (Holm), so that the chance of even
one false alarm of the whole gate is at most the level.
"""

from __future__ import annotations

from soma_bench.gate.changes import Change, Margins, Measured, compare, one_sided
from soma_bench.gate.judge import LEVEL, Gate, judge
from soma_bench.gate.run import gate_run

__all__ = [
    "LEVEL",
    "Change",
    "Gate",
    "Margins",
    "Measured",
    "compare",
    "gate_run",
    "judge",
    "one_sided",
]
