"""Sweeps on a fleet: real schedulers and workers as processes, each worker with its own backend."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pickle

import pytest
from click.testing import CliRunner

from fleets import answering, asked, fleet, keys, ready, wait_for, write_sweep
from scripted import ScriptedProvider
from servers.openai import OpenAIServer
from soma_bench.cli.sweep import sweep as sweep_command
from soma_bench.errors import ConfigError, PrivacyError, ProviderError
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.fleet import host
from soma_bench.sweeps.fleet.address import (
    Cluster,
    parse_cluster,
    refuse_open_wire,
    refuse_strangers,
)
from soma_bench.sweeps.fleet.link import (
    Worker,
    WorkerLostError,
    refuse_differences,
    refuse_other_version,
)
from soma_bench.sweeps.runner import MakeEngine, Outcome, plan_sweep, run_plan
from soma_bench.sweeps.spec import load_sweep
from soma_bench.sweeps.store import Store
from soma_bench.types import Message, ModelIdentity, Request

IDENTITY = ModelIdentity(weights_digest="sha256:aa", chat_template=None, engine="ollama 0.33")


def labels(**changed: object) -> host.Labels:
    plain = host.Labels(
        version="0.1.0", accelerator="cpu", models={}, keys=(), environment={"hardware": {}}
    )
    return dataclasses.replace(plain, **changed)


def worker(name: str, identity: ModelIdentity) -> Worker:
    offers = {("ollama", "qwen3:8b"): host.Offer(identity, True)}
    return Worker(name=name, address=f"tcp://{name}:1", labels=labels(), offers=offers)


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("local", Cluster(None, 1)),
        ("local:3", Cluster(None, 3)),
        ("tcp://127.0.0.1:8786", Cluster("tcp://127.0.0.1:8786")),
        ("tls://mac-1.local:8786", Cluster("tls://mac-1.local:8786")),
    ],
)
def test_a_cluster_is_an_address_or_workers_started_here(text, cluster):
    assert parse_cluster(text) == cluster


@pytest.mark.parametrize(
    "text",
    ["", "local:0", "local:99", "mac-1:8786", "tcp://mac-1", "tcp://h:99999", "http://h:1/x"],
)
def test_what_is_no_cluster_is_told_in_one_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_cluster(text)
    assert "\n" not in str(caught.value)


def test_another_machine_is_spoken_to_with_tls_or_on_the_user_s_word():
    refuse_open_wire("tcp://127.0.0.1:1", plain_tcp=False)
    refuse_open_wire("tls://10.0.0.7:1", plain_tcp=False)
    refuse_open_wire("tcp://10.0.0.7:1", plain_tcp=True)
    with pytest.raises(ConfigError, match="without TLS"):
        refuse_open_wire("tcp://10.0.0.7:1", plain_tcp=False)


def test_private_cases_go_to_no_machine_that_was_not_named():
    refuse_strangers(["tcp://127.0.0.1:1", "tls://10.0.0.7:1"], frozenset({"10.0.0.7"}))
    with pytest.raises(PrivacyError, match=r"--trust 10\.0\.0\.8"):
        refuse_strangers(["tcp://127.0.0.1:1", "tls://10.0.0.8:1"], frozenset({"10.0.0.7"}))


def test_one_name_must_mean_one_model_on_all_workers():
    other = dataclasses.replace(IDENTITY, weights_digest="sha256:bb")
    refuse_differences([worker("a", IDENTITY), worker("b", IDENTITY)])
    with pytest.raises(ConfigError, match=r"ollama:qwen3:8b is not the same on workers a and b"):
        refuse_differences([worker("a", IDENTITY), worker("b", other)])


def test_a_worker_of_another_version_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"worker mac-2 .* runs soma_bench 0\.0\.9"):
        refuse_other_version("mac-2", "tcp://10.0.0.7:1", labels(version="0.0.9"))


def test_a_failure_comes_back_from_a_worker_as_it_was():
    error = ProviderError("ollama", "too many", kind="rate_limited", wait_s=2.5, limit=None)
    back = pickle.loads(pickle.dumps(error))
    assert (str(back), back.kind, back.wait_s, back.retryable) == (
        "ollama: too many",
        "rate_limited",
        2.5,
        True,
    )


@pytest.mark.parametrize("level", ["local_only", "deidentified"])
def test_a_worker_lets_nothing_private_out_to_a_cloud(level, monkeypatch):
    request = Request(model="gpt-4o-mini", messages=(Message("user", "Mrs Smith"),), max_tokens=8)
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setattr(host, "_providers", host.ProviderPool())

        async def ask() -> object:
            try:
                return await host.answer("openai", request, level)
            finally:
                await host.dask_teardown(None)

        result = asyncio.run(ask())
        assert not server.requests
    assert isinstance(result, host.Failed)
    assert isinstance(result.error, PrivacyError)


def test_a_worker_names_its_keys_and_never_shows_them(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setattr(host, "_providers", host.ProviderPool())

    async def look() -> object:
        try:
            return await host.labels()
        finally:
            await host.dask_teardown(None)

    found = asyncio.run(look())
    assert found.keys == ("openai",)
    assert b"very-secret" not in pickle.dumps(found)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_engine_that_ends_badly_leaves_all_that_it_did_not_keep_to_the_next(
    concurrency, tmp_path
):
    """Also a trial that had been let in when another failed, and was cancelled before it began."""
    calls = 0

    def breaks_once(_: Request) -> str:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise WorkerLostError("gone")
        return "{}"

    write_sweep(tmp_path, "qwen3:8b", cases=4, limits={"ollama": {"concurrency": concurrency}})
    provider = ScriptedProvider(breaks_once)
    provider.name = "ollama"

    async def drive(make: MakeEngine) -> None:
        async with ProviderPool(lambda _: provider) as pool:
            with pytest.raises(WorkerLostError):
                await make(pool).run()
            await make(pool).run()

    async def go() -> Outcome:
        declared = load_sweep(tmp_path / "sweep.yaml").model_copy(update={"repeats": 3})
        with Store(str(tmp_path / "runs.db"), create=True) as store:
            async with ProviderPool(lambda _: provider) as pool:
                plan = await plan_sweep(declared, tmp_path, pool, store)
                return await run_plan(plan, store, pool, drive=drive)

    outcome = asyncio.run(go())
    assert (outcome.called, outcome.left) == (12, 0)


def test_trust_without_a_cluster_is_wrong_use(tmp_path):
    result = CliRunner().invoke(sweep_command, [str(tmp_path / "x.yaml"), "--trust", "mac-1"])
    assert result.exit_code == 2
    assert "--cluster" in result.output


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
