"""The lint: each doubt is found where it is, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from routing_examples import GIB, profile_content, row
from soma_bench.cli.profile import profile as profile_command
from soma_bench.routing.lint import Surroundings, lint
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.types import AGENTS

NOW = datetime(2026, 11, 25, tzinfo=UTC)
PRIMARY, FALLBACK = "ollama:qwen3:8b-q4_K_M", "ollama:llama3.2:3b"
DIGEST = "sha256:" + "a" * 64
HARDWARE = {"cpu": "Apple M4 Max", "memory_bytes": 36 * GIB}
AROUND = Surroundings(
    now=NOW,
    hardware=HARDWARE,
    model_digests={PRIMARY: DIGEST},
    working_set_bytes=27 * GIB,
)


def route(primary: str = PRIMARY, fallback: str | None = FALLBACK, privacy: str = "local_only"):
    return {"primary": primary, "fallback": fallback, "privacy": privacy, "reason": "measured"}


def sound(routes: dict | None = None, evidence: list | None = None, **changes) -> Profile:
    """A profile about which nothing is doubtful; what is given replaces or adds."""
    rows = {
        (agent, target): row(
            agent, target, n=40, cases=40, quality=quality, cost_usd=cost, memory_bytes=6 * GIB
        )
        for agent in AGENTS
        for target, quality, cost in ((PRIMARY, 0.8, 0.0001), (FALLBACK, 0.3, 0.00005))
    }
    for one in evidence or []:
        rows[one.agent, one.target] = one
    return Profile.model_validate(
        profile_content(
            routing={**{agent: route() for agent in AGENTS}, **(routes or {})},
            evidence=list(rows.values()),
            **{
                "provenance": {
                    "run_ids": ["r"],
                    "hardware": HARDWARE,
                    "model_digests": {PRIMARY: DIGEST},
                    "date": "2026-11-20T10:00:00+00:00",
                },
                **changes,
            },
        )
    )


def better(agent: str, target: str, **figures):
    return row(agent, target, **{"n": 40, "cases": 40, "quality": 0.8, **figures})


def rules(profile: Profile, around: Surroundings = AROUND) -> list[tuple[str, str]]:
    return [(finding.rule, finding.where) for finding in lint(profile, around)]


def test_a_sound_profile_has_no_finding():
    assert rules(sound()) == []


def test_a_threshold_below_the_primarys_own_p95_is_found():
    """The original plan: 30 s, and a pathologist that takes 49.6 s."""
    slow = better("pathologist", PRIMARY, latency_p50_s=49.6, latency_p95_s=55.0)
    (finding,) = lint(sound(evidence=[slow]), AROUND)
    assert (finding.rule, finding.where) == ("threshold", "routing.pathologist.primary")
    assert "more than half of" in finding.message
    assert "fall back to" in finding.message
    rare = better("pathologist", PRIMARY, latency_p50_s=20.0, latency_p95_s=31.0)
    (finding,) = lint(sound(evidence=[rare]), AROUND)
    assert "more than 5 in 100" in finding.message


def test_a_threshold_that_leaks_work_to_the_cloud_says_so():
    cloud = "claude:claude-sonnet-5-5"
    slow = better("pathologist", PRIMARY, latency_p50_s=49.6, latency_p95_s=55.0)
    measured = better("pathologist", cloud, quality=0.9, cost_usd=0.02, memory_bytes=None)
    profile = sound({"pathologist": route(PRIMARY, cloud, "deidentified")}, [slow, measured])
    (finding,) = lint(profile, AROUND)
    assert "leave this machine for claude" in finding.message


@pytest.mark.parametrize(
    "changes", [{"auto_fallback": False}, {"latency_threshold_ms": 60_000}], ids=str
)
def test_a_threshold_that_cannot_be_passed_is_no_finding(changes):
    slow = better("pathologist", PRIMARY, latency_p50_s=49.6, latency_p95_s=55.0)
    assert rules(sound(evidence=[slow], **changes)) == []


def test_a_target_without_evidence_is_found():
    profile = sound({"alignment": route(PRIMARY, "ollama:qwen2.5:14b")})
    assert rules(profile) == [("unmeasured", "routing.alignment.fallback")]
    nothing = Profile.model_validate(profile_content())
    unmeasured = [where for rule, where in rules(nothing) if rule == "unmeasured"]
    assert len(unmeasured) == 5 + 3, "five primaries and three fallbacks"


def test_synthetic_and_simulated_evidence_is_found():
    profile = sound(
        evidence=[better("qc_reviewer", PRIMARY, synthetic=True)],
        synthetic_evidence=True,
        provenance={
            "hardware": {**HARDWARE, "simulated": True},
            "date": "2026-11-20T10:00:00+00:00",
        },
    )
    assert rules(profile) == [
        ("synthetic", "routing.qc_reviewer.primary"),
        ("simulated", "provenance.hardware"),
    ]


def test_too_few_cases_are_found_and_repeats_do_not_help():
    few = better("qc_reviewer", PRIMARY, n=60, cases=12)
    assert rules(sound(evidence=[few])) == [("small", "routing.qc_reviewer.primary")]


@pytest.mark.parametrize(
    ("date", "found"),
    [("2026-11-01T00:00:00+00:00", False), ("2026-04-01", True), (None, True)],
)
def test_evidence_that_is_too_old_or_of_no_date_is_found(date, found):
    profile = sound(provenance={"hardware": HARDWARE, "date": date})
    assert rules(profile) == ([("old", "provenance.date")] if found else [])


def test_evidence_from_other_hardware_or_weights_is_found():
    other = Surroundings(
        now=NOW,
        hardware={"cpu": "Apple M2", "memory_bytes": 64 * GIB},
        model_digests={PRIMARY: "sha256:" + "b" * 64},
        working_set_bytes=48 * GIB,
    )
    assert rules(sound(), other) == [
        ("hardware", "provenance.hardware.cpu"),
        ("hardware", "provenance.hardware.memory_bytes"),
        ("digest", f"provenance.model_digests.{PRIMARY}"),
    ]


def test_a_retired_model_is_found_and_its_successor_named():
    profile = sound({"report_writer": route("claude:claude-sonnet-4-20250514", None, "open")})
    findings = {finding.rule: finding for finding in lint(profile, AROUND)}
    assert findings["retired"].where == "routing.report_writer.primary"
    assert "claude-sonnet-5-5" in findings["retired"].message


def test_a_cheaper_target_whose_interval_overlaps_is_found():
    near = better("report_writer", FALLBACK, quality=0.72, cost_usd=0.00001)
    assert rules(sound(evidence=[near])) == [("overlap", "routing.report_writer.primary")]


def test_a_cheaper_target_that_may_not_be_used_is_no_finding():
    near = better("report_writer", "openai:gpt-6-luna", quality=0.8, cost_usd=0.00001)
    assert rules(sound(evidence=[near])) == []
    here = {"report_writer": route(privacy="open")}
    assert rules(sound(here, [near])) == [("overlap", "routing.report_writer.primary")]


def test_models_that_do_not_fit_together_are_found():
    heavy = [better(agent, PRIMARY, memory_bytes=20 * GIB, cost_usd=0.0001) for agent in AGENTS]
    assert rules(sound(evidence=heavy)) == [], "one model of 20 GiB is resident once for all"
    tight = Surroundings(now=NOW, working_set_bytes=25 * GIB)
    (finding,) = lint(sound(evidence=heavy), tight)
    assert finding.rule == "memory"
    assert "primaries and fallbacks need 26.0 GiB" in finding.message


def test_memory_that_nobody_measured_is_taken_as_predicted():
    unmeasured = [better(agent, PRIMARY, memory_bytes=None, cost_usd=0.0001) for agent in AGENTS]
    around = Surroundings(now=NOW, working_set_bytes=27 * GIB, predicted_memory={PRIMARY: 24 * GIB})
    assert rules(sound(evidence=unmeasured), around) == [("memory", "routing")]


def test_an_expired_profile_is_found():
    until = (NOW - timedelta(days=1)).isoformat()
    assert rules(sound(valid_until=until)) == [("expired", "valid_until")]


def test_the_command_ends_with_1_where_it_finds_something(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_BASE_URL", "http://127.0.0.1:9")
    path = tmp_path / "p.json"
    save_profile(sound(), path)
    command = ["lint", str(path), "--machine", "m4max-36gb", "--most-days", "3650"]
    done = CliRunner().invoke(profile_command, command)
    assert (done.exit_code, done.stdout) == (0, f"{path}: no findings\n")
    done = CliRunner().invoke(profile_command, [*command, "--least-cases", "50"])
    assert done.exit_code == 1
    assert "small: routing.alignment.primary" in done.stdout
    elsewhere = CliRunner().invoke(profile_command, ["lint", str(path), "--json"])
    assert elsewhere.exit_code == 1
    assert '"hardware"' in elsewhere.stdout
