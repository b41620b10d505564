"""A small sweep of the embedded model: measured once, then met by commands and by every notebook."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebook_outputs import NOTEBOOKS, QUIET, execute, pictures, printed
from soma_bench.comparison import compare_run
from soma_bench.notebooks.run import run_notebook
from soma_bench.providers.quantize import quantize
from soma_bench.routing.constraints import Constraints
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.strict_yaml import parse_yaml
from soma_bench.sweeps.execute import execute_sweep
from soma_bench.sweeps.spec import PlacedSweep, sweep_from
from soma_bench.sweeps.store import Store
from soma_bench.tuning import tune

pytestmark = pytest.mark.model

SUITES = Path(__file__).parent.parent / "data" / "suites"
ALIGNMENT = {"alignment": str(SUITES / "alignment.jsonl")}
SWEEP = f"""\
name: small
suites:
  alignment: {SUITES}/alignment.jsonl
  radiologist: {SUITES}/radiologist.jsonl
  pathologist: {SUITES}/pathologist.jsonl
  report_writer: {SUITES}/report_writer.jsonl
  qc_reviewer: {SUITES}/qc_reviewer.jsonl
cases_per_agent: 1
targets:
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_1
    thinking: [off, 8]
  - provider: llamacpp
    model: smollm2-135m-instruct-q4_0
    thinking: [off]
    agents: [alignment]
options: {{seed: 1, context_tokens: 2048, cache_prompt: true}}
"""


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "soma_bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, embedded_models: Path) -> Path:
    """A folder with the sweep, its store, and what the command said."""
    quantize(["Q4_0"], embedded_models)
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yaml").write_text(SWEEP)
    done = call("sweep", folder / "small.yaml", "--json", "--store", folder / "runs.db")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["called"], outcome["failed"]) == (11, 0)
    (folder / "outcome.json").write_text(done.stdout)
    return folder


def test_a_sweep_from_dry_run_to_profile_and_export(tmp_path: Path, measured: Path) -> None:
    path = measured / "small.yaml"
    dry = call("sweep", path, "--dry-run", "--json", "--store", tmp_path / "none.db")
    assert dry.returncode == 0, dry.stderr
    models = json.loads(dry.stdout)["models"]
    assert [(m["trials"], m["missing"], m["basis"]) for m in models] == [
        (10, 10, "predicted"),
        (1, 1, "predicted"),
    ]
    assert not (tmp_path / "none.db").exists(), "a dry run writes nothing"

    store = ("--store", shutil.copy(measured / "runs.db", tmp_path))
    again = call("sweep", path, "--dry-run", "--json", *store)
    assert [model["missing"] for model in json.loads(again.stdout)["models"]] == [0, 0]
    table = call("compare", "small", *store)
    assert table.returncode == 0
    assert "radiologist" in table.stdout
    run_id = json.loads((measured / "outcome.json").read_text())["run_id"]
    rows = json.loads(call("compare", run_id, "--json", *store).stdout)["evidence"]
    assert len(rows) == 11

    profile = tmp_path / "profile.json"
    chosen = call("optimize", "small", "--name", "small", "--out", profile, *store)
    assert chosen.returncode == 0, chosen.stderr
    first = profile.read_bytes()
    assert call("profile", "validate", profile).returncode == 0
    assert call("optimize", "small", "--name", "small", "--out", profile, *store).returncode == 0
    assert profile.read_bytes() == first, "the same run gives the same profile, byte for byte"
    for format_ in ("json", "js", "env"):
        out = tmp_path / f"exported.{format_}"
        assert call("export", profile, "--format", format_, "--out", out).returncode == 0
        assert out.stat().st_size > 100


@pytest.mark.filterwarnings(*QUIET)
def test_the_notebooks_run_in_order_and_write_the_profile(measured: Path) -> None:
    store = str(measured / "runs.db")
    again = execute("01_sweep", measured, sweep_file=str(measured / "small.yaml"), store=store)
    assert "0 were run now, of which 0 failed" in printed(again)
    assert "is complete: 11 trials" in printed(again)
    assert "Ended: 11 of 11 trials" in printed(again), "the view is left as the sweep ended"
    states = again.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    panels = [one["state"]["state"] for one in states.values() if "state" in one["state"]]
    assert [(panel["stage"], panel["ended"]) for panel in panels] == [("done", 11)]

    compared = execute("02_compare", measured, run="small", store=store)
    assert "11 of 11 trials have ended" in printed(compared)
    assert "The 11 trials of run <code>small-" in printed(compared)
    assert pictures(compared) == 2

    tuned = execute(
        "03_tune_and_export",
        measured,
        run="small",
        store=store,
        profile_name="small",
        profiles_folder=str(measured / "profiles"),
        exports_folder=str(measured / "exports"),
    )
    assert pictures(tuned) == 3
    profile = json.loads((measured / "profiles" / "small.json").read_text())
    assert profile["name"] == "small"
    assert sorted(path.name for path in (measured / "exports").iterdir()) == [
        "small.config.mjs",
        "small.env",
        "small.json",
    ]


@pytest.mark.filterwarnings(*QUIET)
def test_the_gates_notebook_says_yes_and_no(measured: Path) -> None:
    """The run against its own profile passes; a run without most agents does not."""
    store = str(measured / "runs.db")
    with Store(store) as opened:
        routing = tune(
            compare_run(opened, "small"),
            Constraints(allow_synthetic=True),
            pipeline="sequential",
            name="held",
        ).routing
    assert isinstance(routing, Profile)
    save_profile(routing, measured / "held.json")
    asked = {"store": store, "baseline": str(measured / "held.json")}
    passed = execute("08_ci_gate", measured, run="small", **asked)
    assert "The gate is passed" in printed(passed)

    part = sweep_from(
        {
            **parse_yaml((measured / "small.yaml").read_text(), "small"),
            "name": "part",
            "suites": ALIGNMENT,
        },
        "part",
    )
    ended = asyncio.run(execute_sweep(PlacedSweep(part, measured), store))
    assert ended.called == 0, "its trials are those of the whole sweep"
    outcome = run_notebook(
        NOTEBOOKS / "08_ci_gate.ipynb", {"run": "part", **asked}, out=measured / "no.ipynb"
    )
    assert (outcome.status, outcome.exit_code) == ("no", 1)
    assert "the gate is not passed" in (outcome.error or "")


@pytest.mark.filterwarnings(*QUIET)
@pytest.mark.parametrize(
    ("name", "parameters", "figures", "words"),
    [
        ("00_quickstart", {"sweep_file": "small.yaml"}, 1, ["0 were run now", "llamacpp"]),
        ("04_latency", {"run": "small", "analyses": 0}, 3, ["prefill (s)", "not measured"]),
        ("05_thinking", {"run": "small"}, 1, ["quality for 100 tokens", "thinking 8"]),
        (
            "06_quantization",
            {"run": "small"},
            2,
            ["bits per weight", "q4_0?thinking=off\N{NO-BREAK SPACE}*"],
        ),
    ],
)
def test_a_notebook_shows_what_was_measured(
    measured: Path, name: str, parameters: dict[str, Any], figures: int, words: list[str]
) -> None:
    given = {
        key: str(measured / value) if key == "sweep_file" else value
        for key, value in parameters.items()
    }
    outcome = run_notebook(
        NOTEBOOKS / f"{name}.ipynb",
        {"store": str(measured / "runs.db"), **given},
        out=measured / f"{name}.ipynb",
        cwd=NOTEBOOKS,
    )
    assert outcome.error is None
    shown = nbformat.read(outcome.notebook, as_version=4)
    assert pictures(shown) == figures
    for word in words:
        assert word in printed(shown)
