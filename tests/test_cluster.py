"""Sweeps on a fleet: real schedulers and workers as processes, each worker with its own backend."""

from __future__ import annotations

import json

from fleets import answering, asked, fleet, keys, ready, wait_for, write_sweep


def test_killed_workers_and_a_killed_scheduler_lose_nothing_and_repeat_only_what_was_in_flight(
    tmp_path,
):
    """Three workers, one killed mid-trial, then the scheduler; the same command ends it."""
    cases, repeats = 4, 9
    total = 2 * cases * repeats
    write_sweep(tmp_path, "qwen3:8b", "qwen3:14b", cases=cases, repeats=repeats)
    with (
        answering("qwen3:8b", drip_s=0.02) as one,
        answering("qwen3:8b", drip_s=0.02) as two,
        answering("qwen3:8b", "qwen3:14b", drip_s=0.02) as three,
        fleet() as machines,
    ):
        servers = (one, two, three)
        scheduler = machines.scheduler()
        workers = [machines.worker(f"mac-{n}", server) for n, server in enumerate(servers)]
        for worker in workers:
            ready(worker)
        sweep = machines.sweep(tmp_path)
        wait_for(lambda: all(len(asked(server)) >= 2 for server in servers))
        workers[0].kill()
        before = len(keys(tmp_path))
        wait_for(lambda: len(keys(tmp_path)) >= before + 4)
        scheduler.kill()
        code, _, said = sweep.finish()
        assert code == 2, said
        assert "scheduler is gone" in said.splitlines()[-1], said
        held = keys(tmp_path)
        assert 0 < len(held) < total

        machines.scheduler()
        for worker in workers[1:]:
            assert "waits" in worker.line()
            ready(worker)
        code, out, said = machines.sweep(tmp_path).finish()
        assert code == 0, said
        outcome = json.loads(out)
        assert outcome["resumed"] == len(held)
        assert outcome["called"] == total - len(held)
        ended = keys(tmp_path)
        assert len(ended) == len(set(ended)) == total
        # At most one call was in flight on each worker when it, or the scheduler, was killed.
        assert total <= sum(len(asked(server)) for server in servers) <= total + 3
        # A trial goes where its model is, and who has two models runs one after the other.
        assert set(asked(one)) == set(asked(two)) == {"qwen3:8b"}
        assert asked(three).count("qwen3:14b") >= cases * repeats
