"""``soma-bench run``: the report, how it came about, and what it tells meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asking import EXAMPLE, review
from routing_examples import profile_content
from servers.base import Fault
from servers.ollama import Model, OllamaServer
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cli import cli
from soma_bench.types import AGENTS


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    models = [
        Model(name=f"{name}:1b", answer=(agent.write(agent.examples[0][1]),))
        for name, agent in AGENT_BY_NAME.items()
    ]
    with OllamaServer(*models) as running:
        yield running


def run(tmp_path: Path, server: OllamaServer, *arguments: str, absent: str = "") -> Result:
    """Run the example on a model for each agent; that of ``absent`` is not installed."""
    routing = {
        agent: {
            "primary": f"ollama:{agent}:{'8b' if agent == absent else '1b'}",
            "fallback": f"ollama:{agent}:1b" if agent == absent else None,
            "privacy": "local_only",
            "reason": "measured",
        }
        for agent in AGENTS
    }
    content = profile_content(
        providers={"ollama": {"enabled": True, "base_url": server.url}},
        models={},
        routing=routing,
        pipeline="parallel",
    )
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    return CliRunner().invoke(cli, ["run", str(EXAMPLE), "--profile", str(path), *arguments])


def test_run_prints_the_report_its_review_and_a_row_for_each_stage(tmp_path, server):
    done = run(tmp_path, server)
    assert done.exit_code == 0, done.output
    assert "## Impression" in done.stdout
    assert "QC review: pass, score 96 of 100" in done.stdout
    header = next(line for line in done.stdout.splitlines() if line.startswith("stage"))
    for column in ("target", "answer", "queue", "prompt tok", "cost", "passed over"):
        assert column in header
    for agent in AGENTS:
        assert f"ollama:{agent}:1b" in done.stdout
        assert f"{agent}: asking" in done.stderr


def test_run_tells_of_a_fallback_and_why(tmp_path, server):
    done = run(tmp_path, server, "--json", absent="radiologist")
    assert done.exit_code == 0, done.output
    assert "radiologist: fell back to ollama:radiologist:1b" in done.stderr
    (result,) = json.loads(done.stdout)
    stages = {stage["agent"]: stage for stage in result["stages"]}
    assert stages["radiologist"]["fallback_used"]
    assert "radiologist:8b" in stages["radiologist"]["passed_over"][0]
    assert not stages["pathologist"]["fallback_used"]
    assert stages["pathologist"]["passed_over"] == []
    assert result["cost_usd"] == pytest.approx(sum(s["cost_usd"] for s in stages.values()))
    assert all(stage["privacy"] == "local_only" for stage in stages.values())


def test_run_shows_both_drafts_where_the_review_sent_one_back(tmp_path, server):
    reviewer = next(model for model in server.models if model.name == "qc_reviewer:1b")
    reviewer.answer = (review("critical").model_dump_json(),)
    done = run(tmp_path, server, "--json")
    (result,) = json.loads(done.stdout)
    assert len(result["drafts"]) == 2
    assert [s["round"] for s in result["stages"] if s["agent"] == "report_writer"] == [1, 2]
    assert "qc_reviewer: 1 critical, so the report is written anew" in done.stderr


def test_a_run_that_passes_its_deadline_is_one_line_and_exit_code_1(tmp_path, server):
    server.fault = Fault(then="hang")
    done = run(tmp_path, server, "--deadline", "0.5")
    assert done.exit_code == 1
    assert "no report: alignment" in done.stderr
    assert done.stdout == ""
