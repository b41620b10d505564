"""The sweep engine beside two evaluation harnesses, ``inspect-ai`` and ``lm-eval``, and the bare SDK.

All put the same prompts to the same loopback server, in turns within one run, each in a process of
its own whose CPU time is counted from the first prompt to the figures. ``lm-eval`` resamples its
figures at the end, a fixed cost that larger runs spread over more trials. The harnesses are no part of this
project: make an environment with both, and name its interpreter.

    uv venv peers && uv pip install -p peers inspect-ai "lm-eval[api]" openai
    python benchmarks/peers.py peers/bin/python
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import bench_sweep
from bench_sweep import declared, server
from pydantic import SecretStr

from soma_bench.providers import Backend, create_provider
from soma_bench.providers.openai_chat import Call
from soma_bench.providers.openai_models import UNKNOWN
from soma_bench.providers.pool import ProviderPool
from soma_bench.sweeps.runner import plan_sweep

ROUNDS = 2
SETTINGS = ((0, 1, 200), (0, 4, 400), (0, 32, 400), (50, 1, 50), (50, 4, 200), (50, 32, 400))
"""Delay in ms, concurrency, trials."""

INSPECT = """
import json, sys, tempfile, time
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
url, concurrency, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def sample(messages):
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser,
             "assistant": ChatMessageAssistant}
    made = [kinds[m["role"]](content=m["content"]) for m in messages]
    return Sample(input=made, target="QUESTION")
samples = [sample(m) for m in json.load(open(path))]
def run(some):
    task = Task(dataset=MemoryDataset(some), solver=generate(), scorer=includes())
    with tempfile.TemporaryDirectory() as logs:
        (log,) = eval(task, model="openai-api/loop/loopback", model_base_url=url, log_dir=logs,
                      display="none", max_connections=concurrency, max_samples=max(2, concurrency))
        assert log.status == "success", log.error
        waits = sorted(e.working_time for s in log.samples for e in s.events if e.event == "model")
    return waits[len(waits) // 2]
run(samples[:20])
began, cpu = time.perf_counter(), time.process_time()
p50 = run(samples)
print(json.dumps([time.process_time() - cpu, time.perf_counter() - began, p50]))
"""
LM_EVAL = """
import json, sys, tempfile, time
import lm_eval
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.openai_completions import LocalChatCompletion
url, concurrency, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prompts = json.load(open(path))
def run(some):
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/asked.jsonl", "w") as file:
            for messages in some:
                text = " ".join(message["content"] for message in messages)
                print(json.dumps({"text": text}), file=file)
        model = LocalChatCompletion(base_url=url + "/chat/completions", pretrained="loopback",
                                    tokenizer_backend=None, num_concurrent=concurrency)
        data = {"data_files": {"test": folder + "/asked.jsonl"}}
        task = ConfigurableTask(config={
            "task": "loop", "dataset_path": "json", "dataset_kwargs": data, "test_split": "test",
            "output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": "QUESTION",
            "metric_list": [{"metric": "exact_match"}], "generation_kwargs": {"until": ["@@"]}})
        found = lm_eval.simple_evaluate(model=model, tasks=[task], apply_chat_template=True,
                                        log_samples=True, verbosity="ERROR")
        assert len(found["samples"]["loop"]) == len(some)
run(prompts[:20])
began, cpu = time.perf_counter(), time.process_time()
run(prompts)
print(json.dumps([time.process_time() - cpu, time.perf_counter() - began, None]))
"""
OURS = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[4])
from bench_sweep import sweep, declared
url, concurrency, trials = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
asyncio.run(sweep(url, 20, concurrency, [], compared=True))
taken = asyncio.run(sweep(url, trials, concurrency, [], compared=True))
print(json.dumps([taken.cpu_ms * trials / 1000, trials / taken.per_s, taken.p50_ms / 1000]))
"""
SDK = """
import asyncio, json, sys, time
from openai import AsyncOpenAI
url, concurrency, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
prompts = json.load(open(path))
async def run(some):
    client = AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    left, taken = iter(some), []
    async def work():
        for messages in left:
            began = time.perf_counter()
            stream = await client.chat.completions.create(
                model="loopback", messages=messages, stream=True,
                stream_options={"include_usage": True})
            text = ""
            async for chunk in stream:
                text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            taken.append(time.perf_counter() - began)
    await asyncio.gather(*(work() for _ in range(concurrency)))
    await client.close()
    return sorted(taken)[len(taken) // 2]
asyncio.run(run(prompts[:20]))
began, cpu = time.perf_counter(), time.process_time()
p50 = asyncio.run(run(prompts))
print(json.dumps([time.process_time() - cpu, time.perf_counter() - began, p50]))
"""


def child(python: str, program: str, *arguments: str) -> tuple[float, float, float | None]:
    """CPU seconds, wall seconds and the median latency that a program tells of its run."""
    keys = {"LOOP_API_KEY": "none", "OPENAI_API_KEY": "none"}
    environment = {**os.environ, **keys, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"error: the harness failed: {done.stderr[-2000:]}")
    cpu, wall, p50 = json.loads(done.stdout.splitlines()[-1])
    return cpu, wall, p50


async def prompts(base_url: str, trials: int) -> list[list[dict[str, str]]]:
    """The messages of each trial, as the engine puts them."""
    backend = Backend(base_url=base_url, api_key=SecretStr("none"))
    async with ProviderPool(lambda name: create_provider(name, backend)) as pool:
        plan = await plan_sweep(declared(trials, 1), Path(), pool, None)
        bodies = [Call(plan.request(trial), UNKNOWN).body for trial in plan.trials]
    # Each is another one, since a harness may ask equal prompts once.
    return [
        [
            *body["messages"][:-1],
            {**body["messages"][-1], "content": f"{n} {body['messages'][-1]['content']}"},
        ]
        for n, body in enumerate(bodies)
    ]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("error: name the interpreter of an environment with the harnesses")
    peers = sys.argv[1]
    here = str(Path(bench_sweep.__file__).parent)
    print(f"{'':>14} {'delay ms':>8} {'at once':>7} {'cpu ms':>8} {'per s':>8} {'p50 ms':>8}")
    for delay_ms, concurrency, trials in SETTINGS:
        with server(delay_ms) as url, tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/prompts.json"
            Path(path).write_text(json.dumps(asyncio.run(prompts(url, trials))))
            rows: dict[str, list[tuple[float, float, float | None]]] = {}
            for _ in range(ROUNDS):
                for name, python, program, arguments in (
                    ("bare SDK", sys.executable, SDK, (path,)),
                    ("soma_bench", sys.executable, OURS, (str(trials), here)),
                    ("inspect-ai", peers, INSPECT, (path,)),
                    ("lm-eval", peers, LM_EVAL, (path,)),
                ):
                    taken = child(python, program, url, str(concurrency), *arguments)
                    rows.setdefault(name, []).append(taken)
        for name, some in rows.items():
            cpu, wall = (median(one[i] for one in some) for i in (0, 1))
            told = [one[2] for one in some if one[2] is not None]
            p50 = f"{median(told) * 1000:8.2f}" if told else f"{'':>8}"
            print(
                f"{name:>14} {delay_ms:>8} {concurrency:>7} {cpu / trials * 1000:8.2f}"
                f" {trials / wall:8.0f} {p50}",
                flush=True,
            )


if __name__ == "__main__":
    main()
