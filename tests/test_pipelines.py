"""Whole analyses: each stage scored, and what the errors before it cost it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from routing_examples import profile_content
from scripted import ScriptedProvider, completion, example_answer
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.qc_reviewer import QCReviewerOutput
from soma_bench.agents.radiologist import Measurement, RadiologistOutput
from soma_bench.agents.report_writer import read_report
from soma_bench.cases.generate import SEED, suite_text
from soma_bench.cases.generate.pipeline import generate
from soma_bench.cases.generate.reports import findings_text
from soma_bench.cases.pipeline import PipelineCase, load_pipeline_cases
from soma_bench.cli.confirm import confirm
from soma_bench.errors import AnswerError, ConfigError, PrivacyError
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.router import Routed
from soma_bench.sweeps.pipelines import PipelineMeasure, measure_pipeline
from soma_bench.types import AGENTS, Target

SUITE = Path(__file__).parent.parent / "data" / "suites" / "pipeline-generated.jsonl"
CASES = load_pipeline_cases(SUITE)[:6]


class Perfect:
    """Agents that make no mistake of their own: they pass on what they are told.

    With ``swaps`` the radiologist sees every finding on the other side, and who reads it follows.
    """

    def __init__(self, *, swaps: bool = False, silent: str | None = None) -> None:
        self.swaps = swaps
        self.silent = silent
        self.asked: list[str] = []

    def of(self, case: PipelineCase):
        async def ask(agent, inputs, context):
            self.asked.append(agent)
            if agent == self.silent:
                raise AnswerError(f"{agent}: no target gave a usable answer")
            output = getattr(self, agent)(case, inputs)
            return Routed(
                agent=agent,
                target=Target.parse("llamacpp:m"),
                completion=completion(""),
                output=output,
                passed_over=(),
            )

        return ask

    def alignment(self, case, inputs):
        return AlignmentOutput(intent="UNCLEAR", handler="self", asked="x", confidence=50)

    def radiologist(self, case, inputs):
        other = {"left": "right", "right": "left"}
        findings = [
            f.model_copy(update={"laterality": other.get(f.laterality, f.laterality)})
            if self.swaps
            else f
            for f in case.reference.findings
        ]
        return RadiologistOutput(
            findings=tuple(findings),
            measurements=tuple(
                Measurement(finding=f.id, area_mm2=round(3.1416 / 4 * f.size_mm**2))
                for f in findings
            ),
            incidental=(),
            technical_quality="good",
        )

    def pathologist(self, case, inputs):
        return case.reference.diagnosis

    def report_writer(self, case, inputs):
        parts = {
            "Patient Information": f"{inputs.patient.name}, {inputs.patient.age}",
            "Clinical Indication": inputs.context.indication,
            "Comparison": "None.",
            "Technique": inputs.context.technique,
            "Findings": findings_text(inputs.findings, 0),
            "Impression": f"Most likely {inputs.diagnosis.primary.name}.",
            "Recommendations": f"{', '.join(inputs.diagnosis.workup)}.",
        }
        text = "\n".join(f"## {heading}\n{body}" for heading, body in parts.items())
        return read_report(text)

    def qc_reviewer(self, case, inputs):
        _, output = AGENT_BY_NAME["qc_reviewer"].examples[0]
        assert isinstance(output, QCReviewerOutput)
        return output


def measure(agents: Perfect, **options) -> PipelineMeasure:
    scores, times = [], []
    for case in CASES:
        found = asyncio.run(measure_pipeline([case], agents.of(case), **options))
        scores += found.scores
        times += found.times
    return PipelineMeasure(scores=tuple(scores), times=tuple(times))


def test_the_published_suite_follows_from_its_seed():
    assert SUITE.read_text() == suite_text(generate(SEED))
    assert {case.split for case in load_pipeline_cases(SUITE)} == {"dev", "held_out"}


def test_agents_that_make_no_mistake_lose_nothing_anywhere():
    measured = measure(Perfect())
    means = {key: interval.mean for key, interval in measured.quality().items()}
    assert means["radiologist", "sequential"] == pytest.approx(1)
    assert means["pathologist", "sequential"] == pytest.approx(1)
    assert means["report_writer", "sequential"] == means["report_writer", "true"]
    lost = measured.compare("report_writer", "sequential", "true")
    assert lost is not None
    assert (lost.difference.mean, lost.p, lost.cases) == (0, 1, len(CASES))
    assert all(time.finished for time in measured.times)


def test_a_radiologists_swapped_sides_are_found_as_the_reports_loss():
    """The report writer is faultless: on the truth it scores as before, on what it is told less."""
    measured = measure(Perfect(swaps=True))
    means = {key: interval.mean for key, interval in measured.quality().items()}
    assert means["radiologist", "sequential"] < 0.9
    assert (
        means["report_writer", "true"] == measure(Perfect()).quality()["report_writer", "true"].mean
    )
    lost = measured.compare("report_writer", "sequential", "true")
    assert lost is not None
    assert lost.difference.mean < -0.1


def test_a_stage_without_an_answer_scores_zero_and_so_do_those_that_wait_for_it():
    measured = measure(Perfect(silent="radiologist"))
    means = {key: interval.mean for key, interval in measured.quality().items()}
    assert means["radiologist", "sequential"] == means["pathologist", "sequential"] == 0
    assert means["report_writer", "sequential"] == 0
    assert means["pathologist", "true"] == pytest.approx(1), "asked on the truth it still answers"
    assert not any(time.finished for time in measured.times)
    failed = [one for one in measured.scores if one.upstream == "sequential"]
    assert all("no target gave a usable answer" in one.failure for one in failed)


def test_both_orders_run_and_are_compared_on_the_same_cases():
    measured = measure(Perfect(), orders=("sequential", "parallel"), true_upstream=False)
    paired = measured.compare("pathologist", "parallel", "sequential")
    assert paired is not None
    assert paired.cases == len(CASES)
    assert measured.compare("pathologist", "sequential", "true") is None
    assert [time.order for time in measured.times[:2]] == ["sequential", "parallel"]


def test_a_stage_without_truth_is_not_scored():
    assert {one.agent for one in measure(Perfect()).scores} == {
        "radiologist",
        "pathologist",
        "report_writer",
    }


def test_a_breach_of_privacy_ends_it():
    async def ask(agent, inputs, context):
        raise PrivacyError("alignment is local_only")

    with pytest.raises(PrivacyError):
        asyncio.run(measure_pipeline(CASES, ask))


# The command.


@pytest.fixture
def profile_file(tmp_path, monkeypatch) -> Path:
    """A profile all of whose targets answer as their agents' first worked example does."""

    def pool(_factory) -> ProviderPool:
        return ProviderPool(lambda _: ScriptedProvider(example_answer))

    monkeypatch.setattr("soma_bench.cli.confirm.ProviderPool", pool)
    route = {"primary": "llamacpp:a", "fallback": None, "privacy": "local_only", "reason": ""}
    content = profile_content(
        providers={"llamacpp": {"enabled": True}},
        models={},
        routing={agent: dict(route) for agent in AGENTS},
    )
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(content))
    return path


def test_confirm_measures_the_held_out_analyses_and_says_what_each_stage_lost(profile_file):
    arguments = [str(profile_file), "--suite", str(SUITE), "--both-orders", "--json"]
    told = CliRunner().invoke(confirm, arguments)
    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    held_out = {c.id for c in load_pipeline_cases(SUITE) if c.split == "held_out"}
    assert {row["case"] for row in result["scores"]} == held_out
    assert {row["order"] for row in result["times"]} == {"sequential", "parallel"}
    compared = {(row["agent"], row["of"], row["against"]) for row in result["differences"]}
    assert ("report_writer", "sequential", "true") in compared
    assert ("pathologist", "parallel", "sequential") in compared


def test_confirm_prints_a_row_for_each_stage(profile_file):
    told = CliRunner().invoke(confirm, [str(profile_file), "--suite", str(SUITE), "--cases", "2"])
    assert told.exit_code == 0, told.output
    assert "2 of 2 ended with a report" in told.output
    assert all(agent in told.output for agent in ("radiologist", "pathologist", "report_writer"))


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda lines: [lines[0], lines[0]], r":2: id: .*earlier line"),
        (
            lambda lines: [lines[0].replace('"message"', '"massage"')],
            r":1: input.message: field required",
        ),
        (lambda lines: ["{"], r":1"),
    ],
)
def test_a_wrong_pipeline_case_is_named_by_its_line(tmp_path, change, place):
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(change(SUITE.read_text().splitlines())))
    with pytest.raises(ConfigError, match=place):
        load_pipeline_cases(path)
