"""A stored run as large as a workbench meets, made inside SQLite in a moment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.store import Store

AGENT = "alignment"
RUN = "large-00000000"
TARGETS, CASES = 100, 1000
"""100,000 trials; the texts of one are about 1.5 kB."""


def make_large_run(path: Path, *, scored: bool = True) -> None:
    """Write a run of 100 targets on 1,000 cases: simulated answers, simulated scores."""
    Store(str(path), create=True).close()
    sweep = {
        "name": "large",
        "suites": {AGENT: "alignment.jsonl"},
        "targets": [
            {"provider": "ollama", "model": "m", "quantizations": [f"{n:03}" for n in some]}
            for some in (range(50), range(50, TARGETS))
        ],
    }
    request = json.dumps({"messages": [{"role": "user", "content": "x" * 900}]})
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(
            "INSERT INTO runs VALUES (?, 'large', 'sha256:0', 0, ?, '2026-01-01T00:00:00+00:00', '{}')",
            (RUN, json.dumps(sweep)),
        )
        counting = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i+1 < {})"
        db.execute(
            f"{counting.format(CASES)} INSERT INTO cases SELECT printf('sha256:c%05d', i), ?,"
            " json_object('id', printf('case-%05d', i), 'cluster', printf('k%d', i / 2)) FROM n",
            (AGENT,),
        )
        db.execute(
            f"{counting.format(TARGETS * CASES)} INSERT INTO run_trials"
            f" SELECT ?, printf('sha256:t%06d', i), i, printf('sha256:c%05d', i % {CASES}), 's' FROM n",
            (RUN,),
        )
        db.execute(
            f"{counting.format(TARGETS * CASES)} INSERT INTO trials (key, agent, target, provider,"
            " model, thinking, case_id, repeat, status, request, identity, synthetic, answer,"
            " thoughts, finish, total_s, start, busy, cost_usd, cost_basis, ended_at)"
            f" SELECT printf('sha256:t%06d', i), ?, printf('ollama:m-%03d', i / {CASES}), 'ollama',"
            f" printf('m-%03d', i / {CASES}), NULL, printf('case-%05d', i % {CASES}), 0, 'done', ?,"
            " '{}', 0, printf('answer %d ', i) || substr(hex(zeroblob(300)), 1, 500), '', 'stop',"
            " 1.0 + i % 7, 'warm', 0, 0.001, 'price list', '2026-01-01T00:00:00+00:00' FROM n",
            (AGENT, request),
        )
        if scored:
            db.execute(
                f"{counting.format(TARGETS * CASES)} INSERT INTO scores SELECT"
                f" printf('sha256:t%06d', i), printf('sha256:c%05d', i % {CASES}), ?,"
                " (i * 37 % 101) / 100.0, CASE WHEN i * 37 % 101 = 0 THEN 'not JSON' END, '{}' FROM n",
                (SCORER_BY_AGENT[AGENT].version,),
            )
    db.close()
