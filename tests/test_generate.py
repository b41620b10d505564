"""Generated suites: they follow from the seed, are true, balanced, and no fixed answer wins."""

from __future__ import annotations

import difflib
import json
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from report_texts import faultless_report
from slice_readings import faultless_reading
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.agents.qc_reviewer import Issue, QCReviewerOutput
from soma_bench.agents.radiologist import Finding, RadiologistOutput
from soma_bench.agents.report_writer import HEADINGS, read_report
from soma_bench.cases.base import Case
from soma_bench.cases.generate import GENERATOR_BY_AGENT, SEED, suite_text
from soma_bench.cases.report_writer import ReportFact, ReportWriterReference
from soma_bench.cases.rules import DIAGNOSES, cancer_code, lung_rads
from soma_bench.cases.suite import load_suite
from soma_bench.cli import cli
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.types import AGENTS, AgentName

with warnings.catch_warnings():
    # It reads its list in a way that Python has announced the end of.
    warnings.simplefilter("ignore", DeprecationWarning)
    import simple_icd_10_cm

SUITES = Path(__file__).parent.parent / "data" / "suites"


@cache
def cases(agent: AgentName) -> tuple[Case, ...]:
    return load_suite(SUITES / f"{agent}-generated.jsonl").cases


def each_case(agent: AgentName) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in cases(agent)])


def mean_score(agent: AgentName, answer: object) -> float:
    """Of one and the same answer to every case."""
    score = SCORER_BY_AGENT[agent].score
    scores = [score(answer, case.reference).primary for case in cases(agent)]
    return sum(scores) / len(scores)


# From the seed alone.


@pytest.mark.parametrize("agent", AGENTS)
def test_published_suite_is_bit_by_bit_what_its_seed_gives(agent):
    published = (SUITES / f"{agent}-generated.jsonl").read_text("utf-8")
    assert suite_text(GENERATOR_BY_AGENT[agent](SEED)) == published


@pytest.mark.parametrize("agent", [agent for agent in AGENTS if agent != "radiologist"])
def test_another_seed_gives_other_cases_of_the_same_kinds(agent):
    first, other = GENERATOR_BY_AGENT[agent](1), GENERATOR_BY_AGENT[agent](2)
    assert suite_text(first) != suite_text(other)
    assert Counter(c.split for c in first) == Counter(c.split for c in other)
    assert {c.cluster for c in first} == {c.cluster for c in other}


def test_command_writes_a_suite_that_loads_and_says_what_it_did(tmp_path):
    arguments = ["cases", "generate", "--agent", "alignment", "--seed", "3", "--out"]
    made = CliRunner().invoke(cli, [*arguments, str(tmp_path / "new"), "--json"])
    assert made.exit_code == 0, made.output
    said = json.loads(made.output)
    assert said["seed"] == 3
    (suite,) = said["suites"]
    loaded = load_suite(Path(suite["path"]))
    assert (len(loaded.cases), suite["changed"]) == (suite["cases"], True)
    assert len(loaded.part("held_out").cases) == suite["held_out"]
    again = CliRunner().invoke(cli, [*arguments, str(tmp_path / "new")])
    assert "unchanged" in again.output


# Splits, clusters, balance.


@pytest.mark.parametrize("agent", AGENTS)
def test_at_least_60_cases_half_of_them_held_out_and_no_cluster_in_both_halves(agent):
    counts = Counter(case.split for case in cases(agent))
    assert counts["dev"] == counts["held_out"] >= 30
    splits: dict[str, set[str]] = {}
    for case in cases(agent):
        splits.setdefault(case.cluster, set()).add(case.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) >= 20


@pytest.mark.parametrize("agent", AGENTS)
def test_no_input_is_asked_twice_and_none_is_a_worked_example_or_in_the_small_suite(agent):
    inputs = [case.input.model_dump_json() for case in cases(agent)]
    assert len(set(inputs)) == len(inputs)
    shown = {given.model_dump_json() for given, _ in AGENT_BY_NAME[agent].examples}
    small = {c.input.model_dump_json() for c in load_suite(SUITES / f"{agent}.jsonl").cases}
    assert not set(inputs) & (shown | small)


def test_every_place_of_the_phantom_comes_up_equally_often_in_each_split():
    alone = [c for c in cases("radiologist") if "1-nodules" in c.tags and "phantom" in c.tags]
    assert len(alone) == 48
    for split in ("dev", "held_out"):
        places = Counter()
        for case in alone:
            nodule = case.input.image.slice.nodules[0]
            where = (case.input.image.slice.level, nodule.side, nodule.depth, nodule.zone)
            places[where] += case.split == split
        assert set(places.values()) == {1}
        assert len(places) == 24
    looks = Counter((n.density, n.margin) for c in alone for n in c.input.image.slice.nodules)
    assert len(looks) == 9
    assert max(looks.values()) - min(looks.values()) <= 1


def test_sides_are_balanced_where_findings_have_one():
    for agent in ("radiologist", "pathologist", "report_writer", "qc_reviewer"):
        sides = Counter()
        for case in cases(agent):
            found = case.reference.findings if agent == "radiologist" else case.input.findings
            sides.update(f.laterality for f in found if f.laterality != "midline")
        assert 0.4 < sides["left"] / (sides["left"] + sides["right"]) < 0.6, agent


def test_every_intent_handler_and_defect_is_asked_in_both_splits():
    for split in ("dev", "held_out"):
        readings = [c.reference for c in cases("alignment") if c.split == split]
        assert len({(r.intent, r.handlers) for r in readings}) == 17
        defects = [c.reference.defect for c in cases("qc_reviewer") if c.split == split]
        assert defects.count(None) * 2 == len(defects)
        assert set(Counter(d.kind for d in defects if d).values()) == {2}
        assert len({d.kind for d in defects if d}) == 14


# No fixed answer wins.


def test_no_fixed_reading_of_messages_scores_high():
    for intent in ("QUESTION", "INFO", "REVISION", "APPROVAL", "UNCLEAR"):
        for handler in ("self", "radiologist", "report_writer"):
            answer = AlignmentOutput(intent=intent, handler=handler, asked="x", confidence=90)
            assert mean_score("alignment", answer) < 0.35


def test_no_fixed_finding_scores_high_and_neither_does_saying_nothing():
    def answer(*findings: Finding) -> RadiologistOutput:
        return RadiologistOutput(
            findings=findings, measurements=(), incidental=(), technical_quality="good"
        )

    assert mean_score("radiologist", answer()) < 0.25
    for side in ("left", "right"):
        for location in ("upper lobe", "lower lobe", "lingula", "middle lobe"):
            guess = Finding(
                id="F1",
                kind="nodule",
                laterality=side,
                location=location,
                size_mm=13,
                characteristics=("solid", "smooth"),
                severity="moderate",
                confidence=90,
            )
            assert mean_score("radiologist", answer(guess)) < 0.25


def test_no_fixed_diagnosis_scores_high():
    for rule in DIAGNOSES:
        code = rule.codes_at("right", "upper lobe")[0]
        first = Diagnosis(name=rule.names[0], icd10=code, confidence=90, reasoning="x")
        answer = PathologistOutput(primary=first, differentials=(), workup=())
        assert mean_score("pathologist", answer) < 0.2


def test_reviewer_that_always_says_the_same_gets_half_at_most():
    categories = ("COMPLETENESS", "CONSISTENCY", "TERMINOLOGY", "CLARITY", "FORMAT", "DISCLAIMER")
    issues = [Issue(category=c, severity="major", description="x") for c in categories]
    reviews = [((), "pass"), ((), "fail"), (tuple(issues[:4]), "fail")]
    reviews += [((issue,), "fail") for issue in issues]
    for found, verdict in reviews:
        answer = QCReviewerOutput(issues=found, score=50, verdict=verdict)
        assert mean_score("qc_reviewer", answer) <= 0.5


# Truth.


def test_right_answers_to_messages_and_slices_score_1():
    for case in cases("alignment"):
        reading = case.reference
        answer = AlignmentOutput(
            intent=reading.intent, handler=reading.handlers[0], asked="x", confidence=100
        )
        assert SCORER_BY_AGENT["alignment"].score(answer, reading).primary == 1
    for case in cases("radiologist"):
        answer = faultless_reading(case.reference)
        assert SCORER_BY_AGENT["radiologist"].score(answer, case.reference).primary == 1


@each_case("radiologist")
def test_truth_of_a_segmentation_follows_from_what_was_measured(case):
    spacing = case.input.pixel_spacing_mm
    abnormal = [region for region in case.input.regions if region.label != "lung"]
    truth = sorted(case.reference.findings, key=lambda f: (f.laterality, f.location))
    seen = sorted(abnormal, key=lambda r: tuple(r.structure.split(" ", 1)))
    assert [f"{f.laterality} {f.location}" for f in truth] == [r.structure for r in seen]
    for finding, region in zip(truth, seen, strict=True):
        area = region.area_mm2 or region.area_px * spacing**2
        equal = (4 * area / 3.14159265) ** 0.5
        assert equal <= finding.size_mm + 0.5, "nothing is larger than its circle"
        if region.diameter_mm is None:
            assert abs(equal - finding.size_mm) < 0.5
        else:
            assert region.diameter_mm == finding.size_mm
        side = "left" if region.centroid_mm[0] > 0 else "right"
        assert finding.laterality == side
        looks = finding.characteristics
        if "part-solid" in looks:
            assert region.label == "part-solid nodule"
        elif looks:
            hu = region.mean_hu
            said = "ground-glass" if hu < -300 else "calcified" if hu > 200 else "solid"
            small = finding.size_mm < 8
            assert said in looks or small, "the rim of small nodules lowers their mean"
            assert region.margin in looks
        severe = finding.size_mm >= 15 or "spiculated" in looks
        expected = "low" if finding.size_mm < 6 else "high" if severe else "moderate"
        assert finding.severity == expected


def test_every_code_is_a_billable_code_of_icd_10_cm():
    codes = {code for case in cases("pathologist") for code in case.reference.icd10}
    codes |= {case.input.diagnosis.primary.icd10 for case in cases("report_writer")}
    codes |= {case.input.diagnosis.primary.icd10 for case in cases("qc_reviewer")}
    codes |= {code for rule in DIAGNOSES for code in rule.codes}
    assert len(codes) > 15
    for code in codes:
        assert simple_icd_10_cm.is_valid_item(code), code
        assert simple_icd_10_cm.is_leaf(code), code


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("location", ["upper lobe", "lower lobe"])
def test_codes_of_sided_diagnoses_describe_their_side_and_lobe(side, location):
    described = simple_icd_10_cm.get_description(cancer_code(side, location))
    assert side in described
    assert location in described
    for rule in DIAGNOSES:
        if rule.coded_by in ("metastasis", "benign"):
            (code,) = rule.codes_at(side, location)
            assert f"{side} " in simple_icd_10_cm.get_description(code)
    assert "middle lobe" in simple_icd_10_cm.get_description(cancer_code("right", "middle lobe"))
    assert cancer_code("left", "lingula") == "C34.12"


@pytest.mark.parametrize(
    ("density", "size_mm", "core_mm", "category"),
    [
        ("solid", 5.9, None, "2"),
        ("solid", 6.0, None, "3"),
        ("solid", 7.9, None, "3"),
        ("solid", 8.0, None, "4A"),
        ("solid", 14.9, None, "4A"),
        ("solid", 15.0, None, "4B"),
        ("part-solid", 5.9, 4.0, "2"),
        ("part-solid", 6.0, 5.9, "3"),
        ("part-solid", 9.0, 6.0, "4A"),
        ("part-solid", 9.0, 8.0, "4B"),
        ("ground-glass", 29.9, None, "2"),
        ("ground-glass", 30.0, None, "3"),
    ],
)
def test_lung_rads_categories_change_at_their_thresholds(density, size_mm, core_mm, category):
    assert lung_rads(density, size_mm, core_mm) == category


def test_part_solid_nodule_without_its_core_has_no_category():
    with pytest.raises(ValueError, match="needs the diameter of its solid core"):
        lung_rads("part-solid", 9.0)


@each_case("pathologist")
def test_right_diagnosis_scores_1(case):
    first = Diagnosis(
        name=case.reference.names[0],
        icd10=case.reference.icd10[0],
        confidence=100,
        reasoning="x",
    )
    answer = PathologistOutput(primary=first, differentials=(), workup=())
    assert SCORER_BY_AGENT["pathologist"].score(answer, case.reference).primary == 1


@each_case("report_writer")
def test_faultless_report_scores_1_and_needs_only_what_is_given(case):
    shown = AGENT_BY_NAME["report_writer"].render(case.input).lower()
    assert all(words.lower() in shown for words in case.reference.present)
    assert not [words for words in case.reference.absent if words.lower() in shown]
    report = read_report(faultless_report(case.input))
    score = SCORER_BY_AGENT["report_writer"].score(report, case.reference)
    assert score.primary == pytest.approx(1), score.parts


@each_case("qc_reviewer")
def test_report_has_the_planted_defect_and_no_other(case):
    """The report's own scorer, which knows the data, must see the defect, and only there."""
    reference = ReportWriterReference(
        sections=HEADINGS[1:],
        facts=tuple(
            ReportFact(
                kind=f.kind, structure=f.location, laterality=f.laterality, size_mm=f.size_mm
            )
            for f in case.input.findings
        ),
        diagnosis=case.input.diagnosis.primary.name,
    )
    text = case.input.report
    parts = SCORER_BY_AGENT["report_writer"].score(read_report(text), reference).parts
    kind = case.reference.defect and case.reference.defect.kind
    altered = {"side_swapped", "size_changed", "finding_negated", "unit_changed"}
    errors = parts["contradicted"] + parts["invented"]
    if kind in altered | {"location_changed", "finding_invented"}:
        assert errors >= 1, parts
    elif kind != "impression_unsupported":
        assert errors == 0, parts
    assert (parts["facts_carried"] == 1) == (
        kind not in altered | {"location_changed", "finding_omitted"}
    )
    assert (parts["sections_present"] == 1) == (kind != "section_missing")
    assert (parts["disclaimer"] == 1) == (kind != "disclaimer_missing")
    assert (parts["diagnosis_named"] == 1) == (kind != "impression_unsupported")
    assert (parts["placeholders"] > 0) == (kind == "placeholder_left")
    sections = read_report(text).sections
    step = case.input.diagnosis.workup[0]
    if kind != "section_missing" and kind != "placeholder_left":
        assert (sections["Recommendations"] == f"{step}.") == (kind != "follow_up_mismatch")
    assert step[1:] in sections["Impression"]
    assert ("earlier examination." in text) == (kind == "interval_invented")
    foreign = any(word in text for word in ("intense", "echoic", "signal"))
    assert foreign == (kind == "term_wrong")


def test_the_two_reports_of_a_pair_share_their_data_and_differ_in_one_section():
    pairs: dict[str, list[Case]] = {}
    for case in cases("qc_reviewer"):
        pairs.setdefault(case.cluster, []).append(case)
    assert len(pairs) == 56
    worded = 0
    for pair in pairs.values():
        clean, broken = sorted(pair, key=lambda c: c.reference.defect is not None)
        assert clean.reference.defect is None
        assert broken.reference.defect is not None
        assert clean.input.findings == broken.input.findings
        assert clean.input.diagnosis == broken.input.diagnosis
        if "reworded" in clean.tags:
            worded += 1
            continue
        changed = [
            line
            for line in difflib.ndiff(
                clean.input.report.splitlines(), broken.input.report.splitlines()
            )
            if line[0] in "+-" and line[2:].strip()
        ]
        assert 1 <= len(changed) <= 2, changed
    assert worded == 28
