"""Suites: the published ones are right and true, and a wrong one is refused by its place."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from report_texts import faultless_report
from slice_readings import faultless_reading
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.base import Strict
from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.qc_reviewer import Issue, QCReviewerOutput
from soma_bench.agents.radiologist import Finding, Region
from soma_bench.agents.report_writer import HEADINGS, read_report
from soma_bench.cases.base import Case
from soma_bench.cases.report_writer import ReportFact, ReportWriterReference
from soma_bench.cases.suite import case_schema, load_suite, publish_case_schema
from soma_bench.errors import ConfigError
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.types import AGENTS, AgentName

SUITES = Path(__file__).parent.parent / "data" / "suites"
SIDES = {"left", "right"}
ROW: dict[str, Any] = {
    "id": "r-1",
    "agent": "radiologist",
    "input": {
        "exam": "Chest CT",
        "regions": [
            {
                "id": "R1",
                "label": "nodule",
                "structure": "left lower lobe",
                "area_mm2": 64,
                "diameter_mm": 9,
                "centroid_mm": [66, 41, -70],
            }
        ],
    },
    "reference": {
        "findings": [
            {
                "kind": "nodule",
                "laterality": "left",
                "location": "lower lobe",
                "size_mm": 9,
                "characteristics": ["solid"],
                "severity": "moderate",
            }
        ],
        "technical_quality": "good",
    },
}


def cases(agent: AgentName) -> tuple[Case, ...]:
    return load_suite(SUITES / f"{agent}.jsonl").cases


def each_case(agent: AgentName) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in cases(agent)])


# The published suites.


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_has_a_suite_of_at_least_12_cases_of_its_own(agent):
    suite = load_suite(SUITES / f"{agent}.jsonl")
    assert (suite.name, suite.agent) == (agent, agent)
    assert len(suite.cases) >= 12
    contents = [json.dumps(case.input.model_dump(mode="json")) for case in suite.cases]
    assert len(set(contents)) == len(contents), "no input is asked twice"


def test_published_schema_is_the_one_the_code_makes_and_publishing_it_changes_nothing():
    published = SUITES / "case.schema.json"
    assert json.loads(published.read_text("utf-8")) == case_schema()
    assert not publish_case_schema(published)


@pytest.mark.parametrize("agent", AGENTS)
def test_every_published_line_validates_against_the_published_schema(agent):
    schema = json.loads((SUITES / "case.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    lines = (SUITES / f"{agent}.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == len(cases(agent))
    for line in lines:
        row = json.loads(line)
        assert [error.message for error in validator.iter_errors(row)] == [], row["id"]
        assert not validator.is_valid({**row, "surprise": 1})
        for part in ("input", "reference"):
            assert not validator.is_valid({k: v for k, v in row.items() if k != part})


@pytest.mark.parametrize("agent", AGENTS)
def test_no_case_is_one_of_its_agents_worked_examples(agent):
    shown = [given for given, _ in AGENT_BY_NAME[agent].examples]
    assert not [case.id for case in cases(agent) if case.input in shown]


@pytest.mark.parametrize("agent", AGENTS)
def test_a_case_survives_writing_and_reading(agent):
    for case in cases(agent):
        again = type(case).model_validate_json(case.model_dump_json())
        assert again == case
        assert again.digest == case.digest


def test_suite_digest_follows_content_and_order_and_not_the_file(tmp_path):
    first, second = row_text(id="a"), row_text(id="b")
    here = load_suite(written(tmp_path, f"{first}\n{second}\n", "here.jsonl"))
    spaced = first.replace(": ", " :  ")
    there = load_suite(written(tmp_path, f"{spaced}\r\n{second}\n\n\n", "there.jsonl"))
    turned = load_suite(written(tmp_path, f"{second}\n{first}\n", "turned.jsonl"))
    assert here.digest == there.digest != turned.digest
    assert here.take(1).digest != here.digest == here.take(9).digest


# What the references say is true of the inputs, and a perfect answer is worth 1.


@each_case("alignment")
def test_right_reading_of_a_message_scores_1(case):
    for handler in case.reference.handlers:
        answer = AlignmentOutput(
            intent=case.reference.intent, handler=handler, asked="x", confidence=100
        )
        score = SCORER_BY_AGENT["alignment"].score(answer, case.reference)
        assert score.primary == 1
        assert score.parts["handler_right"]
        assert score.parts["brier"] == 0


def test_alignment_suite_asks_every_intent_and_every_handler_alike_often_enough():
    references = [case.reference for case in cases("alignment")]
    for intent in ("QUESTION", "INFO", "REVISION", "APPROVAL", "UNCLEAR"):
        assert sum(r.intent == intent for r in references) >= 4
    for handler in ("self", "radiologist", "pathologist", "report_writer", "qc_reviewer"):
        assert sum(handler in r.handlers for r in references) >= 2


def abnormal(regions: tuple[Region, ...]) -> list[Region]:
    kinds = ("nodule", "mass", "opacity", "lymph node", "effusion")
    return [region for region in regions if region.label in kinds]


def measured_mm(region: Region) -> float:
    """The longest diameter, or that of the circle of equal area."""
    return region.diameter_mm or 2 * math.sqrt(region.area_mm2 / math.pi)


@each_case("radiologist")
def test_radiologists_truth_follows_from_the_regions_by_the_prompts_own_rules(case):
    regions = abnormal(case.input.regions)
    assert len(regions) == len(case.reference.findings)
    for region, finding in zip(regions, case.reference.findings, strict=True):
        size = measured_mm(region)
        assert region.label == finding.kind
        assert abs(size - finding.size_mm) <= 0.5
        assert finding.location in region.structure
        named = SIDES & set(region.structure.split())
        x = region.centroid_mm[0]
        side = "left" if x > 0 else "right" if x < 0 else "midline"
        assert named <= {side}
        assert finding.laterality == side
        severe = size >= 15 or region.margin == "spiculated"
        assert finding.severity == ("low" if size < 6 else "high" if severe else "moderate")
        if finding.kind == "effusion":
            continue
        hu = region.mean_hu
        looks = "ground-glass" if hu < -300 else "calcified" if hu > 200 else "solid"
        assert set(finding.characteristics) == {looks, region.margin}


@each_case("radiologist")
def test_no_region_is_larger_than_the_circle_over_its_longest_diameter(case):
    for region in case.input.regions:
        if region.diameter_mm is not None:
            assert region.area_mm2 <= math.pi / 4 * region.diameter_mm**2 + 0.5


@each_case("radiologist")
def test_quality_is_good_exactly_where_the_exam_names_nothing_that_limits_it(case):
    limits = ("motion", "artefact", "blurred", "not readable")
    limited = any(word in case.input.exam for word in limits)
    assert limited == (case.reference.technical_quality != "good")


@each_case("radiologist")
def test_reporting_exactly_the_truth_scores_1(case):
    answer = faultless_reading(case.reference)
    score = SCORER_BY_AGENT["radiologist"].score(answer, case.reference)
    assert score.primary == 1
    assert score.parts["technical_quality_right"]
    assert score.parts["characteristics_right"] == len(case.reference.findings)


def diagnosis(name: str, code: str) -> PathologistOutput:
    primary = Diagnosis(name=name[:60], icd10=code, confidence=100, reasoning="x")
    return PathologistOutput(primary=primary, differentials=(), workup=())


@each_case("pathologist")
def test_every_name_and_every_code_of_the_right_diagnosis_is_worth_its_half(case):
    score = SCORER_BY_AGENT["pathologist"].score
    names, codes = case.reference.names, case.reference.icd10
    assert score(diagnosis(names[0], codes[0]), case.reference).primary == 1
    for name in names:
        if len(name) <= 60:
            assert score(diagnosis(name, "Z99.9"), case.reference).primary == 0.5, name
    for code in codes:
        assert score(diagnosis("something else", code), case.reference).primary == 0.5, code


@each_case("pathologist")
def test_side_and_lobe_of_a_lung_cancers_code_agree_with_its_finding(case):
    """C34.x1 and D02.21 are right, C34.x2 left; the digit before says upper, middle, lower lobe."""
    code = case.reference.icd10[0]
    if code[:3] not in ("C34", "D02", "D14"):
        return
    largest = max(case.input.findings, key=lambda finding: finding.size_mm)
    assert code[-1] == {"right": "1", "left": "2"}[largest.laterality]
    if code.startswith("C34"):
        lobe = {"upper lobe": "1", "middle lobe": "2", "lower lobe": "3"}[largest.location]
        assert code[4] == lobe


def facts(findings: tuple[Finding, ...]) -> tuple[ReportFact, ...]:
    return tuple(
        ReportFact(kind=f.kind, structure=f.location, laterality=f.laterality, size_mm=f.size_mm)
        for f in findings
    )


@each_case("report_writer")
def test_facts_of_a_report_are_its_findings(case):
    assert case.reference.facts == facts(case.input.findings)
    assert case.reference.diagnosis == case.input.diagnosis.primary.name
    patient = set() if case.input.patient else {"Patient Information"}
    assert set(case.reference.sections) == set(HEADINGS) - patient


@each_case("report_writer")
def test_words_that_must_stand_are_given_and_words_that_must_not_are_not(case):
    shown = AGENT_BY_NAME["report_writer"].render(case.input).lower()
    assert all(words.lower() in shown for words in case.reference.present)
    assert not [words for words in case.reference.absent if words.lower() in shown]


@each_case("report_writer")
def test_faultless_report_scores_1(case):
    score = SCORER_BY_AGENT["report_writer"].score
    report = read_report(faultless_report(case.input))
    assert score(report, case.reference).primary == pytest.approx(1)


@each_case("qc_reviewer")
def test_perfect_review_scores_1(case):
    defect = case.reference.defect
    for category in defect.categories if defect else (None,):
        issues = (
            ()
            if category is None
            else (Issue(category=category, severity=defect.severity, description="x"),)
        )
        answer = QCReviewerOutput(issues=issues, score=90, verdict=case.reference.verdict)
        score = SCORER_BY_AGENT["qc_reviewer"].score(answer, case.reference)
        assert score.primary == 1
        assert score.parts["false_alarms"] == 0


@each_case("qc_reviewer")
def test_planted_defect_is_in_the_report_and_nothing_else_is_wrong(case):
    """The report's own scorer, which knows the data, must see the defect, and only there."""
    reference = ReportWriterReference(
        sections=HEADINGS[1:],
        facts=facts(case.input.findings),
        diagnosis=case.input.diagnosis.primary.name,
    )
    report = read_report(case.input.report)
    parts = SCORER_BY_AGENT["report_writer"].score(report, reference).parts
    kind = case.reference.defect and case.reference.defect.kind
    signs = {
        "side_swapped": parts["contradicted"] == 1,
        "size_changed": parts["contradicted"] == 1,
        "finding_negated": parts["contradicted"] == 1,
        "finding_omitted": parts["facts_carried"] < 1 and not parts["contradicted"],
        "finding_invented": parts["invented"] == 1 and parts["facts_carried"] == 1,
        "section_missing": parts["sections_present"] < 1,
        "disclaimer_missing": parts["disclaimer"] == 0,
        "impression_unsupported": parts["diagnosis_named"] == 0,
    }
    if kind is not None:
        assert signs[kind]
    usual = {
        "contradicted": {"side_swapped", "size_changed", "finding_negated"},
        "invented": {"finding_invented", "impression_unsupported"},
        "placeholders": set(),
    }
    for name, allowed in usual.items():
        assert parts[name] == 0 or kind in allowed, name
    for name in ("sections_present", "disclaimer", "diagnosis_named"):
        expected = {
            "sections_present": "section_missing",
            "disclaimer": "disclaimer_missing",
            "diagnosis_named": "impression_unsupported",
        }[name]
        assert parts[name] == 1 or kind == expected, name


def test_half_of_the_reviewed_reports_are_clean_and_every_defect_occurs():
    defects = [case.reference.defect for case in cases("qc_reviewer")]
    assert defects.count(None) * 2 == len(defects)
    assert len({defect.kind for defect in defects if defect}) == 8


# Wrong suites.


def row_text(**changes: object) -> str:
    return json.dumps({**ROW, **changes})


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    row = json.loads(json.dumps(ROW))
    change(row)
    return json.dumps(row)


def written(tmp_path: Path, content: str | bytes, name: str = "suite.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    """What is said of a suite, without its path; one readable line of bounded length."""
    with pytest.raises(ConfigError) as caught:
        load_suite(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:")
    assert message.isprintable(), message
    assert len(message) < len(str(path)) + 700
    return message.removeprefix(f"{path}:")


def finding(row: dict[str, Any]) -> dict[str, Any]:
    return row["reference"]["findings"][0]


def region(row: dict[str, Any]) -> dict[str, Any]:
    return row["input"]["regions"][0]


WRONG: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing field": (lambda r: finding(r).pop("size_mm"), "reference.findings[0].size_mm"),
    "missing reference": (lambda r: r.pop("reference"), "reference"),
    "missing agent": (lambda r: r.pop("agent"), "agent"),
    "text for a number": (
        lambda r: finding(r).update(size_mm="9"),
        "reference.findings[0].size_mm",
    ),
    "number for a text": (lambda r: r["input"].update(exam=3), "input.exam"),
    "true for a number": (lambda r: region(r).update(mean_hu=True), "input.regions[0].mean_hu"),
    "fraction for a whole": (lambda r: region(r).update(mean_hu=1.5), "input.regions[0].mean_hu"),
    "null for a list": (lambda r: r["input"].update(regions=None), "input.regions"),
    "empty list": (lambda r: r["input"].update(regions=[]), "input.regions"),
    "unknown key": (lambda r: region(r).update(colour="red"), "input.regions[0].colour"),
    "unknown key with a line break": (lambda r: r.update({"a\nb": 1}), "a\\nb"),
    "unknown word": (lambda r: finding(r).update(kind="blob"), "reference.findings[0].kind"),
    "zero size": (lambda r: finding(r).update(size_mm=0), "reference.findings[0].size_mm"),
    "absurd size": (lambda r: finding(r).update(size_mm=1e9), "reference.findings[0].size_mm"),
    "negative area": (lambda r: region(r).update(area_mm2=-4), "input.regions[0].area_mm2"),
    "absurd attenuation": (lambda r: region(r).update(mean_hu=90000), "input.regions[0].mean_hu"),
    "two coordinates": (
        lambda r: region(r).update(centroid_mm=[1, 2]),
        "input.regions[0].centroid",
    ),
    "impossible side": (
        lambda r: finding(r).update(location="middle lobe"),
        "laterality of the middle lobe is right, not left",
    ),
    "capitals in the id": (lambda r: r.update(id="R 1"), "id"),
    "endless id": (lambda r: r.update(id="r" * 5000), "id"),
    "endless text": (lambda r: r["input"].update(exam="x" * 100_000), "input.exam"),
    "no such agent": (lambda r: r.update(agent="surgeon"), "agent"),
    "endless agent": (lambda r: r.update(agent="x" * 100_000), "agent"),
    "agent of a wrong type": (lambda r: r.update(agent={"a": ["\n"]}), "agent"),
    "half a character": (lambda r: r["input"].update(exam="\ud800"), "the whole"),
}


@pytest.mark.parametrize(("change", "field"), WRONG.values(), ids=list(WRONG))
def test_wrong_case_is_refused_by_file_line_and_field(tmp_path, change, field):
    path = written(tmp_path, f"{row_text(id='first')}\n{changed(change)}\n")
    said = refusal(path)
    assert said.startswith("2: ")
    assert field in said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (row_text()[:200], "is not JSON"),
        (row_text() + row_text(), "is not JSON"),
        ("", "is blank"),
        ("   ", "is blank"),
        ("[1, 2]", "is not a JSON object"),
        ("null", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        (row_text(id="first"), "id: 'first' stands in line 1 too"),
        (row_text().replace('"exam"', '"exam": "x", "exam"'), "key exam stands twice"),
        (row_text().replace(": 64", ": NaN"), "NaN is not a JSON number"),
        (row_text().replace(": 64", ": -Infinity"), "-Infinity is not a JSON number"),
        (row_text().replace(": 64", ": 1e999"), "input.regions[0].area_mm2"),
        (row_text().replace(": 64", ": " + "9" * 5000), "is not usable JSON"),
        ("[" * 100_000, "is not usable JSON"),
        ("\ufeff" + row_text(), "is not JSON"),
    ],
)
def test_wrong_line_is_refused_by_file_and_line(tmp_path, line, why):
    path = written(tmp_path, f"{row_text(id='first')}\n{line}\n{row_text(id='last')}\n")
    said = refusal(path)
    assert said.startswith("2:")
    assert why in said


def test_suite_of_two_agents_is_refused(tmp_path):
    other = (SUITES / "alignment.jsonl").read_text("utf-8").splitlines()[0]
    said = refusal(written(tmp_path, f"{row_text()}\n{other}\n"))
    assert said.startswith("2: agent: is 'alignment' in a suite of 'radiologist'")


def test_case_of_another_agent_under_this_agents_name_is_refused(tmp_path):
    said = refusal(written(tmp_path, row_text(agent="alignment")))
    assert said.startswith("1: input.")


@pytest.mark.parametrize("content", [b"", b"\n\n \n", b"\xff\xfe{", b'{"id": "\xe9"}'])
def test_file_without_cases_or_without_utf8_is_refused(tmp_path, content):
    assert ("has no cases" in (said := refusal(written(tmp_path, content)))) or (
        "is not UTF-8 text" in said
    )


def test_missing_file_and_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        assert "cannot be read" in refusal(path)


def test_taking_no_case_is_refused(tmp_path):
    suite = load_suite(written(tmp_path, row_text()))
    with pytest.raises(ConfigError, match="take at least 1 case, not 0"):
        suite.take(0)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Two lines of a published suite, cut or with bytes changed, removed or put in."""
    agent = draw(st.sampled_from(AGENTS))
    lines = (SUITES / f"{agent}.jsonl").read_bytes().splitlines(keepends=True)
    content = bytearray(b"".join(lines[:2]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "change", "remove", "insert"])):
            case "cut":
                del content[at:]
            case "change":
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "remove":
                del content[at : at + draw(st.integers(1, 20))]
            case "insert":
                extra = st.sampled_from([b'"', b"{", b"\n", b"0", b"-", b"e9", b"NaN", b"\\u0000"])
                content[at:at] = draw(extra)
    return bytes(content)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=damaged())
def test_damaged_suite_loads_or_is_refused_in_one_line_and_never_anything_else(tmp_path, content):
    path = written(tmp_path, content)
    try:
        found = load_suite(path)
    except ConfigError as error:
        found = error
    if isinstance(found, ConfigError):
        assert str(found).startswith(f"{path}:")
        assert str(found).isprintable()
    else:
        assert all(isinstance(case.reference, Strict) for case in found.cases)
        assert found.digest.startswith("sha256:")


# Splits and clusters.


def test_part_holds_exactly_the_cases_of_its_split_in_their_order(tmp_path):
    rows = [
        row_text(id="a", split="dev", cluster="one"),
        row_text(id="b", split="held_out"),
        row_text(id="c"),
        row_text(id="d", split="dev", cluster="one"),
    ]
    suite = load_suite(written(tmp_path, "\n".join(rows)))
    assert [case.id for case in suite.part("dev").cases] == ["a", "d"]
    assert [case.id for case in suite.part("held_out").cases] == ["b"]
    assert [case.cluster for case in suite.cases] == ["one", None, None, "one"]


def test_part_of_an_undivided_suite_is_refused(tmp_path):
    suite = load_suite(written(tmp_path, row_text()))
    with pytest.raises(ConfigError, match="has no case of split 'held_out'"):
        suite.part("held_out")


def test_unknown_split_is_refused(tmp_path):
    assert "1: split: " in refusal(written(tmp_path, row_text(split="test")))
