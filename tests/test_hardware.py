"""The hardware model: memory and time worked by hand, the original table, and honest labels."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from soma_bench.cli.models import models
from soma_bench.errors import ConfigError
from soma_bench.hardware import (
    Calibration,
    Prediction,
    Sample,
    Work,
    architecture,
    calibrate,
    machine,
    memory,
    pipeline_seconds,
    predict,
    weights,
)
from soma_bench.hardware.calibrate import UNCALIBRATED
from soma_bench.hardware.measured import calibrate_on_run
from soma_bench.hardware.model import bytes_read, prefill_operations
from soma_bench.hardware.original import PIPELINE, TARGET, WEIGHTS_BYTES, original_calibration
from soma_bench.hardware.plan import plan_sweep
from soma_bench.providers.gguf_header import read_header
from soma_bench.routing.evidence import Evidence
from soma_bench.sweeps.spec import load_sweep, sweep_from
from soma_bench.sweeps.store import PlannedRow, RunRecord, Store, TrialRecord
from soma_bench.types import AGENTS, Target

ROOT = Path(__file__).parent.parent
GIB = 1 << 30
QWEN = architecture(TARGET)
M4 = machine("m4max-36gb")


def exact(efficiency: float = 0.8, constant_s: float = 0.0) -> Calibration:
    return Calibration(efficiency=efficiency, constant_s=constant_s, source="a test")


def test_keys_and_values_of_qwen3_32b_take_256_kib_a_token():
    assert QWEN.kv_bytes_per_token() == 256 << 10
    assert memory(WEIGHTS_BYTES, QWEN, 32_768).context == 8 * GIB


def test_a_context_of_32k_is_what_makes_qwen3_32b_too_large_for_36_gb():
    assert memory(WEIGHTS_BYTES, QWEN, 8_192).total < M4.working_set_bytes
    assert memory(WEIGHTS_BYTES, QWEN, 32_768).total > M4.working_set_bytes


def test_a_prediction_worked_by_hand():
    """1000 prompt and 100 answer tokens at 80 % of 410 GB/s, on average 1050 tokens before each."""
    work = Work(prompt_tokens=1000, output_tokens=100)
    guess = predict(WEIGHTS_BYTES, QWEN, work, M4, exact(constant_s=0.5))
    read = 100 * (19.8e9 + 1050 * 262_144)
    assert guess.decode_s == pytest.approx(read / (0.8 * 410e9))
    assert guess.prefill_s == pytest.approx(2 * 32.76e9 * 1000 / 10.5e12)
    assert 1000 / guess.prefill_s == pytest.approx(160, rel=0.01), "as it was measured"
    assert guess.total_s == pytest.approx(0.5 + guess.prefill_s + guess.decode_s)
    assert guess.load_s == pytest.approx(19.8e9 / 5e9)


def test_a_mixture_of_experts_reads_only_what_a_token_passes_through():
    shape = architecture(Target("ollama", "qwen3:30b"))
    work = Work(prompt_tokens=0, output_tokens=1)
    assert bytes_read(19_000_000_000, shape, work) < 19_000_000_000 / 8


def test_the_original_table_is_reproduced_and_its_odd_row_found_out():
    calibration, rows = original_calibration()
    assert calibration.efficiency == pytest.approx(0.79, abs=0.015)
    assert calibration.constant_s == pytest.approx(0.5, abs=0.1)
    by_agent = {row.name: row for row in rows}
    for agent in ("pathologist", "report_writer", "qc_reviewer"):
        assert abs(by_agent[agent].error) < 0.01
    assert by_agent["alignment"].share == pytest.approx(0.96, abs=0.01)
    assert [row.name for row in rows if row.implausible] == ["alignment"]
    assert calibration.error < calibration.left_out_error < 0.02


def test_the_original_pipeline_is_96_seconds_in_turn_and_71_side_by_side():
    assert pipeline_seconds(PIPELINE, "sequential") == pytest.approx(96.2, abs=0.15)
    assert pipeline_seconds(PIPELINE, "parallel") == pytest.approx(71.5, abs=0.05)


def test_calibration_finds_the_parts_that_measurements_were_made_from():
    random_ = random.Random(3)
    samples = []
    for _ in range(40):
        work = Work(
            prompt_tokens=random_.randint(200, 4000), output_tokens=random_.randint(50, 900)
        )
        truth = predict(
            WEIGHTS_BYTES,
            QWEN,
            work,
            M4,
            Calibration(efficiency=0.6, prefill_share=0.5, constant_s=0.3, source="truth"),
        )
        samples.append(
            Sample(
                name="call",
                bytes_read=bytes_read(WEIGHTS_BYTES, QWEN, work),
                prefill_operations=prefill_operations(QWEN, work),
                total_s=truth.total_s * random_.gauss(1, 0.02),
                weights_bytes=WEIGHTS_BYTES,
                load_s=8.0,
            )
        )
    found = calibrate(samples, M4, source="made up")
    assert found.efficiency == pytest.approx(0.6, rel=0.03)
    assert found.prefill_share == pytest.approx(0.5, rel=0.1)
    assert found.disk_share == pytest.approx(19.8e9 / 8 / 5e9)
    assert 0.01 < found.error < 0.03, "the noise that was put in"


@pytest.mark.parametrize(
    "seconds",
    [(), (3.0,), (3.0, 3.0), (5.0, 1.0)],
    ids=["none", "one", "one length", "longer is faster"],
)
def test_measurements_that_tell_nothing_of_the_bandwidth_are_refused(seconds):
    reads = [1e12, 1e12] if seconds == (3.0, 3.0) else [1e12, 5e12]
    samples = [
        Sample(name="x", bytes_read=read, prefill_operations=None, total_s=total)
        for read, total in zip(reads, seconds, strict=False)
    ]
    with pytest.raises(ValueError, match=r"calibration needs|tell nothing"):
        calibrate(samples, M4, source="test")


def test_a_prediction_is_labelled_and_is_no_evidence():
    work = Work(prompt_tokens=100, output_tokens=10)
    guess = predict(WEIGHTS_BYTES, QWEN, work, M4, UNCALIBRATED)
    assert guess.basis == "predicted"
    assert guess.error is None, "nothing was measured, so nobody knows how wrong it is"
    assert not set(Prediction.__dataclass_fields__) & {"quality", "metric", "n"}
    assert not isinstance(guess, Evidence)


@pytest.mark.parametrize(
    ("target", "size", "word"),
    [
        ("ollama:qwen3:32b-q8_0", 35e9, "library"),
        ("mlx:mlx-community/Qwen3-8B-4bit", 8.19e9 * 4.5 / 8, "4.5 bits"),
        ("ollama:qwen3:4b-q8_0", 4.02e9 * 8.5 / 8, "8.5 bits"),
        ("llamacpp:smollm2-135m-instruct-q4_1", 0.1345e9 * 5 / 8, "5 bits"),
    ],
)
def test_weights_come_from_the_dated_table_or_from_bits_per_weight(target, size, word):
    known = weights(Target.parse(target))
    assert known.size_bytes == pytest.approx(size)
    assert word in known.source
    assert "202" in known.source, "a date"


def test_bits_per_weight_come_near_the_sizes_that_the_library_shows():
    for text in ("qwen3:8b", "qwen3:14b", "qwen3:32b", "qwen2.5:14b", "llama3.1:8b"):
        shape = architecture(Target("ollama", text))
        listed = weights(Target("ollama", text)).size_bytes
        assert shape.parameters * 4.83 / 8 == pytest.approx(listed, rel=0.06), text


@pytest.mark.model
def test_the_table_agrees_with_a_real_file(embedded_models):
    """Small models keep their large vocabulary in more bits: the file is larger than its name says."""
    file = embedded_models / "smollm2-135m-instruct-q4_1.gguf"
    header, target = read_header(file), Target("llamacpp", "smollm2-135m-instruct-q4_1")
    shape = architecture(target)
    assert shape.layers == header["llama.block_count"]
    assert shape.kv_heads == header["llama.attention.head_count_kv"]
    assert shape.head_dim == header["llama.rope.dimension_count"]
    assert weights(target).size_bytes == pytest.approx(file.stat().st_size, rel=0.2)


def test_what_is_not_in_a_table_is_unknown_and_not_guessed():
    assert architecture(Target("ollama", "somebodys-model:3b")) is None
    assert weights(Target("llamacpp", "mystery")) is None
    with pytest.raises(ConfigError, match="m4max-36gb, m4max-64gb, here"):
        machine("m9")


def small_sweep(**target: object):
    return sweep_from(
        {
            "name": "s",
            "suites": {"qc_reviewer": "data/suites/qc_reviewer.jsonl"},
            "targets": [target],
            "options": {"context_tokens": 8192},
        },
        "s.yaml",
    )


@pytest.mark.parametrize(
    ("target", "limit", "verdict"),
    [
        ({"provider": "ollama", "model": "qwen3:32b-q8_0"}, None, "does not fit"),
        ({"provider": "ollama", "model": "llama3.3:70b"}, None, "does not fit"),
        ({"provider": "ollama", "model": "llama3.2:8b"}, None, "does not exist"),
        ({"provider": "ollama", "model": "qwen3:32b-q4_K_M", "thinking": [1024]}, 30, "too slow"),
        ({"provider": "ollama", "model": "qwen3:8b-q4_K_M", "thinking": ["off"]}, 30, "fits"),
        ({"provider": "ollama", "model": "nobodys:1b"}, 1, "unknown"),
        ({"provider": "claude", "model": "claude-sonnet-5-5"}, 1, "cloud"),
    ],
)
def test_a_plan_says_before_any_download_what_cannot_run(target, limit, verdict):
    (row,) = plan_sweep(small_sweep(**target), ROOT, M4, UNCALIBRATED, max_latency_s=limit)
    assert row.verdict == verdict
    assert row.reason or verdict == "fits"
    assert row.basis == "predicted"


@pytest.mark.parametrize("name", ["m4max", "ci"])
def test_the_shipped_sweeps_fit_their_machine(name):
    sweep = load_sweep(ROOT / "sweeps" / f"{name}.yaml")
    rows = plan_sweep(sweep, ROOT / "sweeps", M4, UNCALIBRATED)
    assert {row.agent for row in rows} == set(AGENTS)
    assert {row.verdict for row in rows} <= {"fits", "cloud"}


def test_the_command_says_which_targets_cannot_run_and_ends_with_1(tmp_path):
    file = ROOT / "sweeps" / "m4max.yaml"
    done = CliRunner().invoke(models, ["plan", str(file), "--json"])
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["basis"] == "predicted"
    assert told["calibration"]["n"] == 3
    slow = CliRunner().invoke(models, ["plan", str(file), "--max-latency", "30"])
    assert slow.exit_code == 1
    assert "too slow" in slow.stdout
    assert "no evidence" in slow.stdout


def test_a_run_on_this_machine_calibrates_it(tmp_path):
    """Trials made from known speeds; busy ones, clouds and unknown models are left out."""
    target = "ollama:qwen3:8b-q4_K_M"
    shape, size = architecture(Target.parse(target)), 5_200_000_000
    truth = exact(0.5, constant_s=0.2)
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        rows, trials = [], []
        for place in range(12):
            work = Work(prompt_tokens=300 + 40 * place, output_tokens=50 + (7 * place) % 90)
            seconds = predict(size, shape, work, M4, truth).total_s
            busy = place in (3, 7)
            key = f"k{place}"
            rows.append(
                PlannedRow(key=key, agent="alignment", suite="s", case_digest="c", case={"x": 1})
            )
            trials.append(
                TrialRecord(
                    key=key,
                    agent="alignment",
                    target=target if place != 5 else "ollama:nobodys:1b",
                    provider="ollama",
                    model="qwen3:8b-q4_K_M",
                    quantization=None,
                    thinking=None,
                    case_id="c",
                    repeat=0,
                    status="done",
                    request={},
                    identity={"weights_bytes": size},
                    synthetic=False,
                    answer="x",
                    finish="stop",
                    prompt_tokens=int(work.prompt_tokens),
                    output_tokens=int(work.output_tokens),
                    total_s=seconds * (9 if busy else 1),
                    start="cold" if place == 0 else "warm",
                    load_s=4.0 if place == 0 else None,
                    busy=busy,
                    ended_at="2026-11-25T00:00:00+00:00",
                )
            )
        run = RunRecord(
            id="r",
            name="r",
            plan_digest="p",
            epoch=0,
            sweep={},
            started_at="2026-11-25T00:00:00+00:00",
            environment={},
        )
        store.begin_run(run, rows)
        for trial in trials:
            store.record(trial)
        found = calibrate_on_run(store, "r", M4)
        assert found.n == 9
        assert found.efficiency == pytest.approx(0.5, rel=0.01)
        assert found.disk_share == pytest.approx(5.2e9 / 4 / 5e9)
        assert found.error < 0.01
