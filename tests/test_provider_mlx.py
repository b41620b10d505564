"""MLX for real, in its own process: answers, budgets, streams, limits, and how the process ends."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mlx_model import NAME, TINY, mlx_models
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import mlx_models as catalogue
from soma_bench.providers import mlx_process
from soma_bench.providers.mlx import Mlx
from soma_bench.providers.mlx_worker import Thoughts
from soma_bench.settings import CACHE_VARIABLE
from soma_bench.types import Image, Limits, Message, Options, Request

pytestmark = pytest.mark.model
SCHEMA = {"type": "object", "properties": {"side": {"type": "string"}}, "required": ["side"]}


def ask(text: str = "Tell a story.", **changes) -> Request:
    fields = {"model": TINY, "messages": (Message("user", text),), "max_tokens": 6, **changes}
    return Request(**fields)


async def stream(provider, request):
    return [chunk async for chunk in provider.stream(request)]


def failure(coroutine) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asyncio.run(coroutine)
    return caught.value


def timed_failure(provider, request, *, streamed: bool) -> tuple[ProviderError, float]:
    started = time.perf_counter()
    error = failure(stream(provider, request) if streamed else provider.complete(request))
    return error, time.perf_counter() - started


@pytest.fixture(scope="module")
def models(embedded_models) -> Path:
    return mlx_models(embedded_models)


@pytest.fixture(scope="module")
def mlx(models):
    provider = Mlx(directory=models)
    yield provider
    asyncio.run(provider.close())


def pid(provider: Mlx, model: str = TINY) -> int:
    return provider._workers[model].pid


# What it answers


def test_a_model_answers_a_question(mlx):
    system = Message("system", "You are a helpful assistant.")
    question = Message("user", "What is the capital of France? Answer briefly.")
    request = ask(model=NAME, messages=(system, question), max_tokens=20)
    completion = asyncio.run(mlx.complete(request))
    assert "Paris" in completion.text
    assert (completion.finish, completion.thinking) == ("stop", "")
    usage, timings = completion.usage, completion.timings
    assert usage.prompt_tokens == 30
    assert 0 < usage.output_tokens < 20
    assert (usage.cached_tokens, usage.thinking_tokens) == (0, 0)
    assert timings.load_s > 0
    assert timings.first_token_s == timings.first_answer_token_s
    assert 0 < timings.prefill_s + timings.decode_s <= timings.total_s * 1.05
    assert asyncio.run(mlx.memory_bytes(NAME)) > 90_000_000
    asyncio.run(mlx.unload(keep=frozenset({TINY})))


@pytest.mark.parametrize("budget", [1, 5])
def test_a_thinking_budget_is_held_and_never_shortens_the_answer(mlx, budget):
    completion = asyncio.run(mlx.complete(ask(thinking=budget)))
    assert completion.usage.thinking_tokens == budget
    assert completion.usage.output_tokens == budget + 6
    assert completion.finish == "length"
    assert "think>" not in completion.text + completion.thinking
    timings = completion.timings
    assert 0 < timings.first_token_s < timings.first_answer_token_s < timings.total_s


def test_without_a_setting_and_with_off_nothing_is_thought(mlx):
    silent, off = (asyncio.run(mlx.complete(ask(thinking=t))) for t in (None, "off"))
    assert silent.text == off.text
    assert (off.thinking, off.usage.thinking_tokens) == ("", 0)


def test_a_stream_says_what_the_completion_says(mlx):
    request = ask(thinking=4)
    *pieces, last = asyncio.run(stream(mlx, request))
    assert len(pieces) > 5
    assert "".join(piece.text for piece in pieces) == last.completion.text
    assert "".join(piece.thinking for piece in pieces).strip() == last.completion.thinking
    assert asyncio.run(mlx.complete(request)).text == last.completion.text


def test_the_seed_decides_what_chance_leaves_open(mlx):
    def answer(seed: int) -> str:
        options = Options(temperature=1.5, top_p=0.95, seed=seed)
        return asyncio.run(mlx.complete(ask(options=options))).text

    assert answer(3) == answer(3) != answer(4)


def test_a_schema_is_asked_for_in_the_prompt(mlx):
    plain, asked = (asyncio.run(mlx.complete(ask(schema=schema))) for schema in (None, SCHEMA))
    assert (plain.structured_by, asked.structured_by) == (None, "prompt")
    assert asked.usage.prompt_tokens > plain.usage.prompt_tokens + 20


TWO_PHASES = """
import json, sys
from pathlib import Path
import mlx.core as mx
from mlx_lm.generate import stream_generate
from mlx_lm.utils import load_model
from soma_bench.providers import mlx_worker

class Silent:
    def check(self, request_id): pass
    def send(self, event, **fields): pass

class Watched(mlx_worker._Tokens):
    read = []
    def pending(self):
        Watched.read = list(self.all)
        return super().pending()

mlx_worker._Tokens = Watched
folder, forced, budget = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tokenizer, _ = mlx_worker._open_model(folder)
model, _ = load_model(folder)
request = dict(id=1, messages=[{"role": "user", "content": "Tell a story."}], max_tokens=6,
               thinking=budget, temperature=0.0, top_p=None, seed=0, context_tokens=512)
answer = mlx_worker._Answer(model, tokenizer, Silent(), request)
ids = tokenizer.encode(forced, add_special_tokens=False)
greedy = answer._sampler
answer._sampler = lambda logprobs: mx.array([ids.pop(0)]) if ids else greedy(logprobs)
done = answer.run()
at_once = "".join(
    step.text for step in stream_generate(model, tokenizer, Watched.read, max_tokens=6))
print(json.dumps([done, at_once, tokenizer.decode(Watched.read)]))
"""


@pytest.mark.parametrize(
    ("forced", "budget", "thoughts", "prompt_end"),
    [
        ("", 4, None, "\n</think>\n\n"),
        (" so it is<|im_end|>", 40, "so it is", "<think>\n so it is\n</think>\n\n"),
        (" so</think>", 40, "so", "<think>\n so</think>\n\n"),
        (" so</think>\n\n", 40, "so", "<think>\n so</think>\n\n"),
    ],
)
def test_thinking_in_two_phases_answers_like_one_reading_of_the_same_tokens(
    models, forced, budget, thoughts, prompt_end
):
    command = [sys.executable, "-c", TWO_PHASES, str(models / TINY), forced, str(budget)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    done, at_once, prompt = json.loads(ran.stdout)
    assert prompt.endswith(prompt_end)
    assert done["text"] == at_once
    assert thoughts in (None, done["thinking"])
    assert 1 <= done["thinking_tokens"] <= budget
    assert done["output_tokens"] == done["thinking_tokens"] + 6


def test_a_closing_tag_is_found_wherever_the_pieces_break():
    text = "I see </ this </thin> and</think>\nIt is small."
    for size in range(1, 12):
        thoughts, told = Thoughts("</think>"), ""
        for at in range(0, len(text), size):
            told += thoughts.take(text[at : at + size])
            if thoughts.closed:
                break
        told += thoughts.left()
        assert told == thoughts.text == "I see </ this </thin> and"
        assert "\nIt is small.".startswith(thoughts.rest)


def test_thoughts_that_end_in_half_a_tag_lose_nothing():
    thoughts = Thoughts("</think>")
    assert thoughts.take("so </thi") + thoughts.left() == "so </thi"
    assert not thoughts.closed


# What is refused


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"thinking": "high"}, ConfigError, "takes off, a number of tokens"),
        ({"messages": (Message("user", "?", (Image(b"x", "image/png"),)),)}, ConfigError, "images"),
        ({"model": "smollm2-2-layers"}, ProviderError, f"nearest there: {TINY}.*pull mlx:smollm2-2-"),
        ({"messages": (Message("user", "word " * 2100),)}, ProviderError, "the prompt has 21.. tokens"),
        ({"messages": (Message("user", "word " * 9000),)}, ProviderError, "at least"),
        ({"max_tokens": 100, "options": Options(context_tokens=64)}, ProviderError, "at least"),
        ({"max_tokens": 50, "options": Options(context_tokens=60)}, ProviderError, "more than the context"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(mlx, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        asyncio.run(mlx.complete(ask(**changes)))
    if error is ProviderError:
        assert caught.value.kind == ("model_missing" if "model" in changes else "context_too_long")


@pytest.mark.parametrize(
    ("template", "thinking", "message"),
    [
        ("{{ messages[0].content }}\n", 5, "cannot honour thinking=5; it takes off$"),
        ("{{ messages[0].content }}<think>\n", "off", "it takes a number of tokens$"),
        ("{{ messages[0].content }}<think>\n", None, "always thinks"),
        ("{{ raise_exception('no users') }}", None, "no users"),
    ],
)
def test_the_chat_template_decides_how_a_model_can_think(
    models, tmp_path, template, thinking, message
):
    shutil.copytree(models / TINY, tmp_path / "other", copy_function=os.link)
    (tmp_path / "other" / "chat_template.jinja").unlink()
    (tmp_path / "other" / "chat_template.jinja").write_text(template)

    async def go():
        provider = Mlx(directory=tmp_path)
        try:
            await provider.complete(ask(model="other", thinking=thinking))
        finally:
            await provider.close()

    with pytest.raises((ConfigError, ProviderError), match=message):
        asyncio.run(go())


def test_capabilities_and_identity_do_not_load_the_weights(models):
    async def go():
        provider = Mlx(directory=models)
        try:
            return (
                await provider.capabilities(TINY),
                await provider.identity(TINY),
                await provider.memory_bytes(TINY),
            )
        finally:
            await provider.close()

    able, identity, memory = asyncio.run(go())
    assert (able.thinking_levels, able.thinking_budget) == (("off",), True)
    assert (able.vision, able.schema, able.context_tokens) == (False, False, 8192)
    assert identity.engine.startswith("mlx-lm 0.")
    assert " / mlx 0." in identity.engine
    assert identity.synthetic
    assert identity.weights_bytes == able.weights_bytes > 10_000_000
    assert memory is None


# How it ends


@pytest.mark.parametrize("streamed", [False, True])
def test_a_killed_worker_is_an_error_and_the_next_call_starts_another(mlx, streamed):
    asyncio.run(mlx.complete(ask()))
    first = pid(mlx)
    long = ask(max_tokens=1500)

    async def kill_in_the_middle():
        call = asyncio.ensure_future(stream(mlx, long) if streamed else mlx.complete(long))
        await asyncio.sleep(0.5)
        os.kill(first, signal.SIGKILL)
        return await call

    error = failure(kill_in_the_middle())
    assert error.kind == "cut_off"
    assert "SIGKILL" in str(error)
    assert asyncio.run(mlx.complete(ask())).text
    assert pid(mlx) != first


@pytest.mark.parametrize(
    ("limits", "streamed", "passed", "text"),
    [
        (Limits(total_s=0.4), False, "total", "Tell a story."),
        (Limits(total_s=0.4), True, "total", "More than a pipe holds. " * 5000),
        (Limits(first_token_s=0.4), True, "first_token", "Tell a story."),
    ],
)
def test_limits_hold_over_a_worker_that_hangs_and_the_next_call_starts_another(
    mlx, monkeypatch, limits, streamed, passed, text
):
    monkeypatch.setattr(mlx_process, "GRACE_S", 0.3)
    asyncio.run(mlx.complete(ask()))
    first = pid(mlx)
    os.kill(first, signal.SIGSTOP)
    request = ask(text, limits=limits, options=Options(context_tokens=100_000))
    error, took_s = timed_failure(mlx, request, streamed=streamed)
    assert (error.kind, error.limit) == ("timeout", passed)
    assert 0.4 <= took_s <= 0.6
    assert asyncio.run(mlx.complete(ask())).text
    assert pid(mlx) != first


def test_leaving_a_stream_stops_the_model_and_keeps_its_process(mlx):
    async def leave():
        chunks = mlx.stream(ask(max_tokens=1800))
        async for _ in chunks:
            break
        await chunks.aclose()
        return await mlx.complete(ask(limits=Limits(total_s=20)))

    asyncio.run(mlx.complete(ask()))
    first = pid(mlx)
    completion = asyncio.run(leave())
    assert completion.text
    assert completion.timings.load_s == 0
    assert pid(mlx) == first


def test_unloading_ends_the_process(models):
    async def go():
        provider = Mlx(directory=models)
        await provider.complete(ask())
        worker = pid(provider)
        await provider.unload(keep=frozenset({TINY}))
        kept = psutil.pid_exists(worker)
        await provider.unload()
        return kept, psutil.pid_exists(worker), await provider.memory_bytes(TINY)

    assert asyncio.run(go()) == (True, False, None)


PARENT = """
import asyncio, sys
from pathlib import Path
from soma_bench.providers.mlx import Mlx

async def main():
    provider = Mlx(directory=Path(sys.argv[1]))
    await provider.capabilities(sys.argv[2])
    print(provider._workers[sys.argv[2]].pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_worker_does_not_outlive_its_parent(models):
    command = [sys.executable, "-c", PARENT, str(models), TINY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


# A worker that misbehaves: a script in the place of the interpreter, which speaks the protocol.

SCRIPT = """#!{python}
import json, os, sys, time
def say(event, **fields):
    print(json.dumps(dict(event=event, **fields)), flush=True)
sys.stdin.readline()
say("opened", can_think=True, always_thinks=False)
sys.stdin.readline()
say("loaded", memory_bytes=1)
sys.stdin.readline()
say("text", text="Once", thinking=False)
{fault}
"""
METAL = "[METAL] Command buffer execution failed: Insufficient Memory (00000008)"
FAULTS = [
    ("sys.exit(0)", "ended_early"),
    ("sys.exit(3)", "cut_off"),
    ("os.abort()", "cut_off"),
    (f"print({METAL!r}, file=sys.stderr, flush=True); os.abort()", "out_of_memory"),
    ("print('{half', flush=True)", "malformed"),
    ("print('[1]', flush=True)", "malformed"),
    ("say('what')", "malformed"),
    ("say('error', kind='backend', message='broken')", "backend"),
    ("say('error', kind='out_of_memory', message='too big')", "out_of_memory"),
    ("say('done', text='Once')", "malformed"),
]


@pytest.fixture
def worker_that(tmp_path, monkeypatch, models):
    def make(fault: str) -> Mlx:
        script = tmp_path / "worker"
        script.write_text(SCRIPT.format(python=sys.executable, fault=fault))
        script.chmod(0o755)
        monkeypatch.setattr(mlx_process.sys, "executable", str(script))
        monkeypatch.setattr(mlx_process, "GRACE_S", 0.3)
        return Mlx(directory=models)

    return make


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("fault", "kind"), FAULTS)
def test_an_answer_that_breaks_is_never_taken_for_whole(worker_that, fault, kind, streamed):
    provider = worker_that(fault)
    error, _ = timed_failure(provider, ask(), streamed=streamed)
    asyncio.run(provider.close())
    assert error.kind == kind
    assert str(error).startswith("mlx: ")
    assert "\n" not in str(error)


def test_a_worker_that_falls_silent_passes_the_limit_between_tokens(worker_that):
    provider = worker_that("time.sleep(600)")
    limits = Limits(between_tokens_s=0.4)
    error, _ = timed_failure(provider, ask(limits=limits), streamed=True)
    worker = pid(provider)
    asyncio.run(provider.close())
    assert (error.kind, error.limit) == ("timeout", "between_tokens")
    assert not psutil.pid_exists(worker)


def test_a_worker_that_never_opens_its_model_is_given_up_and_ended(models, tmp_path, monkeypatch):
    script = tmp_path / "worker"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o755)
    monkeypatch.setattr(mlx_process.sys, "executable", str(script))
    monkeypatch.setattr(mlx_process, "GRACE_S", 0.1)
    provider = Mlx(directory=models, limits=Limits(total_s=0.1, load_s=0.2))
    assert failure(provider.capabilities(TINY)).limit == "total"
    assert failure(provider.complete(ask())).kind == "timeout"
    before = time.perf_counter()
    asyncio.run(provider.close())
    assert time.perf_counter() - before < 2
    assert not [child for child in psutil.Process().children() if child.name() == "sleep"]


def test_a_worker_gets_no_secret_and_no_network(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    monkeypatch.setenv("HF_TOKEN", "canary")
    given = mlx_process._environment()
    assert "canary" not in given.values()
    assert given["HF_HUB_OFFLINE"] == "1"


# The catalogue


def write_model(folder: Path, *, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        '{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096,'
        ' "quantization": {"group_size": 64, "bits": 4}}'
    )
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """A home without models, neither of our own nor in the Hugging Face cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_models_are_found_by_exact_name_in_the_folder_and_in_the_cache(empty):
    own = catalogue.mlx_dir()
    write_model(own / "plain-4bit")
    write_model(own / "community" / "nested-4bit")
    (own / "no-weights").mkdir()
    (own / "no-weights" / "config.json").write_text("{}")
    write_model(own / ".hidden")
    half = write_model(own / "half-fetched")
    (half / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-2.safetensors"}}'
    )
    repository = empty / "hub" / "models--mlx-community--Cached-4bit"
    snapshot = write_model(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)

    assert catalogue.installed() == (
        "community/nested-4bit",
        "mlx-community/Cached-4bit",
        "plain-4bit",
    )
    found = catalogue.find("mlx-community/Cached-4bit")
    assert found.folder == snapshot
    assert (found.quantization, found.context_tokens, found.size_bytes) == ("4bit", 4096, 7)
    for wrong in ("mlx-community/Cached", "../cache", "nested-4bit", "half-fetched"):
        with pytest.raises(ProviderError, match=r"nearest there: .*pull mlx:") as caught:
            catalogue.find(wrong)
        assert caught.value.kind == "model_missing"


def test_without_models_the_provider_says_how_to_get_one(empty):
    availability = asyncio.run(Mlx().available())
    assert availability.models == ()
    assert "soma-bench models pull mlx:" in availability.reason


def test_a_digest_is_kept_and_follows_the_files(empty):
    folder = write_model(catalogue.mlx_dir() / "plain-4bit")
    model = catalogue.find("plain-4bit")
    first = catalogue.weights_digest(model)
    assert first.startswith("sha256:")
    assert catalogue.weights_digest(model) == first
    (kept,) = (catalogue.mlx_dir() / ".digests").iterdir()
    kept.write_text(kept.read_text().replace("sha256:", "sha256:0", 1))
    assert catalogue.weights_digest(model) == first, "an edited note is not believed"
    (folder / "chat_template.jinja").write_text("another")
    second = catalogue.weights_digest(model)
    (folder / "model.safetensors").write_bytes(b"others!")
    assert len({first, second, catalogue.weights_digest(model)}) == 3


def test_pulling_without_a_network_fails_in_one_clear_line(empty, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    said = []
    with pytest.raises(
        ConfigError, match="cannot be fetched: the Hugging Face Hub cannot be"
    ) as caught:
        catalogue.pull("mlx-community/Some-4bit", lambda *step: said.append(step))
    assert "\n" not in str(caught.value)
    assert said == [("fetching mlx-community/Some-4bit", 0, 1)]


def test_pulling_what_is_no_name_fails_in_one_clear_line(empty):
    with pytest.raises(ConfigError, match="cannot be fetched") as caught:
        catalogue.pull("a/b/c/d")
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    with pytest.raises(ConfigError, match=r"pip install 'soma-bench\[mlx\]'"):
        Mlx()
