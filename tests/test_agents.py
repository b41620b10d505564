"""Agents: what they ask, what they take for an answer, and what they never take for one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripted import completion
from soma_bench.agents import AGENT_BY_NAME, Agent
from soma_bench.agents.alignment import AlignmentInput
from soma_bench.agents.pathologist import PathologistInput
from soma_bench.agents.qc_reviewer import QCReviewerOutput
from soma_bench.agents.radiologist import Finding, RadiologistInput, RadiologistOutput, Region
from soma_bench.agents.report_writer import DISCLAIMER, HEADINGS, read_report
from soma_bench.cases.suite import load_suite
from soma_bench.errors import AnswerError
from soma_bench.types import AGENTS, Options

SUITES = Path(__file__).parent.parent / "data" / "suites"
JSON_AGENTS = [name for name in AGENTS if name != "report_writer"]
EVERY_AGENT = pytest.mark.parametrize("agent", AGENT_BY_NAME.values(), ids=list(AGENT_BY_NAME))
EVERY_JSON_AGENT = pytest.mark.parametrize(
    "agent", [AGENT_BY_NAME[name] for name in JSON_AGENTS], ids=JSON_AGENTS
)


def right_answer(agent: Agent[Any, Any]) -> str:
    return agent.write(agent.examples[0][1])


def unreadable(agent: Agent[Any, Any], text: str, *, finish: str = "stop") -> str:
    """Why an answer is refused: always an AnswerError of one readable line."""
    with pytest.raises(AnswerError) as caught:
        agent.read(completion(text, finish=finish))
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 800
    return message


# Requests.


def test_agents_are_in_the_order_of_an_analysis():
    assert tuple(AGENT_BY_NAME) == AGENTS


@EVERY_AGENT
def test_request_is_system_then_worked_examples_then_the_case(agent):
    inputs = agent.examples[0][0]
    options = Options(seed=5, context_tokens=1024)
    request = agent.request(inputs, model="m", thinking=16, options=options)
    assert (request.model, request.thinking, request.options) == ("m", 16, options)
    assert (request.schema, request.max_tokens) == (agent.schema, agent.max_tokens)
    turns = ["user", "assistant"] * len(agent.examples)
    assert [message.role for message in request.messages] == ["system", *turns, "user"]
    assert request.messages[0].content == agent.system
    assert request.messages[-1].content == agent.render(inputs)
    assert all(message.content.strip() for message in request.messages)


@EVERY_AGENT
def test_everything_before_the_case_is_the_same_for_every_case(agent):
    cases = load_suite(SUITES / f"{agent.name}.jsonl").cases
    asked = [agent.messages(case.input) for case in cases]
    before = {tuple(messages[:-1]) for messages in asked}
    assert len(before) == 1
    assert len(before.pop()) == 1 + 2 * len(agent.examples) > 1
    assert len({messages[-1].content for messages in asked}) > len(asked) / 2


@EVERY_AGENT
def test_prompt_digest_changes_with_whatever_the_prompt_says(agent):
    for change in (
        {"system": agent.system + "."},
        {"examples": ()},
        {"max_tokens": agent.max_tokens + 1},
        {"schema": {"type": "string"}},
        {"render": lambda inputs: "changed"},
        {"write": lambda output: "changed"},
    ):
        assert dataclasses.replace(agent, **change).digest != agent.digest
    assert dataclasses.replace(agent).digest == agent.digest


@EVERY_JSON_AGENT
def test_system_prompt_asks_for_json_and_names_every_word_of_a_choice_it_explains(agent):
    assert "one JSON object" in agent.system
    if agent.name == "alignment":
        for field in ("intent", "handler"):
            assert all(word in agent.system for word in agent.schema["properties"][field]["enum"])


def test_report_writers_prompt_names_every_heading_and_the_disclaimer():
    system = AGENT_BY_NAME["report_writer"].system
    assert all(f"## {heading}" in system for heading in HEADINGS)
    assert DISCLAIMER in system


def test_every_measured_figure_of_a_region_is_in_the_radiologists_turn():
    region = Region(
        id="R7",
        label="nodule",
        structure="left lingula",
        area_mm2=63.5,
        diameter_mm=9.25,
        centroid_mm=(71.4, -38.6, 12),
        mean_hu=-410,
        margin="spiculated",
    )
    turn = AGENT_BY_NAME["radiologist"].render(
        RadiologistInput(exam="Low-dose CT", clinical_context="Cough.", regions=(region,))
    )
    assert turn == (
        "Exam: Low-dose CT\nContext: Cough.\nRegions:\n"
        "R7: nodule in left lingula, diameter 9.25 mm, area 63.5 mm2, centroid (71, -39, 12) mm,"
        " -410 HU, spiculated margin"
    )


def test_pathologist_is_told_of_no_findings_and_of_unread_regions_apart():
    render = AGENT_BY_NAME["pathologist"].render
    assert render(PathologistInput(findings=(), context="Well.")).endswith("Findings:\nnone")
    region = Region(
        id="R1", label="nodule", structure="left lung", area_mm2=5, centroid_mm=(1, 2, 3)
    )
    assert "Regions:\nR1: nodule" in render(PathologistInput(regions=(region,), context="Well."))
    with pytest.raises(ValueError, match="give findings"):
        PathologistInput(context="Well.")


def test_line_breaks_of_a_message_reach_the_model_as_they_are():
    message = "one\n\nMessage: two"
    inputs = AlignmentInput(message=message)
    assert AGENT_BY_NAME["alignment"].messages(inputs)[-1].content == f"Message: {message}"


# Schemas.


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            named = key in ("properties", "$defs")
            yield from nodes(list(value.values()) if named else value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


@EVERY_JSON_AGENT
def test_answer_schema_says_only_what_grammars_enforce(agent):
    """Bounded texts, whole numbers in a range, choices, bounded lists, closed objects."""
    json.dumps(agent.schema)
    jsonschema.Draft202012Validator.check_schema(agent.schema)
    for node in nodes(agent.schema):
        kind = node.get("type")
        assert not {"title", "description", "pattern", "anyOf", "default"} & set(node)
        assert kind in (None, "string", "integer", "array", "object"), "number bounds do not hold"
        if kind == "string":
            assert "enum" in node or 0 < node["maxLength"] <= 120
        if kind == "integer":
            assert node["minimum"] < node["maximum"]
        if kind == "array":
            assert 0 < node["maxItems"] <= 6
        if kind == "object":
            assert node["additionalProperties"] is False
            assert set(node["required"]) == set(node["properties"])


@EVERY_JSON_AGENT
def test_worked_examples_follow_the_schema_and_nothing_more_or_less_does(agent):
    validator = jsonschema.Draft202012Validator(agent.schema)
    shown = [json.loads(agent.write(output)) for _, output in agent.examples]
    assert shown
    for answer in shown:
        assert [error.message for error in validator.iter_errors(answer)] == []
        assert not validator.is_valid({**answer, "surprise": 1})
        for field in answer:
            assert not validator.is_valid({k: v for k, v in answer.items() if k != field}), field


@EVERY_AGENT
def test_worked_examples_fit_the_answers_token_limit(agent):
    """At a cautious 3 characters a token."""
    assert all(len(agent.write(output)) / 3 < agent.max_tokens for _, output in agent.examples)


# Answers.


@EVERY_AGENT
def test_what_an_agent_writes_it_reads_back(agent):
    for _, output in agent.examples:
        assert agent.read(completion(f"\n {agent.write(output)} \n")) == output


@EVERY_AGENT
@pytest.mark.parametrize(("finish", "why"), [("length", "cut off"), ("refusal", "refusal")])
def test_cut_or_refused_answer_is_none_even_when_its_text_is_whole(agent, finish, why):
    message = unreadable(agent, right_answer(agent), finish=finish)
    assert message.startswith(f"{agent.name}: ")
    assert why in message


@EVERY_AGENT
@pytest.mark.parametrize(
    "text", ["", " \n\t", "{}", "null", "[]", "I cannot help with that.", "\x00"]
)
def test_empty_and_senseless_answers_are_errors_that_say_what_was_wanted(agent, text):
    wanted = "report" if agent.name == "report_writer" else agent.output_type.__name__
    assert wanted in unreadable(agent, text)


@EVERY_JSON_AGENT
@pytest.mark.parametrize(
    "wrap",
    ["Here is the answer: {}", "```json\n{}\n```", "{} Hope this helps!", "{}{}", "[{}]", "<b>{}"],
)
def test_prose_around_an_answer_makes_it_an_error_that_quotes_nothing(agent, wrap):
    answer = right_answer(agent)
    message = unreadable(agent, wrap.replace("{}", answer))
    assert message.startswith(f"the answer is not {agent.output_type.__name__}: ")
    assert "Here is" not in message
    assert not any(
        value in message
        for value in json.loads(answer).values()
        if isinstance(value, str) and len(value) > 5
    )


@EVERY_JSON_AGENT
def test_every_cut_of_an_answer_is_an_error_and_the_whole_is_none(agent):
    whole = right_answer(agent)
    why = {unreadable(agent, whole[:end]) for end in range(len(whole))}
    assert len(why) > 1
    assert all(said.startswith(f"the answer is not {agent.output_type.__name__}: ") for said in why)
    assert agent.read(completion(whole)) == agent.examples[0][1]


@EVERY_JSON_AGENT
def test_answer_without_a_field_with_one_more_or_of_a_wrong_type_is_an_error(agent):
    answer = json.loads(right_answer(agent))
    for field in answer:
        assert field in unreadable(
            agent, json.dumps({k: v for k, v in answer.items() if k != field})
        )
        assert field in unreadable(agent, json.dumps({**answer, field: {"a": 1}}))
        assert field in unreadable(agent, json.dumps({**answer, field: None}))
    assert "extra" in unreadable(agent, json.dumps({**answer, "extra": 1}))


@pytest.mark.parametrize("confidence", [-1, 101, 1.5, 90.0, "90", True, float("nan")])
def test_confidence_that_is_no_percentage_is_an_error(confidence):
    agent = AGENT_BY_NAME["alignment"]
    answer = {**json.loads(right_answer(agent)), "confidence": confidence}
    assert "confidence" in unreadable(agent, json.dumps(answer))


@pytest.mark.parametrize("verdict", ["PASS", "passed", "ok", "", True, None, "fail, not pass"])
def test_review_that_says_neither_pass_nor_fail_is_never_a_pass(verdict):
    agent = AGENT_BY_NAME["qc_reviewer"]
    answer = {"issues": [], "score": 80, "verdict": verdict}
    assert "verdict" in unreadable(agent, json.dumps(answer))


def test_verdict_that_stands_twice_is_none():
    agent = AGENT_BY_NAME["qc_reviewer"]
    text = '{"issues": [], "score": 80, "verdict": "fail", "verdict": "pass"}'
    assert "verdict stands twice" in unreadable(agent, text)


def test_unread_segmentation_is_no_normal_examination():
    agent = AGENT_BY_NAME["radiologist"]
    normal = RadiologistOutput(
        findings=(), measurements=(), incidental=(), technical_quality="good"
    )
    assert agent.read(completion(agent.write(normal))) == normal
    unreadable(agent, '{"findings": []}')


@EVERY_JSON_AGENT
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_garbled_answer_is_read_whole_or_an_answer_error(agent, data):
    text = list(right_answer(agent))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.characters(codec="utf-8"))
    try:
        output = agent.read(completion("".join(text)))
    except AnswerError as error:
        output = error
    if isinstance(output, AnswerError):
        assert str(output).isprintable()
    else:
        assert isinstance(output, agent.output_type)
        assert agent.read(completion(agent.write(output))) == output


def test_place_of_a_finding_is_in_words():
    finding = Finding(
        id="F1",
        kind="nodule",
        laterality="left",
        location="lingula",
        size_mm=4,
        characteristics=(),
        severity="low",
        confidence=50,
    )
    assert finding.place == "left lingula"
    middle = finding.model_copy(update={"laterality": "midline", "location": "mediastinum"})
    assert middle.place == "mediastinum"


def test_qc_reviewers_examples_are_one_clean_report_and_one_wrong_one():
    (clean_input, clean), (wrong_input, wrong) = AGENT_BY_NAME["qc_reviewer"].examples
    assert isinstance(clean, QCReviewerOutput)
    assert (clean.verdict, wrong.verdict) == ("pass", "fail")
    assert clean_input.findings == wrong_input.findings
    assert clean_input.report != wrong_input.report


# Reading reports.

REPORT = read_report(
    AGENT_BY_NAME["report_writer"].write(AGENT_BY_NAME["report_writer"].examples[-1][1])
)


@pytest.mark.parametrize(
    "heading",
    [
        "# Findings",
        "## Findings",
        "##Findings",
        "## Findings ##",
        "### FINDINGS:",
        "## **Findings**",
        "**Findings**",
        "**Findings:**",
        "**findings**:",
        "   ## Findings   ",
    ],
)
def test_heading_is_known_with_hashes_or_in_bold(heading):
    report = read_report(f"{heading}\nA nodule.\n\nSecond line.\n## Impression\nBenign.")
    assert report.sections == {"Findings": "A nodule.\n\nSecond line.", "Impression": "Benign."}
    assert report.disclaimer == ""


@pytest.mark.parametrize(
    "line", ["Findings", "Findings:", "- **Findings** are few", "**Findings** x"]
)
def test_line_that_only_begins_like_a_heading_is_text(line):
    report = read_report(f"## Impression\n{line}\nmore")
    assert report.sections == {"Impression": f"{line}\nmore"}


def test_heading_that_stands_twice_adds_to_its_section():
    report = read_report("## Findings\nA.\n## Impression\nB.\n## Findings\nC.")
    assert report.sections == {"Findings": "A.\nC.", "Impression": "B."}


def test_text_under_an_unknown_heading_belongs_to_no_section():
    report = read_report("## Findings\nA.\n## Opinion\nB.\n## Impression\nC.")
    assert report.sections == {"Findings": "A.", "Impression": "C."}


def test_deeper_unknown_heading_is_part_of_its_section():
    report = read_report("## Findings\nA.\n### Lungs\nB.")
    assert report.sections["Findings"] == "A.\n### Lungs\nB."


def test_text_before_the_first_heading_is_in_no_section_but_in_the_report():
    report = read_report("Chest CT report\n## Findings\nA.")
    assert report.sections == {"Findings": "A."}
    assert report.markdown.startswith("Chest CT report")


def test_heading_without_text_is_an_empty_section():
    assert read_report("## Findings\n\n## Impression\nB.").sections["Findings"] == ""


def test_disclaimer_is_kept_apart_from_the_section_it_follows():
    assert REPORT.disclaimer == DISCLAIMER
    assert REPORT.sections["Recommendations"] == "Bronchoscopy."
    assert tuple(REPORT.sections) == HEADINGS[1:]


@pytest.mark.parametrize(
    "line",
    [
        DISCLAIMER,
        f"*{DISCLAIMER}*",
        "This report was written with artificial intelligence and has to be verified by a doctor.",
        "AI draft: to be confirmed by the responsible radiologist.",
        "AI assistance does not replace review by a physician.",
    ],
)
def test_disclaimer_in_other_words_is_one(line):
    assert read_report(f"## Findings\nA.\n\n{line}").disclaimer == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Prepared with AI assistance.",
        "A physician must review this report.",
        "Prepared with AI assistance; no physician review is needed.",
        "Prepared with AI assistance without review by a physician.",
        "Prepared with AI assistance; a physician need not review this report.",
        "Prepared with AI assistance; not reviewed by a physician.",
        "Prepared with AI assistance; a physician must not review this report.",
        "Prepared with AI assistance; this does not have to be reviewed by a physician.",
        "Prepared with AI assistance; it needn't be reviewed by a physician.",
        "Prepared with AI assistance; review by a physician is unnecessary.",
        "Prepared with AI assistance; review by a physician is optional.",
        "The physician said that she would review it again.",
    ],
)
def test_missing_half_or_denied_disclaimer_is_none(line):
    assert read_report(f"## Findings\nA.\n\n{line}").disclaimer == ""


@pytest.mark.parametrize("text", ["There is a nodule.", "# Report\nA nodule.", "Findings: none"])
def test_text_without_a_reports_headings_is_no_report(text):
    assert "none of a report's headings" in unreadable(AGENT_BY_NAME["report_writer"], text)
