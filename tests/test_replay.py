"""Recorded calls: written without identifiers, asked again where privacy allows, compared honestly."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from asking import EXAMPLE, Agents, example
from routers import ANSWER, QUESTION, TEXT, profile, router_for
from scripted import ScriptedProvider, completion
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.suite import load_suite
from soma_bench.cli import cli
from soma_bench.cli import replay as command
from soma_bench.errors import ConfigError, NoAnswerError, PrivacyError, ProviderError
from soma_bench.pipeline import analyse
from soma_bench.providers.base import Provider
from soma_bench.providers.pool import ProviderPool
from soma_bench.replay import Recorder, Replayed, call_schema, compare_replay, read_log, rerun
from soma_bench.replay.agreement import MEASURES, agreement
from soma_bench.replay.rerun import Outcome
from soma_bench.routing.context import CallContext, Identifiers
from soma_bench.routing.known import Found
from soma_bench.routing.profile import Profile, save_profile
from soma_bench.types import AGENTS, AgentName, Attempt, Completion, ProviderName, Request, Target

NAME, MRN, BORN = "Jane Q. Roe", "MRN-4471902", "1961-04-23"
LOCAL, CLOUD = "llamacpp:candidate", "claude:claude-sonnet-5-5"
SUITES = Path(__file__).parent.parent / "data" / "suites"


def no_names(_: str) -> list[Found]:
    """Recognizers that find nothing."""
    return []


def finds(word: str) -> Callable[[str], list[Found]]:
    """Recognizers that take one word for a name."""

    def recognize(text: str) -> list[Found]:
        at = text.find(word)
        return [] if at < 0 else [Found(at, at + len(word), "NAME", word)]

    return recognize


def line(**changes: Any) -> dict[str, Any]:
    """A recorded call of the alignment agent."""
    return {
        "schema_version": 1,
        "id": "call-1",
        "agent": "alignment",
        "input": QUESTION.model_dump(mode="json"),
        "target": "ollama:qwen3:8b",
        "answer": TEXT,
        "latency_s": 0.5,
        "cost_usd": 0.01,
        "output_tokens": 40,
        **changes,
    }


def written(path: Path, *lines: Mapping[str, Any] | str) -> Path:
    texts = [text if isinstance(text, str) else json.dumps(text) for text in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


class Providers:
    """Scripted providers under every name, with what they were asked."""

    def __init__(self, script: Callable[[Request], str | Completion]) -> None:
        self.script = script
        self.made: dict[ProviderName, ScriptedProvider] = {}

    def make(self, name: ProviderName) -> Provider:
        provider = ScriptedProvider(self.script)
        provider.name, provider.is_local = name, name not in ("claude", "openai")
        self.made[name] = provider
        return provider

    def asked(self) -> dict[str, int]:
        return {name: len(made.requests) for name, made in self.made.items() if made.requests}


def replayed(
    log: Path,
    candidate: Profile,
    providers: Providers,
    recognize: Callable[[str], list[Found]] = no_names,
) -> list[Replayed]:
    async def run() -> list[Replayed]:
        async with ProviderPool(providers.make) as pool:
            router = router_for(candidate, pool, retry_s=0)
            return await rerun(read_log(log)[0], router, recognize=lambda: recognize)

    return asyncio.run(run())


# Recording


def recorded(tmp_path: Path, recognize: Any = no_names) -> tuple[list[dict[str, Any]], Recorder]:
    log = tmp_path / "calls.jsonl"
    recorder = Recorder(log, recognize=recognize)
    patient = example().model_dump(mode="json")
    patient["patient"] = {"name": NAME, "mrn": MRN, "date_of_birth": BORN, "age": 64}
    patient["imaging"]["clinical_context"] = f"{NAME} ({MRN}), born {BORN}, has a cough."
    analysis = type(example()).model_validate_json(json.dumps(patient))
    asyncio.run(analyse(analysis, recorder.recording(Agents())))
    return [json.loads(text) for text in log.read_text().splitlines()], recorder


def test_a_pipelines_calls_are_recorded_and_can_be_read_again(tmp_path: Path) -> None:
    lines, recorder = recorded(tmp_path)
    calls, bad = read_log(tmp_path / "calls.jsonl")
    assert not bad
    assert [call.agent for call in calls.values()] == [row["agent"] for row in lines]
    assert {call.agent for call in calls.values()} == set(AGENTS)
    assert recorder.written == len(lines)
    assert recorder.left_out == 0
    assert len({call.cluster for call in calls.values()}) == 1, "one analysis is one cluster"
    for call in calls.values():
        assert call.cost_usd == 0.001
        assert AGENT_BY_NAME[call.agent].read(completion(call.answer or "")) is not None


def test_no_identifier_of_the_case_is_recorded(tmp_path: Path) -> None:
    recorded(tmp_path)
    text = (tmp_path / "calls.jsonl").read_text()
    for known in (NAME, "Roe", MRN, "4471902", BORN):
        assert known not in text
    assert "[PATIENT_1]" in text
    assert "has a cough" in text, "the rest is kept"


def test_what_the_recognizers_find_is_not_recorded_either(tmp_path: Path) -> None:
    lines, _ = recorded(tmp_path, finds("screening"))
    assert "Please report this [NAME_1] CT." in lines[0]["input"]["message"]


def test_a_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    recorded(tmp_path)
    assert stat.S_IMODE((tmp_path / "calls.jsonl").stat().st_mode) == 0o600


def test_a_call_that_cannot_be_written_without_identifiers_is_left_out(tmp_path: Path) -> None:
    def too_long(_: str) -> list[Found]:
        raise PrivacyError("a text is too long")

    lines, recorder = recorded(tmp_path, too_long)
    assert lines == []
    assert (recorder.written, recorder.left_out) == (0, len(AGENTS))


def test_failures_are_recorded_with_their_kind(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    target = Target.parse(LOCAL)

    async def failing(*_: Any) -> Any:
        attempts = (Attempt(target=target, outcome="timeout", seconds=1.0, message=NAME),)
        raise NoAnswerError(f"no target answered {NAME}", attempts)

    async def run() -> None:
        with pytest.raises(NoAnswerError):
            await Recorder(log, recognize=no_names).recording(failing)(
                "alignment", QUESTION, CallContext(identifiers=Identifiers())
            )

    asyncio.run(run())
    (call,) = read_log(log)[0].values()
    assert (call.answer, call.failure, call.target) == (None, "timeout", LOCAL)
    assert NAME not in log.read_text()


# The log


def test_bad_lines_are_told_by_number_and_the_others_stay(tmp_path: Path) -> None:
    log = written(
        tmp_path / "calls.jsonl",
        line(),
        "not json",
        line(id="call-2", surprise=1),
        line(),
        line(id="call-3", input={"message": 3}),
        line(id="call-4", answer=None),
        line(id="call-5", reference={"intent": "nothing known"}),
        "",
        line(id="call-6"),
        '{"schema_version": 1,',
    )
    calls, bad = read_log(log)
    assert list(calls) == [1, 9]
    why = {line.number: line.why for line in bad}
    assert list(why) == [2, 3, 4, 5, 6, 7, 10]
    assert "is not JSON" in why[2]
    assert why[3].startswith("surprise: ")
    assert why[4] == "id: stands in line 1 too"
    assert why[5].startswith("input: message: ")
    assert why[6] == "give an answer or a failure, and not both"
    assert why[7].startswith("reference: ")


@pytest.mark.parametrize("text", ["", "\n", "not json\n"])
def test_a_log_without_a_call_is_no_log(text: str, tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    log.write_text(text)
    with pytest.raises(ConfigError, match="holds no recorded call"):
        read_log(log)


def test_the_published_schema_takes_what_is_recorded(tmp_path: Path) -> None:
    lines, _ = recorded(tmp_path)
    jsonschema.Draft202012Validator.check_schema(call_schema())
    validator = jsonschema.Draft202012Validator(call_schema())
    for row in lines:
        validator.validate(row)
    assert not validator.is_valid(line(surprise=1))


# Asking again


def test_a_call_with_an_identifier_never_reaches_a_cloud(tmp_path: Path) -> None:
    held = line(id="held", input={"message": f"Is {NAME} well?"})
    log = written(tmp_path / "calls.jsonl", held, line(id="free"))
    providers = Providers(lambda _: TEXT)
    found = replayed(log, profile(CLOUD, None), providers, finds("Roe"))
    assert [one.outcome for one in found] == ["held_back", "answered"]
    assert "still holds NAME" in found[0].why
    assert NAME not in found[0].why
    assert providers.asked() == {"claude": 1}
    assert NAME not in str(providers.made["claude"].requests)


def test_a_cloud_fallback_holds_a_call_back_as_well(tmp_path: Path) -> None:
    log = written(tmp_path / "calls.jsonl", line(input={"message": f"Is {NAME} well?"}))
    providers = Providers(lambda _: TEXT)
    (found,) = replayed(log, profile(LOCAL, CLOUD), providers, finds("Roe"))
    assert found.outcome == "held_back"
    assert providers.asked() == {}


@pytest.mark.parametrize("changes", [{}, {"fallback": CLOUD, "level": "local_only"}])
def test_a_local_candidate_is_asked_whatever_the_call_holds(
    changes: dict[str, str], tmp_path: Path
) -> None:
    call = line(input={"message": f"Is {NAME} well?"}, privacy=changes.get("level"))
    log = written(tmp_path / "calls.jsonl", call)
    providers = Providers(lambda _: TEXT)
    (found,) = replayed(log, profile(LOCAL, changes.get("fallback")), providers, finds("Roe"))
    assert found.outcome == "answered"
    assert set(providers.asked()) == {"llamacpp"}


def test_a_placeholder_is_no_identifier(tmp_path: Path) -> None:
    log = written(tmp_path / "calls.jsonl", line(input={"message": "Is [PATIENT_1] well?"}))
    providers = Providers(lambda _: TEXT)
    (found,) = replayed(log, profile(CLOUD, None), providers, finds("[PATIENT_1]"))
    assert found.outcome == "answered"


@pytest.mark.parametrize(
    ("patient", "outcome"),
    [
        ({"name": "Nadia Holm"}, "held_back"),
        ({"mrn": "12"}, "held_back"),
        ({"date_of_birth": BORN}, "held_back"),
        ({"name": "[PATIENT_1]", "mrn": "[MRN_1]", "age": 64, "sex": "female"}, "answered"),
        (None, "answered"),
    ],
)
def test_a_patients_own_fields_are_identifiers_whatever_patterns_find(
    patient: dict[str, Any] | None, outcome: str, tmp_path: Path
) -> None:
    given, answer = AGENT_BY_NAME["report_writer"].examples[0]
    text = AGENT_BY_NAME["report_writer"].write(answer)
    content = {**given.model_dump(mode="json"), "patient": patient}
    log = written(tmp_path / "c.jsonl", line(agent="report_writer", input=content, answer=text))
    providers = Providers(lambda _: text)
    (found,) = replayed(log, profile(CLOUD, None), providers)
    assert found.outcome == outcome
    assert bool(providers.asked()) == (outcome == "answered")


def test_without_recognizers_nothing_is_put_to_a_cloud(tmp_path: Path) -> None:
    def missing() -> Any:
        raise PrivacyError("de-identification needs Presidio")

    log = written(tmp_path / "calls.jsonl", line())
    providers = Providers(lambda _: TEXT)

    async def run() -> list[Replayed]:
        async with ProviderPool(providers.make) as pool:
            router = router_for(profile(CLOUD, None), pool)
            return await rerun(read_log(log)[0], router, recognize=missing)

    (found,) = asyncio.run(run())
    assert (found.outcome, providers.asked()) == ("held_back", {})


def test_a_failure_of_the_candidate_is_told_by_its_kind(tmp_path: Path) -> None:
    def script(_: Request) -> str:
        raise ProviderError("llamacpp", "broke", kind="out_of_memory")

    log = written(tmp_path / "calls.jsonl", line())
    (found,) = replayed(log, profile(LOCAL, None), Providers(script))
    assert (found.outcome, found.failure) == ("failed", "out_of_memory")


# Comparing


def compared(calls: list[dict[str, Any]], answers: list[str | None], seconds: float = 0.2) -> Any:
    """What `compare_replay` makes of calls and the candidate's answers to them."""
    from soma_bench.replay.log import RecordedCall
    from soma_bench.routing.routed import Routed

    found = []
    for number, (call, answer) in enumerate(zip(calls, answers, strict=True), 1):
        record = RecordedCall.model_validate_json(json.dumps(call))
        agent = AGENT_BY_NAME[record.agent]
        routed = answer and Routed(
            agent=record.agent,
            target=Target.parse(LOCAL),
            completion=completion(answer),
            output=agent.read(completion(answer)),
            passed_over=(),
            cost_usd=0.004,
        )
        outcome: Outcome = "answered" if routed else "failed"
        found.append(
            Replayed(
                line=number,
                call=record,
                outcome=outcome,
                latency_s=seconds,
                routed=routed or None,
                failure=None if routed else "answer",
            )
        )
    (row,) = compare_replay(found)
    return row


def test_latency_and_cost_are_compared_call_by_call() -> None:
    calls = [line(id=f"call-{n}", latency_s=0.5 + n / 100) for n in range(12)]
    row = compared(calls, [TEXT] * 12)
    latency, cost, tokens = row.figures
    assert (latency.name, latency.calls) == ("latency_s", 12)
    assert latency.recorded == pytest.approx(0.555)
    assert latency.candidate == pytest.approx(0.2)
    assert latency.difference == pytest.approx(-0.355)
    assert latency.low < -0.355 < latency.high < 0
    assert latency.p < 0.001
    assert cost.difference == pytest.approx(-0.006)
    assert (cost.low, cost.high) == (None, None), "equal differences show no end of an interval"
    assert tokens.difference == -35


def test_without_a_reference_there_is_agreement_and_no_score() -> None:
    other = AGENT_BY_NAME["alignment"].examples[1][1]
    text = AGENT_BY_NAME["alignment"].write(other)
    calls = [line(id=f"call-{n}") for n in range(4)]
    row = compared(calls, [TEXT, TEXT, TEXT, text])
    assert row.score is None
    assert row.agreement.mean == pytest.approx(0.75)
    assert row.agreement.low < 0.75 < row.agreement.high
    assert row.agreement.measure == MEASURES["alignment"]


def test_with_a_reference_both_sides_are_scored_and_unread_answers_score_zero() -> None:
    suite = load_suite(SUITES / "alignment.jsonl")
    case = suite.cases[0]
    right = ANSWER.model_copy(update={"intent": case.reference.intent})
    text = AGENT_BY_NAME["alignment"].write(right)
    call = line(
        input=case.input.model_dump(mode="json"),
        reference=case.reference.model_dump(mode="json"),
        answer=text,
    )
    calls = [{**call, "id": f"call-{n}"} for n in range(3)]
    calls[1]["answer"] = "nothing that can be read"
    row = compared(calls, [text, text, None])
    assert row.agreement is None
    assert row.score.calls == 3
    assert row.score.recorded == pytest.approx(2 / 3)
    assert row.score.candidate == pytest.approx(2 / 3)
    assert row.score.difference == 0


def test_calls_of_one_analysis_are_no_independent_evidence() -> None:
    calls = [line(id=f"call-{n}", latency_s=0.5 + n / 100) for n in range(12)]
    alone = compared(calls, [TEXT] * 12).figures[0]
    together = compared(
        [{**c, "cluster": f"c{n // 6}"} for n, c in enumerate(calls)], [TEXT] * 12
    ).figures[0]
    assert together.high - together.low > alone.high - alone.low
    assert together.p == 0.5


def another(agent: AgentName, output: Any) -> Any:
    """An answer of the same agent that says something else."""
    if agent == "radiologist":
        return output.model_copy(update={"findings": ()})
    return next(other for _, other in AGENT_BY_NAME[agent].examples if other != output)


@pytest.mark.parametrize("agent", AGENTS)
def test_an_answer_agrees_with_itself_and_less_with_another(agent: AgentName) -> None:
    one = AGENT_BY_NAME[agent].examples[0][1]
    other = another(agent, one)
    assert agreement(agent, one, one) == 1
    assert 0 <= agreement(agent, one, other) < 1
    assert agreement(agent, one, other) == pytest.approx(agreement(agent, other, one))


# The command


def run_command(monkeypatch: pytest.MonkeyPatch, providers: Providers, *arguments: Any) -> int:
    monkeypatch.setattr(command, "provider_factory", lambda *_: providers.make)
    for name in ("LLM_PRIMARY_PROVIDER", "LLM_FALLBACK_PROVIDER", "OLLAMA_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    code = cli(["replay", *map(str, arguments)], standalone_mode=False)
    return int(code or 0)


def test_replay_command_tells_figures_and_bad_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = written(tmp_path / "calls.jsonl", line(), line(id="call-2"), "not json")
    save_profile(profile(LOCAL, None), tmp_path / "p.json")
    providers = Providers(lambda _: TEXT)
    code = run_command(monkeypatch, providers, log, "--profile", tmp_path / "p.json", "--json")
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert told["calls"] == 2
    assert [bad["line"] for bad in told["bad_lines"]] == [3]
    (agent,) = told["agents"]
    assert agent["targets"] == {LOCAL: 2}
    assert agent["agreement"]["mean"] == 1
    code = run_command(monkeypatch, providers, log, "--profile", tmp_path / "p.json", "--take", "1")
    shown = capsys.readouterr().out
    assert "agreement with the recorded answers, which is no quality: 1.00" in shown
    assert "line 3 is no recorded call" in shown
    assert code == 1


def test_replay_command_ends_well_where_every_line_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = written(tmp_path / "calls.jsonl", line())
    save_profile(profile(LOCAL, None), tmp_path / "p.json")
    arguments = (log, "--profile", tmp_path / "p.json")
    assert run_command(monkeypatch, Providers(lambda _: TEXT), *arguments) == 0


def test_run_records_what_replay_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from soma_bench.cli import run as run_module

    texts = {
        AGENT_BY_NAME[name].system: AGENT_BY_NAME[name].write(AGENT_BY_NAME[name].examples[0][1])
        for name in AGENTS
    }
    providers = Providers(lambda request: texts[request.messages[0].content])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "provider_factory", lambda *_: providers.make)
    save_profile(profile(LOCAL, None), tmp_path / "p.json")
    log = tmp_path / "calls.jsonl"
    arguments = ["run", str(EXAMPLE), "--profile", str(tmp_path / "p.json"), "--record", str(log)]
    assert not cli(arguments, standalone_mode=False)
    assert f"{log}: 5 calls recorded" in capsys.readouterr().err
    assert run_command(monkeypatch, providers, log, "--profile", tmp_path / "p.json") == 0
