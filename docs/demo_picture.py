"""Draws the README's picture from a finished demo: ``make picture``."""

from __future__ import annotations

from pathlib import Path

from soma_bench import plots
from soma_bench.comparison import compare_run
from soma_bench.routing.profile import load_profile, resolve
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS

if __name__ == "__main__":
    profile = load_profile(Path("routing_profiles/demo.json"))
    with Store("reports/runs.db") as store:
        evidence = compare_run(store, profile.provenance.run_ids[0]).evidence
    chosen = {agent: str(resolve(profile, agent).primary) for agent in AGENTS}
    figure = plots.quality_against_latency(evidence, chosen=chosen)
    figure.savefig("docs/demo.png", dpi=110)
