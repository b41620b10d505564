"""The judge: what counts as its word, what labels say of it, and what its figures may be used for."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from made_up_runs import store_run
from scripted import ScriptedProvider, completion
from soma_bench.cli.judge import judge as judge_command
from soma_bench.errors import ConfigError, PrivacyError, ProviderError
from soma_bench.routing.evidence import Evidence
from soma_bench.scoring.agreement import (
    krippendorff_alpha,
    sensitivity,
    specificity,
    weighted_kappa,
    with_interval,
)
from soma_bench.scoring.calibrate import Verdict, calibrate, collect_verdicts
from soma_bench.scoring.judge import Judge, RubricItem, blinded, model_families
from soma_bench.scoring.judged import LEAST_LABELS, judged_mean
from soma_bench.scoring.labels import (
    Candidate,
    Label,
    draw_sample,
    label_schema,
    load_keys,
    load_labels,
    save_rows,
)
from soma_bench.types import Target

QWEN = Target.parse("ollama:qwen3:32b-q4_K_M")
LLAMA = Target.parse("ollama:llama3.1:8b")
GEMMA = Target.parse("llamacpp:gemma3-27b")
SIDE = RubricItem("side", "Does it name a side?")
SIZE = RubricItem("size", "Does it name a size?")
TEXT = "There is an 8 mm nodule\nin the right upper lobe."


def judge_that(script, **changes) -> Judge:
    return Judge(provider=ScriptedProvider(script), target=GEMMA, **changes)


def says(*items: tuple[str, bool, str]) -> str:
    return json.dumps({"items": [{"id": i, "met": m, "quote": q} for i, m, q in items]})


def rated(answer, *, text: str = TEXT, items=(SIDE, SIZE)):
    return asyncio.run(judge_that(lambda _: answer).rate(text, items, candidate=QWEN))


# What counts as a judge's word.


@pytest.mark.parametrize(
    ("met", "quote", "counts", "problem"),
    [
        (True, "in the right upper lobe", True, None),
        (True, "IN THE  RIGHT\nupper lobe", True, None),
        (True, '"8 mm nodule in the right"', True, None),
        (False, "", False, None),
        (False, "8 mm nodule", False, None),
        (True, "in the left upper lobe", None, "quote not in the answer"),
        (False, "in the left upper lobe", None, "quote not in the answer"),
        (True, "", None, "no quote"),
        (True, " . ", None, "no quote"),
        (True, "mm", None, "no quote"),
    ],
)
def test_yes_counts_only_with_a_quote_that_stands_in_the_answer(met, quote, counts, problem):
    (said,) = rated(says(("side", met, quote)), items=(SIDE,))
    assert (said.met, said.problem) == (counts, problem)


@pytest.mark.parametrize(
    "answer",
    [
        "yes",
        "{}",
        '{"items": "all"}',
        says(("side", True, "right"))[:-2],
        completion(says(("side", False, ""), ("size", False, "")), finish="length"),
        completion("I cannot do that.", finish="refusal"),
    ],
)
def test_unreadable_answer_is_no_verdict_on_any_item(answer):
    assert [(s.met, s.problem) for s in rated(answer)] == [(None, "unreadable")] * 2


def test_item_that_is_missing_or_answered_twice_is_invalid_and_the_others_count():
    for answer in (
        says(("size", True, "8 mm nodule")),
        says(("side", True, "right upper"), ("side", False, ""), ("size", True, "8 mm nodule")),
    ):
        side, size = rated(answer)
        assert (side.met, side.problem, size.met) == (None, "item missing", True)


def test_judge_is_asked_without_the_candidates_name_and_with_a_schema():
    judge = judge_that(lambda _: says(("side", False, "")))
    text = "As Qwen3, made by the Qwen team (qwen3:32b-q4_K_M), I see a nodule on the right."
    asyncio.run(judge.rate(text, (SIDE,), candidate=QWEN))
    (request,) = judge.provider.requests
    sent = " ".join(message.content for message in request.messages)
    assert "qwen" not in sent.lower()
    assert "nodule on the right" in sent
    assert request.schema["properties"]["items"]["minItems"] == 1
    assert request.schema["$defs"]["_ItemAnswer"]["properties"]["id"]["enum"] == ["side"]


def test_blinding_takes_names_and_leaves_words_that_only_hold_them():
    assert blinded("GPT-4o-mini by OpenAI.", Target.parse("openai:gpt-4o-mini")) == (
        "[model] by [model]."
    )
    report = "The graph of lymphoma progression; egptian, claudication."
    assert blinded(report, Target.parse("openai:gpt-4o")) == report
    assert blinded(report, Target.parse("claude:claude-haiku-5-5")) == report


@pytest.mark.parametrize(
    ("target", "families"),
    [
        ("ollama:qwen3:32b-q4_K_M?thinking=256", {"qwen"}),
        ("ollama:deepseek-r1-distill-llama:70b", {"deepseek", "llama"}),
        ("llamacpp:smollm2-135m-q4_1", {"smollm"}),
        ("claude:claude-sonnet-5-5", {"claude"}),
        ("openai:o3-mini", {"gpt"}),
        ("openai:qwen3-32b", {"qwen"}),
        ("openai:some-new-name", {"gpt"}),
        ("mlx:biomistral-7b", {"mistral"}),
        ("ollama:medgemma:27b", {"gemma"}),
        ("ollama:solar:10b", {"solar"}),
    ],
)
def test_models_are_told_by_family(target, families):
    assert model_families(Target.parse(target)) == families


def test_judge_of_the_candidates_family_is_refused_before_anything_is_asked():
    judge = Judge(provider=ScriptedProvider(lambda _: "x"), target=QWEN)
    other = Target.parse("llamacpp:qwen2.5-0.5b")
    with pytest.raises(ConfigError, match="family"):
        asyncio.run(judge.rate(TEXT, (SIDE,), candidate=other))
    with pytest.raises(ConfigError, match="family"):
        asyncio.run(judge.prefer("task", ("a", LLAMA), ("b", other)))
    assert judge.provider.requests == []


def test_judge_in_the_cloud_gets_nothing_unless_it_is_allowed():
    judge = judge_that(lambda _: says(("side", False, "")))
    judge.provider.is_local = False
    with pytest.raises(PrivacyError, match="cloud"):
        asyncio.run(judge.rate(TEXT, (SIDE,), candidate=QWEN))
    assert judge.provider.requests == []
    allowed = Judge(provider=judge.provider, target=GEMMA, allow_cloud=True)
    (said,) = asyncio.run(allowed.rate(TEXT, (SIDE,), candidate=QWEN))
    assert said.met is False


def shown(request) -> tuple[str, str]:
    found = re.search(
        r"Text A:\n<<<\n(.*?)\n>>>\nText B:\n<<<\n(.*?)\n>>>", request.messages[-1].content, re.S
    )
    return found[1], found[2]


@pytest.mark.parametrize(
    ("script", "preferred"),
    [
        (lambda r: "A" if shown(r)[0] == "good" else "B", "first"),
        (lambda r: "B" if shown(r)[0] == "good" else "A", "second"),
        (lambda _: "A", "tie"),
        (lambda _: "B", "tie"),
        (lambda _: "tie", "tie"),
        (lambda r: "A" if shown(r)[0] == "good" else "tie", "tie"),
        (lambda r: "A" if shown(r)[0] == "good" else "neither", "unreadable"),
    ],
    ids=["right", "wrong", "always A", "always B", "tie", "once", "unreadable"],
)
def test_preference_holds_only_where_it_stays_with_the_order_turned(script, preferred):
    judge = judge_that(lambda request: json.dumps({"better": script(request)}))
    asked = judge.prefer("Write a report.", ("good", QWEN), ("bad", LLAMA))
    assert asyncio.run(asked) == preferred


# Agreement.

KRIPPENDORFF_2011 = list(
    zip(
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
        strict=True,
    )
)


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_krippendorffs_own_example(level, alpha):
    assert krippendorff_alpha(KRIPPENDORFF_2011, level) == pytest.approx(alpha, abs=0.0005)


def test_kappa_by_hand():
    """Of 50: 35 agree, by chance 25 * 30 + 25 * 20 of 50 * 50, so (0.7 - 0.5) / (1 - 0.5)."""
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert weighted_kappa(pairs) == pytest.approx(0.4)
    # Three values: squares of the differences are 0, 1, 4, on average 5/3. By chance: first are
    # 0, 1, 2 and second 0, 2, 0: rows of squares 0 4 0, 1 1 1, 4 0 4, on average 15/9.
    assert weighted_kappa([(0, 0), (1, 2), (2, 0)]) == pytest.approx(1 - (5 / 3) / (15 / 9))
    assert weighted_kappa([(0, 0), (1, 1), (2, 2)]) == 1
    assert weighted_kappa([(1, 1), (1, 1)]) is None
    assert krippendorff_alpha([(1, 1), (1, 1)], "nominal") is None


def test_agreement_with_always_yes_is_sensitive_and_worth_nothing():
    pairs = [(1, 1)] * 30 + [(0, 1)] * 10
    assert (sensitivity(pairs), specificity(pairs), weighted_kappa(pairs)) == (1, 0, 0)
    assert sensitivity([(0, 1)]) is specificity([(1, 0)]) is None


def test_intervals_are_the_same_every_time_and_hold_the_figure():
    pairs = [(1, 1)] * 30 + [(1, 0)] * 10
    first = with_interval(sensitivity, pairs)
    assert first == with_interval(sensitivity, pairs)
    assert first.low < first.value == 0.75 < first.high
    assert with_interval(sensitivity, []) is None
    rare = with_interval(specificity, [*pairs, (0, 0)])
    assert (rare.value, rare.low, rare.high) == (1, None, None), "a third of resamples have no 0"


# Correction by labels.


@pytest.mark.parametrize("labels", [40, 80])
def test_corrected_intervals_hold_the_truth_where_a_lenient_judges_own_do_not(labels):
    """Of the answers 70 % are right; the judge sees 95 % of those and lets 35 % of the rest pass."""
    rng = np.random.default_rng(labels)
    held = naive = 0
    width = width_of_labels = 0.0
    for _ in range(600):
        truth = (rng.random(400) < 0.7).astype(float)
        said = np.where(truth, rng.random(400) < 0.95, rng.random(400) < 0.35).astype(float)
        pairs = list(zip(truth[:labels], said[:labels], strict=True))
        figure = judged_mean("x", pairs, said[labels:].tolist())
        held += figure.low <= 0.7 <= figure.high
        width += figure.high - figure.low
        alone = judged_mean("x", pairs, [])
        width_of_labels += alone.high - alone.low
        naive += abs(said.mean() - 0.7) <= 1.96 * said.std() / 20
    assert 0.90 <= held / 600 <= 0.97
    assert naive / 600 < 0.2
    assert width < 0.85 * width_of_labels


def test_paired_differences_take_out_the_error_that_both_targets_share():
    """Both are overrated alike: the difference is 0, and the interval says so."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        first, second = (rng.random((2, 300)) < 0.6).astype(float)
        said = [np.where(t, 1.0, rng.random(300) < 0.5) for t in (first, second)]
        truth, judged = first - second, said[0] - said[1]
        figure = judged_mean(
            "difference", list(zip(truth[:50], judged[:50], strict=True)), judged[50:].tolist()
        )
        held += figure.low <= 0 <= figure.high
    assert 0.90 <= held / 300 <= 0.99


def test_useless_judge_is_not_used_and_a_perfect_one_wholly():
    rng = np.random.default_rng(9)
    truth = (rng.random(60) < 0.5).astype(float)
    noise = (rng.random(2060) < 0.5).astype(float)
    useless = judged_mean("x", list(zip(truth, 1 - truth, strict=True)), noise[60:].tolist())
    assert useless.trust == 0
    assert useless.mean == pytest.approx(truth.mean())
    perfect = judged_mean("x", list(zip(truth, truth, strict=True)), noise[60:].tolist())
    assert perfect.trust > 0.9


def test_judge_without_enough_labels_is_uncalibrated_and_decides_nothing():
    pairs = [(1.0, 1.0), (0.0, 1.0)] * (LEAST_LABELS // 2)
    few = judged_mean("style", pairs[:-1], [1.0])
    assert not few.is_calibrated
    assert few.low is few.high is None
    with pytest.raises(ConfigError, match="uncalibrated, with 39 random labels of 40"):
        few.interval()
    enough = judged_mean("style", pairs, [1.0] * 10)
    assert enough.is_calibrated
    assert enough.interval() == (enough.mean, enough.low, enough.high)
    assert evidence(enough.metric).metric == "judged style"
    with pytest.raises(ValidationError, match="is no evidence"):
        evidence(few.metric)


def evidence(metric: str) -> Evidence:
    return Evidence(
        agent="report_writer",
        target=str(QWEN),
        metric=metric,
        n=1,
        cases=1,
        quality=0.5,
        quality_low=0.4,
        quality_high=0.6,
        answer_failures=0,
        latency_p50_s=1,
        latency_p95_s=1,
        cost_usd=0,
        memory_bytes=None,
        prompt_tokens=None,
        output_tokens=None,
        thinking_tokens=None,
        synthetic=False,
    )


# Labels and calibration.


def labelled(number: int, label: int | None, *, words: int = 10, drawn: str = "random") -> Label:
    return Label(
        id=f"a-{number}",
        item="side",
        question=SIDE.question,
        answer=" ".join(["right"] * words),
        drawn=drawn,
        label=label,
    )


def verdict(number: int, met: bool | None, *, repeat: int = 0) -> Verdict:
    problem = "unreadable" if met is None else None
    return Verdict(id=f"a-{number}", item="side", repeat=repeat, met=met, quote="", problem=problem)


def test_calibration_by_hand():
    """20 yes, 2 of them missed; 24 no, 6 let pass; one more invalid; 10 without a label all pass."""
    labels = [labelled(i, 1) for i in range(20)] + [labelled(i, 0) for i in range(20, 45)]
    labels += [labelled(i, None) for i in range(45, 55)]
    said = [verdict(i, i >= 2) for i in range(20)] + [verdict(i, i < 26) for i in range(20, 44)]
    said += [verdict(44, None), *(verdict(i, True) for i in range(45, 55))]
    said += [verdict(i, True, repeat=1) for i in range(10)]
    found = calibrate(labels, said)
    assert (found.labels, found.answers, found.met.labels) == (44, 44, 44)
    assert found.sensitivity.value == pytest.approx(18 / 20)
    assert found.specificity.value == pytest.approx(18 / 24)
    chance = (20 * 24 + 24 * 20) / 44**2
    assert found.kappa.value == pytest.approx((36 / 44 - chance) / (1 - chance))
    assert found.test_retest.value == pytest.approx(8 / 10)
    assert found.invalid_rate == pytest.approx(1 / 65)
    assert found.met.is_calibrated
    assert found.self_preference is found.labellers_alpha is None


def test_bias_for_length_and_for_its_own_family_is_measured():
    """The judge lets every long answer of its family pass: all of those are wrong."""
    labels, said, targets = [], [], {}
    for i in range(80):
        long, own = i % 2 == 0, i % 4 < 2
        labels.append(labelled(i, int(i % 8 == 7), words=100 if long else 10))
        said.append(verdict(i, (long and own) or i % 8 == 7))
        targets[f"a-{i}"] = Target.parse("ollama:gemma3:4b") if own else QWEN
    found = calibrate(labels, said, targets=targets, judge=GEMMA)
    assert found.length_bias.value == pytest.approx(0.5)
    assert found.self_preference.value == pytest.approx(0.5)
    assert found.self_preference.low > 0.2
    fair = calibrate(
        labels, [verdict(i, i % 8 == 7) for i in range(80)], targets=targets, judge=GEMMA
    )
    assert fair.length_bias.value == fair.self_preference.value == 0


def test_answers_that_were_chosen_by_hand_calibrate_nothing():
    labels = [labelled(i, i % 2, drawn="chosen") for i in range(100)]
    found = calibrate([*labels, labelled(100, 1)], [verdict(i, True) for i in range(101)])
    assert (found.labels, found.met.is_calibrated) == (1, False)


def test_labellers_count_as_their_majority_and_a_draw_is_no_label():
    def by(labeller: str, number: int, label: int) -> Label:
        return labelled(number, label).model_copy(update={"labeller": labeller})

    labels = [by("x", 0, 1), by("y", 0, 1), by("z", 0, 0), by("x", 1, 1), by("y", 1, 0)]
    found = calibrate(labels, [verdict(0, True), verdict(1, True)])
    assert found.labels == 1
    assert found.sensitivity.value == 1
    assert found.labellers_alpha is not None


def test_verdicts_of_another_sample_are_refused():
    with pytest.raises(ConfigError, match="one sample"):
        calibrate([labelled(1, 1)], [verdict(2, True)])
    with pytest.raises(ConfigError, match="invalid"):
        calibrate([labelled(1, 1)], [verdict(1, None)])


def test_judge_is_asked_every_question_of_a_sample_twice_and_never_sees_a_label():
    rows = [labelled(1, 1), labelled(1, 0).model_copy(update={"item": "size"}), labelled(2, None)]

    def script(request):
        assert "label" not in request.messages[-1].content
        names = re.findall(r"^(side|size): ", request.messages[-1].content, re.M)
        return says(*((name, True, "right right") for name in names))

    judge = judge_that(script)
    said = asyncio.run(collect_verdicts(judge, rows))
    assert [(v.id, v.item, v.repeat) for v in said] == [
        *(("a-1", "side", 0), ("a-1", "size", 0), ("a-1", "side", 1), ("a-1", "size", 1)),
        *(("a-2", "side", 0), ("a-2", "side", 1)),
    ]
    assert all(v.met for v in said)
    assert [request.options.seed for request in judge.provider.requests] == [0, 1, 0, 1]


def test_backends_failure_is_no_verdict_and_is_asked_again():
    failures = [ProviderError("llamacpp", "busy", kind="overloaded")] * 2

    def script(_):
        if failures:
            raise failures.pop()
        return says(("side", False, ""))

    (said,) = asyncio.run(collect_verdicts(judge_that(script), [labelled(1, 1)], repeats=1))
    assert said.met is False
    failures[:] = [ProviderError("llamacpp", "no such model", kind="model_missing")]
    with pytest.raises(ProviderError, match="no such model"):
        asyncio.run(collect_verdicts(judge_that(script), [labelled(1, 1)], repeats=1))


CANDIDATES = [
    Candidate(
        trial=f"t{i:03}",
        target=QWEN if i % 2 else LLAMA,
        text=f"Report {i} of {'Qwen3' if i % 2 else 'llama3.1'}.",
    )
    for i in range(200)
]


def test_sample_is_blind_random_and_the_same_for_a_seed():
    rows, keys = draw_sample(CANDIDATES, (SIDE, SIZE), 60, seed=3)
    assert (rows, keys) == draw_sample(CANDIDATES[::-1], (SIDE, SIZE), 60, seed=3)
    assert rows != draw_sample(CANDIDATES, (SIDE, SIZE), 60, seed=4)[0]
    assert len(rows) == 120
    assert len({key.trial for key in keys}) == 60
    assert {row.label for row in rows} == {None}
    text = " ".join(row.model_dump_json() for row in rows).lower()
    assert not [name for name in ("qwen", "llama", "ollama", '"t0') if name in text]
    share = sum(key.target == str(QWEN) for key in keys) / 60
    assert 0.3 < share < 0.7
    with pytest.raises(ConfigError, match="there are 200"):
        draw_sample(CANDIDATES, (SIDE,), 201, seed=0)


def test_label_file_survives_writing_and_reading_and_its_schema_is_published(tmp_path):
    rows, keys = draw_sample(CANDIDATES, (SIDE,), 5, seed=1)
    save_rows(rows, tmp_path / "labels.jsonl")
    save_rows(keys, tmp_path / "key.jsonl")
    assert load_labels(tmp_path / "labels.jsonl") == rows
    assert load_keys(tmp_path / "key.jsonl") == {key.id: Target.parse(key.target) for key in keys}
    published = Path(__file__).parent.parent / "data" / "labels" / "label.schema.json"
    assert json.loads(published.read_text("utf-8")) == label_schema()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"label": 2}, "label"),
        ({"drawn": "maybe"}, "drawn"),
        ({"target": "ollama:qwen3"}, "target"),
        ({"answer": "another"}, "another text"),
        ({"question": "Another?"}, "another text"),
        ({}, "twice"),
    ],
)
def test_wrong_label_is_refused_by_file_and_line(tmp_path, changes, why):
    row = labelled(1, 1).model_dump()
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, **changes}) + "\n")
    with pytest.raises(ConfigError, match=rf"labels\.jsonl:2: .*{why}"):
        load_labels(path)


def test_sample_command_writes_labels_to_give_and_apart_from_them_whose_they_are(tmp_path):
    store_run(tmp_path / "runs.db", agents=("alignment",), cases=4)
    out, key = tmp_path / "labels.jsonl", tmp_path / "labels.key.jsonl"
    command = [
        *("sample", "made-up", "--agent", "alignment", "--ask", "side:Is a side named?"),
        *("--count", "5", "--out", str(out), "--store", str(tmp_path / "runs.db"), "--json"),
    ]
    done = CliRunner().invoke(judge_command, command)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "answers": 5,
        "questions": 5,
        "out": str(out),
        "key": str(key),
    }
    assert len({row.id for row in load_labels(out)}) == 5
    assert set(load_keys(key)) == {row.id for row in load_labels(out)}
    assert "llamacpp:" not in out.read_text()
    before = out.read_bytes()
    again = CliRunner().invoke(judge_command, command)
    assert "is there already and may hold labels" in str(again.exception)
    assert out.read_bytes() == before


def test_calibrate_command_says_no_without_enough_labels_and_yes_with_them(tmp_path):
    def called(count: int):
        save_rows([labelled(i, i % 2) for i in range(count)], tmp_path / "labels.jsonl")
        save_rows([verdict(i, bool(i % 2)) for i in range(count)], tmp_path / "verdicts.jsonl")
        files = [str(tmp_path / "labels.jsonl"), "--verdicts", str(tmp_path / "verdicts.jsonl")]
        return (
            CliRunner().invoke(judge_command, ["calibrate", *files]),
            CliRunner().invoke(judge_command, ["calibrate", *files, "--json"]),
        )

    text, machine = called(39)
    assert text.exit_code == machine.exit_code == 1
    assert "39 randomly drawn answers are labelled, and 40 are needed" in text.output
    assert json.loads(machine.output)["calibrated"] is False
    text, machine = called(40)
    assert text.exit_code == machine.exit_code == 0
    assert "judged share of questions met" in text.output
    figures = json.loads(machine.output)
    assert figures["sensitivity"]["value"] == figures["kappa"]["value"] == 1
    assert figures["met"]["mean"] == pytest.approx(0.5)
