"""Scorers against figures worked by hand, and what must and must not change a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from report_texts import faultless_report, sentence
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.pathologist import Diagnosis, Differential, PathologistOutput
from soma_bench.agents.qc_reviewer import Issue, QCReviewerOutput
from soma_bench.agents.radiologist import Finding, RadiologistOutput
from soma_bench.agents.report_writer import read_report
from soma_bench.cases.alignment import AlignmentReference
from soma_bench.cases.pathologist import PathologistReference
from soma_bench.cases.qc_reviewer import Defect, QCReviewerReference
from soma_bench.cases.radiologist import ExpectedFinding, RadiologistReference
from soma_bench.cases.suite import load_suite
from soma_bench.scoring import SCORER_BY_AGENT, Answer, Score
from soma_bench.scoring.report_facts import mentions
from soma_bench.types import AGENTS

SUITES = Path(__file__).parent.parent / "data" / "suites"


def test_scorers_are_in_the_order_of_an_analysis_and_name_their_agent():
    assert tuple(SCORER_BY_AGENT) == AGENTS
    assert all(scorer.agent == name for name, scorer in SCORER_BY_AGENT.items())


@pytest.mark.parametrize("scorer", SCORER_BY_AGENT.values(), ids=list(SCORER_BY_AGENT))
def test_nothing_to_sum_up_gives_no_figures(scorer):
    assert scorer.summarize([]) == {}


@pytest.mark.parametrize("scorer", SCORER_BY_AGENT.values(), ids=list(SCORER_BY_AGENT))
def test_failed_answers_alone_have_no_rate_above_zero_and_the_highest_cost(scorer):
    suite = load_suite(SUITES / f"{scorer.agent}.jsonl")
    answers = [Answer(None, case.reference) for case in suite.cases]
    figures = dict(scorer.summarize(answers))
    errors = {"mean_cost": 1.0, "omission_rate": 1.0}
    for name, value in errors.items():
        assert figures.pop(name, value) == value
    assert figures
    assert max(figures.values()) == 0
    json.dumps(scorer.breakdown(answers), allow_nan=False)


# Alignment.


def reading(intent: str, *, handler: str = "self", confidence: int = 80) -> AlignmentOutput:
    return AlignmentOutput(intent=intent, handler=handler, asked="x", confidence=confidence)


def meant(intent: str, *handlers: str) -> AlignmentReference:
    return AlignmentReference(intent=intent, handlers=handlers or ("self",))


def test_alignment_is_right_by_intent_alone():
    score = SCORER_BY_AGENT["alignment"].score
    right = score(reading("INFO", handler="qc_reviewer"), meant("INFO", "self", "pathologist"))
    assert right.primary == 1
    assert right.parts["handler_right"] is False
    assert right.parts["brier"] == pytest.approx(0.2**2)
    wrong = score(reading("INFO", handler="pathologist"), meant("QUESTION", "pathologist"))
    assert wrong.primary == 0
    assert wrong.parts["handler_right"] is True
    assert wrong.parts["brier"] == pytest.approx(0.8**2)


def test_macro_f1_by_hand_with_a_failed_answer_as_a_miss():
    """INFO: 1 hit, said 2, true 2: 0.5. QUESTION: 1, 2, 3: 0.4. APPROVAL: 0 of 1: 0."""
    pairs = [
        ("INFO", "INFO"),
        ("QUESTION", "INFO"),
        ("QUESTION", "QUESTION"),
        ("INFO", "QUESTION"),
        (None, "QUESTION"),
        ("UNCLEAR", "APPROVAL"),
    ]
    scorer = SCORER_BY_AGENT["alignment"]
    answers = [
        Answer(
            None if said is None else scorer.score(reading(said), meant(truth)).parts, meant(truth)
        )
        for said, truth in pairs
    ]
    assert scorer.summarize(answers)["macro_f1"] == pytest.approx((0.5 + 0.4 + 0) / 3)
    details = scorer.breakdown(answers)
    assert details["f1_by_intent"] == pytest.approx({"APPROVAL": 0, "INFO": 0.5, "QUESTION": 0.4})
    assert details["confusion"] == {
        "APPROVAL": {"UNCLEAR": 1},
        "INFO": {"INFO": 1, "QUESTION": 1},
        "QUESTION": {"INFO": 1, "QUESTION": 1, "unread": 1},
    }


def test_macro_f1_of_always_the_same_intent_is_low():
    """Five classes of equal size: the one that is always said has F1 2*1/(5+1), the others 0."""
    scorer = SCORER_BY_AGENT["alignment"]
    intents = ("QUESTION", "INFO", "REVISION", "APPROVAL", "UNCLEAR")
    answers = [Answer(scorer.score(reading("INFO"), meant(t)).parts, meant(t)) for t in intents]
    assert scorer.summarize(answers)["macro_f1"] == pytest.approx((2 / 6) / 5)


# Radiologist.


def seen(size_mm: int = 10, location: str = "upper lobe", laterality: str = "left") -> Finding:
    return Finding(
        id="F1",
        kind="nodule",
        laterality=laterality,
        location=location,
        size_mm=size_mm,
        characteristics=("solid",),
        severity="moderate",
        confidence=90,
    )


def there(
    size_mm: float = 10, location: str = "upper lobe", laterality: str = "left"
) -> ExpectedFinding:
    return ExpectedFinding(
        kind="nodule",
        laterality=laterality,
        location=location,
        size_mm=size_mm,
        characteristics=("solid",),
        severity="moderate",
    )


def radiologist(said: list[Finding], truth: list[ExpectedFinding]) -> Score:
    output = RadiologistOutput(
        findings=tuple(said), measurements=(), incidental=(), technical_quality="good"
    )
    reference = RadiologistReference(findings=tuple(truth), technical_quality="good")
    return SCORER_BY_AGENT["radiologist"].score(output, reference)


@pytest.mark.parametrize(
    ("said", "truth", "primary"),
    [
        pytest.param([], [], 1.0, id="nothing said of a normal examination"),
        pytest.param([seen()], [], 0.0, id="invented"),
        pytest.param([], [there()], 0.0, id="missed"),
        pytest.param([seen()], [there()], 1.0, id="exact"),
        pytest.param([seen(12)], [there(10)], 0.9, id="20 % too large: 1 - 0.2/2"),
        pytest.param([seen(9)], [there(14)], 1 - 5 / 14 / 2, id="5 of 14 mm too small"),
        pytest.param([seen(5)], [there(10)], 0.5, id="half as large: across 8 mm"),
        pytest.param([seen(7)], [there(8)], 0.5, id="1 mm too small, across 8 mm"),
        pytest.param([seen(9)], [there(8)], 1 - 1 / 8 / 2, id="1 mm too large, across nothing"),
        pytest.param([seen(6)], [there(5.9)], 1 - 0.1 / 5.9 / 2, id="the nearest whole mm"),
        pytest.param([seen(7)], [there(5.9)], 0.5, id="1.1 mm too large, across 6 mm"),
        pytest.param([seen(20)], [there(10)], 0.5, id="twice as large"),
        pytest.param([seen(300)], [there(10)], 0.5, id="any size: it was found"),
        pytest.param([seen(laterality="right")], [there()], 0.0, id="wrong side"),
        pytest.param([seen(location="lower lobe")], [there()], 0.0, id="wrong lobe"),
        pytest.param([seen(), seen(location="hilum")], [there()], 2 / 3, id="one invented of two"),
        pytest.param([seen(), seen()], [there()], 2 / 3, id="the same one twice"),
        pytest.param([seen()], [there(), there(8, "hilum")], 2 / 3, id="one missed of two"),
        pytest.param([seen(8), seen(12)], [there(12), there(8)], 1.0, id="two in one lobe"),
        pytest.param(
            [seen(9), seen(12)], [there(10), there(10)], (0.95 + 0.9) / 2, id="two sizes off"
        ),
    ],
)
def test_radiologist_score_by_hand(said, truth, primary):
    assert radiologist(said, truth).primary == pytest.approx(primary)


def test_radiologists_parts_by_hand():
    parts = radiologist(
        [seen(12), seen(9, "lower lobe", "right"), seen(4, "hilum")],
        [there(10), there(9, "lower lobe", "left"), there(6, "lingula", "left")],
    ).parts
    assert parts["matched"] == 1
    assert parts["missed"] == 2
    assert parts["invented"] == 2
    assert parts["wrong_side"] == 1
    assert parts["wrong_location"] == 1, "the node at the left hilum for the one in the lingula"
    assert parts["detection_f1"] == pytest.approx(2 / 6)
    assert parts["confidences"] == [[90, True], [90, False], [90, False]]
    assert parts["steps_crossed"] == 0
    assert parts["size_errors_mm"] == [2]
    assert parts["kinds_right"] == parts["severities_right"] == parts["characteristics_right"] == 1
    json.dumps(parts)


def test_one_invented_finding_is_the_wrong_side_of_one_missed_finding_at_most():
    truth = [there(10, "lower lobe", "left"), there(6, "lower lobe", "left")]
    parts = radiologist([seen(9, "lower lobe", "right")], truth).parts
    assert (parts["missed"], parts["invented"], parts["wrong_side"]) == (2, 1, 1)


def test_order_of_findings_changes_nothing():
    said = [seen(9), seen(14), seen(7, "hilum", "right")]
    truth = [there(10), there(13), there(7, "hilum", "right")]
    expected = radiologist(said, truth).primary
    assert radiologist(said[::-1], truth).primary == pytest.approx(expected)
    assert radiologist(said, truth[::-1]).primary == pytest.approx(expected)


def test_radiologist_figures_over_a_suite_by_hand():
    """3 true findings, 1 found 2 mm off, 1 invented, 2 lost to a failed answer."""
    first = radiologist([seen(12), seen(4, "hilum")], [there(10)])
    answers = [
        Answer(first.parts, RadiologistReference(findings=(there(10),), technical_quality="good")),
        Answer(None, RadiologistReference(findings=(there(), there(8)), technical_quality="good")),
    ]
    assert SCORER_BY_AGENT["radiologist"].summarize(answers) == pytest.approx(
        {
            "schema_valid": 1 / 2,
            "sensitivity": 1 / 3,
            "precision": 1 / 2,
            "detection_f1": 2 * 1 / (3 + 2),
            "false_positives_per_case": 1,
            "side_right": 1,
            "location_right": 1,
            "size_error_mm": 2,
            "steps_crossed": 0,
            "density_right": 1,
            "margin_right": 1,
            "brier": (0.1**2 + 0.9**2) / 2,
            "ece": abs(0.9 - 1 / 2),
        }
    )


# Pathologist.

TUMOUR = PathologistReference(names=("Lung adenocarcinoma", "Lung cancer"), icd10=("C34.11",))
OTHER = ("Pneumonia", "J18.9")
RIGHT = ("Lung cancer", "C34.11")


def pathologist(*named: tuple[str, str], confidence: int = 90) -> Score:
    (name, code), *others = named
    output = PathologistOutput(
        primary=Diagnosis(name=name, icd10=code, confidence=confidence, reasoning="x"),
        differentials=tuple(
            Differential(name=n, icd10=c, confidence=5, findings_for="x", findings_against="x")
            for n, c in others
        ),
        workup=(),
    )
    return SCORER_BY_AGENT["pathologist"].score(output, TUMOUR)


@pytest.mark.parametrize(
    ("named", "primary"),
    [
        ([RIGHT], 1.0),
        ([OTHER], 0.0),
        ([OTHER, RIGHT], 0.5),
        ([OTHER, OTHER, RIGHT], 0.25),
        ([RIGHT, RIGHT, RIGHT], 1.0),
        ([("Lung cancer", "J18.9")], 0.5),
        ([("Pneumonia", "C34.11")], 0.5),
        ([("Pneumonia", "C34.90")], 0.25),
        ([("Lung cancer", "C34.90")], 0.75),
        ([("Pneumonia", "C34")], 0.25),
        ([("Pneumonia", "C34????")], 0.0),
        ([("Pneumonia", "C3411")], 0.0),
        ([("Lung cancer", "c34.11 ")], 1.0),
        ([("Pneumonia", "C34.90"), RIGHT], 0.5),
    ],
)
def test_pathologist_score_by_hand(named, primary):
    assert pathologist(*named).primary == pytest.approx(primary)


@pytest.mark.parametrize(
    "name",
    [
        "lung cancer",
        "LUNG CANCER",
        "Primary lung cancer",
        "Suspected lung cancer, right upper lobe",
        "Cancer of the lung",
        "Lung adenocarcinoma",
        "Adenocarcinoma of the lung (probable)",
    ],
)
def test_right_diagnosis_in_other_words_keeps_its_score(name):
    assert pathologist((name, "C34.11")).primary == 1


@pytest.mark.parametrize(
    "name", ["Cancer", "Lung", "Left upper lobe", "Not lung cancer", "Lung cancers or TB"]
)
def test_other_diagnosis_in_like_words_is_none(name):
    assert not pathologist((name, "C34.11")).parts["name_right"]


def test_pathologist_rates_and_brier_by_hand():
    scorer = SCORER_BY_AGENT["pathologist"]
    answers = [
        Answer(pathologist(RIGHT, confidence=90).parts, TUMOUR),
        Answer(pathologist(OTHER, RIGHT, confidence=60).parts, TUMOUR),
        Answer(pathologist(("Pneumonia", "J18?"), confidence=20).parts, TUMOUR),
        Answer(None, TUMOUR),
    ]
    figures = dict(scorer.summarize(answers))
    figures.pop("codes_listed", None)
    assert figures == pytest.approx(
        {
            "top1": 1 / 4,
            "top3": 2 / 4,
            "top5": 2 / 4,
            "mrr": (1 + 1 / 2) / 4,
            "code_exact": 1 / 4,
            "code_category": 1 / 4,
            "brier": (0.1**2 + 0.6**2 + 0.2**2) / 3,
            "ece": (0.1 + 0.6 + 0.2) / 3,
            "codes_well_formed": 2 / 3,
        }
    )
    assert scorer.breakdown(answers) == {"code_grades": {"exact": 1, "none": 2}}


# QCReviewer.

CLEAN = QCReviewerReference(defect=None)
WRONG_SIDE = QCReviewerReference(
    defect=Defect(kind="side_swapped", categories=("CONSISTENCY",), severity="critical")
)
NO_SECTION = QCReviewerReference(
    defect=Defect(kind="section_missing", categories=("COMPLETENESS", "FORMAT"), severity="major")
)
CATEGORIES = ("COMPLETENESS", "CONSISTENCY", "TERMINOLOGY", "CLARITY", "FORMAT", "DISCLAIMER")


def review(verdict: str, *categories: str, severity: str = "critical") -> QCReviewerOutput:
    issues = tuple(Issue(category=c, severity=severity, description="x") for c in categories)
    return QCReviewerOutput(issues=issues, score=50, verdict=verdict)


@pytest.mark.parametrize(
    ("answer", "reference", "primary"),
    [
        (review("pass"), CLEAN, 1.0),
        (review("pass", "CLARITY"), CLEAN, 0.5),
        (review("fail"), CLEAN, 0.5),
        (review("fail", "CLARITY"), CLEAN, 0.0),
        (review("fail", "CONSISTENCY"), WRONG_SIDE, 1.0),
        (review("fail", "CONSISTENCY", "CONSISTENCY"), WRONG_SIDE, 1.0),
        (review("fail", "CONSISTENCY", "CLARITY"), WRONG_SIDE, 0.75),
        (review("fail", "CLARITY"), WRONG_SIDE, 0.5),
        (review("fail"), WRONG_SIDE, 0.5),
        (review("pass", "CONSISTENCY"), WRONG_SIDE, 0.5),
        (review("pass"), WRONG_SIDE, 0.0),
        (review("fail", "FORMAT"), NO_SECTION, 1.0),
        (review("fail", "COMPLETENESS"), NO_SECTION, 1.0),
        (review("fail", "COMPLETENESS", "FORMAT"), NO_SECTION, 0.75),
    ],
)
def test_qc_reviewer_score_by_hand(answer, reference, primary):
    assert SCORER_BY_AGENT["qc_reviewer"].score(answer, reference).primary == primary


def test_no_reviewer_that_always_answers_the_same_gets_more_than_half_on_the_suite():
    references = [case.reference for case in load_suite(SUITES / "qc_reviewer.jsonl").cases]
    score = SCORER_BY_AGENT["qc_reviewer"].score
    for verdict, chosen in product(("pass", "fail"), product((False, True), repeat=6)):
        named = [c for c, wanted in zip(CATEGORIES, chosen, strict=True) if wanted]
        if len(named) <= 4:
            always = review(verdict, *named)
            assert fmean(score(always, r).primary for r in references) <= 0.5, (verdict, named)


def test_qc_parts_say_severity_and_false_alarms():
    parts = (
        SCORER_BY_AGENT["qc_reviewer"]
        .score(review("fail", "CONSISTENCY", "CLARITY", severity="minor"), WRONG_SIDE)
        .parts
    )
    assert parts["defect_found"] is True
    assert parts["severity_right"] is False
    assert parts["false_alarms"] == 1
    clean = SCORER_BY_AGENT["qc_reviewer"].score(review("pass"), CLEAN).parts
    assert clean["defect_found"] is clean["severity_right"] is None


def test_sensitivity_and_specificity_by_hand_with_failed_answers_as_wrong():
    """Of 3 defects 2 fail rightly and 1 answer failed; of 2 clean reports 1 passes."""
    scorer = SCORER_BY_AGENT["qc_reviewer"]
    given = [
        (review("fail"), WRONG_SIDE),
        (review("fail"), NO_SECTION),
        (None, WRONG_SIDE),
        (review("pass"), CLEAN),
        (review("fail"), CLEAN),
    ]
    answers = [Answer(a and scorer.score(a, r).parts, r, tags=("plain",)) for a, r in given]
    assert scorer.summarize(answers) == pytest.approx(
        {
            "sensitivity": 2 / 3,
            "localisation": 0,
            "specificity": 1 / 2,
            "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            # Fails: 2 right, 1 missed; passes: 1 right, 1 wrong. All scores are 50 but the
            # failed one, which counts as above every clean report's.
            "mcc": (2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5,
            "auroc": (4 * 0.5 + 2 * 0) / 6,
        }
    )
    assert set(scorer.summarize(answers[:3])) == {"sensitivity", "localisation"}
    assert scorer.breakdown(answers) == {
        "sensitivity_by_kind": {"section_missing": 1, "side_swapped": 0.5},
        "sensitivity_by_severity": {"critical": 0.5, "major": 1},
        "specificity_by_tag": {"plain": 0.5},
    }


# ReportWriter.

REPORT_CASES = load_suite(SUITES / "report_writer.jsonl").cases
EVERY_REPORT = pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in REPORT_CASES])
BY_ID = {case.id: case for case in REPORT_CASES}


def report_score(case, text: str) -> Score:
    return SCORER_BY_AGENT["report_writer"].score(read_report(text), case.reference)


def with_first_finding(case, change: Callable[[str], str]) -> str:
    sentences = [sentence(finding) for finding in case.input.findings]
    changed = change(sentences[0])
    assert changed != sentences[0]
    return faultless_report(case.input, [changed, *sentences[1:]])


def swap_side(text: str) -> str:
    for one, other in (("left", "right"), ("right", "left"), ("bilateral", "left")):
        if one in text:
            return text.replace(one, other)
    return text.replace("in the mediastinum", "in the left hilum")


WORSE: dict[str, Callable[[str], str]] = {
    "side swapped": swap_side,
    "negated": lambda s: s.replace("There is a", "There is no"),
    "size changed": lambda s: s.replace(" mm", "0 mm"),
    "size 1 mm off": lambda s: s.replace(s.split()[3], str(int(s.split()[3]) + 1), 1),
    "size left out": lambda s: " ".join(s.split()[:3] + s.split()[5:]),
    "in cm by mistake": lambda s: s.replace(" mm", " cm"),
    "left out": lambda s: "",
    "another lobe": lambda s: s.replace(s.split(" in the ")[1], "left hilum and the other lung."),
}


@EVERY_REPORT
@pytest.mark.parametrize("change", WORSE.values(), ids=list(WORSE))
def test_error_in_one_finding_lowers_the_score_by_at_least_its_share(case, change):
    """A finding's share of the facts' half; for a part of it, a third of that share."""
    count = len(case.reference.facts)
    worse = report_score(case, with_first_finding(case, change)).primary
    assert worse <= 1 - 0.5 / count / 3 + 1e-9


@EVERY_REPORT
@pytest.mark.parametrize("change", [WORSE["side swapped"], WORSE["negated"], WORSE["size changed"]])
def test_contradiction_at_least_halves_the_score(case, change):
    score = report_score(case, with_first_finding(case, change))
    assert score.parts["contradicted"] + score.parts["invented"] >= 1
    assert score.primary <= 0.5


@EVERY_REPORT
def test_invention_halves_the_score(case):
    extra = ["There is a 33 mm cyst in the left lower lobe."]
    sentences = [sentence(finding) for finding in case.input.findings]
    score = report_score(case, faultless_report(case.input, sentences + extra))
    assert score.parts["invented"] == 1
    assert score.primary == pytest.approx(0.5)


@EVERY_REPORT
def test_invention_in_the_impression_counts_too(case):
    text = faultless_report(case.input).replace(
        "## Impression\n", "## Impression\n33 mm cyst in the left lower lobe. "
    )
    assert report_score(case, text).primary == pytest.approx(0.5)


HARMLESS: dict[str, Callable[[str], str]] = {
    "other verb": lambda s: s.replace("There is a", "Seen is a").replace(".", ", well defined."),
    "bullet": lambda s: f"\n- {s}\n",
    "bold": lambda s: f"**{s}**",
    "capitals": str.upper,
    "size without a space": lambda s: s.replace(" mm", "-mm"),
    "measuring": lambda s: (
        f"In the {s.split(' in the ')[1][:-1]} lies a {s.split(' in the ')[0].split()[-1]}"
        f" measuring {s.split()[3]} mm."
    ).replace("a node", "a lymph node"),
    "two sentences": lambda s: (
        f"There is a {s.split(' in the ')[0].split()[-1]} in the {s.split(' in the ')[1]}"
        f" It measures {s.split()[3]} mm."
    ).replace("a node", "a lymph node"),
    "no other": lambda s: f"{s} No other abnormality.",
    "one thing denied": lambda s: f"{s} No pneumothorax.",
    "a list denied": lambda s: f"{s} No cyst, fracture or pneumothorax in the right upper lobe.",
}


@EVERY_REPORT
@pytest.mark.parametrize("change", HARMLESS.values(), ids=list(HARMLESS))
def test_harmless_paraphrase_of_a_finding_keeps_the_score(case, change):
    assert report_score(case, with_first_finding(case, change)).parts["facts_carried"] == 1
    assert report_score(case, with_first_finding(case, change)).parts["contradicted"] == 0


@EVERY_REPORT
def test_order_of_findings_and_of_sections_changes_nothing(case):
    sentences = [sentence(finding) for finding in case.input.findings]
    assert report_score(case, faultless_report(case.input, sentences[::-1])).primary == (
        pytest.approx(1)
    )
    head, *sections = faultless_report(case.input).split("\n\n## ")
    turned = "\n\n## ".join([head, *sections[::-1]])
    assert report_score(case, turned).primary == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("## Comparison\nNone.", "## Comparison\nNo prior examination."),
        ("## Comparison\nNone.", "## Comparison\nPrevious CT: none."),
        ("## Comparison\nNone.", "## Comparison\nPrior images are not available."),
        ("## Impression\n", "## Impression\n1. 8 mm nodule in the right upper lobe. "),
        ("## Impression\n", "## Impression\nNo effusion. "),
        ("a 8 mm", "a 0.8 cm"),
        ("a 8 mm", "an 8 x 6 mm"),
        ("in the right upper lobe", "in the RUL"),
    ],
)
def test_harmless_change_keeps_the_whole_score(old, new):
    case = BY_ID["report_writer-01"]
    text = faultless_report(case.input)
    assert old in text
    assert report_score(case, text.replace(old, new)).primary == pytest.approx(1)


@pytest.mark.parametrize(
    ("old", "new", "primary"),
    [
        ("## Comparison\nNone.\n\n", "", 0.2 * 5 / 6 + 0.8),
        ("## Comparison\nNone.", "## Comparison\n", 0.2 * 5 / 6 + 0.8),
        ("## Comparison\n", "## Patient Information\nMr X\n## Comparison\n", 0.2 * 6 / 7 + 0.8),
        ("Solitary pulmonary nodule.", "See above.", 0.9),
        ("Prepared with AI assistance; a physician must review this report.", "", 0.9),
        (" in the right upper lobe", "", 0.2 + 0.5 / 3 + 0.3),
        (" in the right upper lobe", " in the right lung", 0.2 + 0.5 * 2 / 3 + 0.3),
        ("8 mm ", "", 0.2 + 0.5 * 2 / 3 + 0.3),
        ("## Comparison\nNone.", "## Comparison\nThe previous CT of 2020.", 0.5),
        ("Found by chance", "[indication]", 0.5),
        ("There is a 8 mm", "There is a 9 mm", 0.5 / 2),
    ],
)
def test_report_score_by_hand(old, new, primary):
    """A fifth for sections, half for facts, a tenth each for diagnosis, texts and disclaimer."""
    case = BY_ID["report_writer-01"]
    text = faultless_report(case.input)
    assert old in text
    assert report_score(case, text.replace(old, new)).primary == pytest.approx(primary)


@pytest.mark.parametrize(
    ("case_id", "findings"),
    [
        (
            "report_writer-01",
            "- **Lungs:** A single 8mm nodule is identified in the right upper lobe. It is solid. No"
            " other nodules, masses, or consolidation.\n- **Pleura:** No effusion or thickening.",
        ),
        (
            "report_writer-01",
            "The left lung is clear. In the upper lobe of the right lung there is a solid nodule"
            " with a diameter of 8 mm. The lungs are otherwise clear.",
        ),
        (
            "report_writer-02",
            "Left upper lobe nodule, 18 mm, spiculated. Left hilar lymph node, 15 mm. No effusion.",
        ),
        (
            "report_writer-04",
            "A 38 mm opacity in the left lower lobe with a left pleural effusion of 22 mm.",
        ),
        ("report_writer-07", "Mediastinal lymph node measuring 17 mm. The lungs are clear."),
        (
            "report_writer-10",
            "55 mm mass in the left lower lobe. There are pleural effusions on both sides, 20 mm.",
        ),
        ("report_writer-12", "Two nodules in the right upper lobe measure 7 mm and 13 mm."),
        ("report_writer-14", "28 mm opacity, right middle lobe; 10 mm nodule in the left lingula."),
    ],
)
def test_report_in_a_radiologists_own_words_scores_1(case_id, findings):
    case = BY_ID[case_id]
    assert report_score(case, faultless_report(case.input, [findings])).primary == pytest.approx(1)


@pytest.mark.parametrize(
    ("case_id", "findings"),
    [
        ("report_writer-01", "The lungs are clear."),
        ("report_writer-01", "The right lung is normal."),
        ("report_writer-01", "No effusion, nodule or consolidation."),
        ("report_writer-02", "18 mm nodule in the left upper lobe. No lymphadenopathy."),
        ("report_writer-10", "55 mm mass in the left lower lobe. No left or right effusion."),
        ("report_writer-12", "Two nodules in the right upper lobe measure 7 mm and 31 mm."),
    ],
)
def test_report_that_denies_or_alters_a_finding_in_any_words_is_contradicted(case_id, findings):
    case = BY_ID[case_id]
    score = report_score(case, faultless_report(case.input, [findings]))
    assert score.parts["contradicted"] == 1
    assert score.primary <= 0.5


def test_missing_patient_text_costs_its_share_of_the_texts():
    case = BY_ID["report_writer-02"]
    text = faultless_report(case.input).replace("SYN-0002", "")
    assert report_score(case, text).parts["texts_carried"] == pytest.approx(3 / 4)
    assert report_score(case, text).primary == pytest.approx(1 - 0.1 / 4)


def test_report_figures_over_a_suite_by_hand():
    case = BY_ID["report_writer-01"]
    good = report_score(case, faultless_report(case.input))
    wrong = report_score(case, faultless_report(case.input).replace("8 mm", "9 mm"))
    answers = [Answer(parts, case.reference) for parts in (good.parts, wrong.parts, None)]
    figures = dict(SCORER_BY_AGENT["report_writer"].summarize(answers))
    assert 0 < figures.pop("rouge_l") < 1
    assert figures == pytest.approx(
        {
            "section_rate": 2 / 3,
            "fact_rate": 1 / 3,
            "disclaimer_rate": 2 / 3,
            "error_rate": 1 / 3,
            "omission_rate": 2 / 3,
            "contradiction_rate": 1 / 3,
            "hallucination_rate": 0,
            "placeholder_rate": 0,
            "impression_conflict_rate": 0,
        }
    )


@pytest.mark.parametrize(
    ("text", "status", "kind", "sides", "structures", "sizes"),
    [
        ("8 mm nodule in the right upper lobe.", "present", "focal", "right", "upper lobe", {8}),
        ("No nodule in the left lung.", "absent", "focal", "left", "", set()),
        ("A nodule is not seen.", "absent", "focal", "", "", set()),
        ("1.2 x 0.9 cm mass, LLL.", "present", "focal", "left", "lower lobe", {12}),
        ("No other nodule.", "aside", "focal", "", "", set()),
        ("The lungs are clear.", "absent", "any", "", "", set()),
        ("9 mm nodule, previously 7 mm.", "present", "focal", "", "", {9}),
        ("No change of the 9 mm nodule.", "present", "focal", "", "", {9}),
        ("Left and right pleural effusion.", "present", "effusion", "bilateral", "pleura", set()),
        ("No left or right pleural effusion.", "absent", "effusion", "", "pleura", set()),
        ("No 8 mm solid, smooth nodule in the RUL.", "absent", "focal", "right", "upper lobe", {8}),
        ("No nodule or mass in the left lung.", "absent", "focal", "left", "", set()),
        ("No solid or cavitary mass.", "absent", "focal", "", "", set()),
        ("Without contrast, a 5 mm mass is seen.", "present", "focal", "", "", {5}),
    ],
)
def test_one_finding_is_one_mention(text, status, kind, sides, structures, sizes):
    (said,) = mentions(text)
    assert (said.status, said.kind) == (status, kind)
    assert said.sizes_mm == sizes
    assert said.structures == frozenset(filter(None, [structures]))
    assert said.sides == frozenset(filter(None, [sides]))


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("No effusion, pneumothorax, or consolidation in the left lower lobe.", ["absent"] * 3),
        ("No effusion, but a 5 mm nodule in the lingula.", ["absent", "present"]),
        ("No effusion, nodule of 8 mm in the left upper lobe.", ["absent", "present"]),
        ("No effusion and no nodule, nor is there a cyst.", ["absent"] * 3),
        ("No pneumothorax or effusion, and the nodule is solid.", ["absent", "absent", "present"]),
        ("Effusion, nodule or cyst are not seen.", ["absent"] * 3),
        ("8 mm nodule in the left lung with effusion.", ["present"] * 2),
        ("No other nodule or effusion.", ["aside"] * 2),
    ],
)
def test_negation_reaches_over_a_list_and_ends_with_a_new_noun_phrase(text, statuses):
    assert [mention.status for mention in mentions(text)] == statuses


WORDS = [
    "no",
    "nodule",
    "mass",
    "effusion",
    "lymph",
    "node",
    "left",
    "right",
    "upper",
    "lobe",
    "lingula",
    "hilum",
    "lungs",
    "clear",
    "normal",
    "8",
    "mm",
    "1.2",
    "cm",
    "solid,",
    "smooth",
    "and",
    "or",
    "but",
    "the",
    "a",
    "is",
    "not",
    "seen",
    "other",
    "without",
    "previously",
    ".",
    ";",
    "otherwise",
    "-",
]


@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), max_size=25))
def test_whatever_a_report_says_can_be_read(words):
    for mention in mentions(" ".join(words)):
        assert mention.status in ("present", "absent", "aside")
