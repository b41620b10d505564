"""What must lower a score and what must not: harmful and harmless edits of right answers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import get_args

import pytest

from report_texts import faultless_report, sentence
from slice_readings import faultless_reading
from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.alignment import AlignmentOutput
from soma_bench.agents.pathologist import Diagnosis, Differential, PathologistOutput
from soma_bench.agents.qc_reviewer import Issue, QCReviewerOutput
from soma_bench.agents.radiologist import Finding
from soma_bench.agents.report_writer import read_report
from soma_bench.cases.alignment import AlignmentReference
from soma_bench.cases.report_writer import ReportFact, ReportWriterReference
from soma_bench.cases.suite import load_suite
from soma_bench.errors import AnswerError, ConfigError
from soma_bench.scoring import SCORER_BY_AGENT, Answer
from soma_bench.scoring.alignment import COST, FAILED_COST, paraphrase_consistency
from soma_bench.scoring.classification import auroc, calibration, matthews
from soma_bench.scoring.extras import PACKAGES, Extra, likeness
from soma_bench.scoring.icd10 import grade, is_listed
from soma_bench.scoring.management import crosses_step
from soma_bench.scoring.rouge import rouge_l
from soma_bench.scoring.synonyms import bare_name
from soma_bench.scoring.workup import follows_category
from soma_bench.types import AGENTS

SUITES = Path(__file__).parent.parent / "data" / "suites"
CASES = {agent: load_suite(SUITES / f"{agent}.jsonl").cases for agent in AGENTS}


def each(agent: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.id) for c in CASES[agent]])


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("text", ["", "   ", "I cannot help with that.", "{}", "[1, 2", "null"])
def test_empty_answer_and_garbage_are_no_answer(agent, text):
    with pytest.raises(AnswerError):
        AGENT_BY_NAME[agent].parse(text)


SUCCESS: dict[str, set[str]] = {
    "alignment": {"macro_f1", "handler_f1"},
    "radiologist": {"schema_valid", "sensitivity", "detection_f1"},
    "pathologist": {"top1", "top3", "top5", "mrr", "code_exact", "code_category"},
    "report_writer": {"section_rate", "fact_rate", "disclaimer_rate"},
    "qc_reviewer": {
        *("sensitivity", "specificity", "localisation"),
        *("balanced_accuracy", "mcc", "auroc"),
    },
}
"""The figures of each agent that are 1 where all answers are right."""


@pytest.mark.parametrize("agent", AGENTS)
def test_failed_answers_lower_every_rate_of_success(agent):
    scorer = SCORER_BY_AGENT[agent]
    right = [Answer(PERFECT[agent](case), case.reference) for case in CASES[agent]]
    alone = scorer.summarize(right)
    beside = scorer.summarize([*right, *(Answer(None, answer.reference) for answer in right)])
    for name in SUCCESS[agent]:
        assert beside[name] < alone[name] == pytest.approx(1), name


# Alignment.


def test_revision_taken_for_approval_costs_most_and_asking_back_least():
    costs = {(t, s): cost for t, row in COST.items() for s, cost in row.items()}
    assert max(costs, key=costs.get) == ("REVISION", "APPROVAL")
    assert FAILED_COST == max(costs.values()) == 1
    for row in COST.values():
        assert row.get("UNCLEAR", 0) <= min(row.values())
        assert row.get("APPROVAL", 1) >= max(row.values())
    assert all(set(row) == set(COST) - {truth} for truth, row in COST.items())


def test_macro_f1_does_not_see_which_mistake_was_made_and_the_cost_does():
    scorer = SCORER_BY_AGENT["alignment"]
    meant = AlignmentReference(intent="REVISION", handlers=("radiologist",))

    def said(intent: str) -> AlignmentOutput:
        return AlignmentOutput(intent=intent, handler="radiologist", asked="x", confidence=80)

    released, asked = (
        scorer.summarize([Answer(scorer.score(said(intent), meant).parts, meant)])
        for intent in ("APPROVAL", "UNCLEAR")
    )
    assert released["macro_f1"] == asked["macro_f1"] == 0
    assert released["mean_cost"] > asked["mean_cost"] > 0


def test_consistency_by_hand():
    """One message's three paraphrases: 1 of 3 pairs alike; another's two: alike though wrong."""
    question = AlignmentReference(intent="QUESTION", handlers=("self",))

    def answer(case: str, cluster: str | None, intent: str | None) -> Answer:
        return Answer(intent and {"intent": intent}, question, case=case, cluster=cluster)

    first = [answer("a1", "a", "INFO"), answer("a2", "a", "INFO"), answer("a3", "a", None)]
    second = [answer("b1", "b", "APPROVAL"), answer("b2", "b", "APPROVAL")]
    assert paraphrase_consistency([*first, *second]) == pytest.approx((1 / 3 + 1) / 2)
    repeats = [answer("c1", "c", "INFO"), answer("c1", "c", "QUESTION")]
    assert paraphrase_consistency([*repeats, answer("d", None, "INFO")]) is None


# Radiologist.


def other_side(finding: Finding) -> Finding:
    sides = {"left": "right", "right": "left", "bilateral": "left", "midline": "left"}
    return finding.model_copy(update={"laterality": sides[finding.laterality]})


def resized(finding: Finding, factor: float) -> Finding:
    return finding.model_copy(update={"size_mm": max(1, min(300, round(finding.size_mm * factor)))})


HARMFUL_FINDINGS: dict[str, Callable[[tuple[Finding, ...]], tuple[Finding, ...]]] = {
    "side swapped": lambda f: (other_side(f[0]), *f[1:]),
    "left out": lambda f: f[1:],
    "named twice": lambda f: (*f, f[0]),
    "mm for cm": lambda f: (resized(f[0], 10), *f[1:]),
    "cm for mm": lambda f: (resized(f[0], 0.1), *f[1:]),
}
WITH_FINDINGS = pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.id) for c in CASES["radiologist"] if c.reference.findings]
)


@WITH_FINDINGS
@pytest.mark.parametrize("edit", HARMFUL_FINDINGS.values(), ids=list(HARMFUL_FINDINGS))
def test_harmful_edit_of_a_finding_lowers_the_radiologists_score(case, edit):
    score = SCORER_BY_AGENT["radiologist"].score
    right = faultless_reading(case.reference)
    worse = right.model_copy(update={"findings": edit(right.findings)})
    assert score(worse, case.reference).primary < score(right, case.reference).primary - 0.05


@WITH_FINDINGS
def test_order_names_and_severity_of_findings_are_harmless(case):
    score = SCORER_BY_AGENT["radiologist"].score
    right = faultless_reading(case.reference)
    renamed = tuple(
        f.model_copy(update={"id": f"Z{i}", "severity": "low"})
        for i, f in enumerate(reversed(right.findings))
    )
    same = right.model_copy(update={"findings": renamed})
    assert score(same, case.reference).primary == pytest.approx(
        score(right, case.reference).primary
    )


@pytest.mark.parametrize(
    ("density", "true_mm", "said_mm", "crosses"),
    [
        ("solid", 5.9, 6.1, True),
        ("solid", 6.1, 5.9, True),
        ("solid", 6.0, 7.9, False),
        ("solid", 7.9, 8.1, True),
        ("solid", 14.9, 15.1, True),
        ("solid", 8.0, 14.9, False),
        ("solid", 15.0, 60.0, False),
        ("solid", 5.96, 6.0, False),
        ("ground-glass", 5.9, 8.1, False),
        ("ground-glass", 29.8, 31, True),
        ("part-solid", 5.8, 6.2, True),
        ("calcified", 5.9, 15.1, False),
    ],
)
def test_size_error_crosses_a_step_of_management_or_not(density, true_mm, said_mm, crosses):
    assert crosses_step("nodule", (density,), true_mm, said_mm) is crosses
    assert not crosses_step("effusion", (), true_mm, said_mm)


# Pathologist.


def diagnosis(case, *, name: str | None = None, code: str | None = None) -> PathologistOutput:
    return PathologistOutput(
        primary=Diagnosis(
            name=name or case.reference.names[0],
            icd10=code or case.reference.icd10[0],
            confidence=90,
            reasoning="x",
        ),
        differentials=(),
        workup=(),
    )


@each("pathologist")
def test_harmful_edits_of_a_diagnosis_lower_its_score(case):
    score = SCORER_BY_AGENT["pathologist"].score
    right = diagnosis(case)
    best = score(right, case.reference)
    assert best.primary == 1
    other = Differential(
        name="Foreign body", icd10="T17.9", confidence=5, findings_for="x", findings_against="x"
    )
    demoted = PathologistOutput(
        primary=Diagnosis(name=other.name, icd10=other.icd10, confidence=90, reasoning="x"),
        differentials=(
            Differential(
                name=right.primary.name,
                icd10=right.primary.icd10,
                confidence=5,
                findings_for="x",
                findings_against="x",
            ),
        ),
        workup=(),
    )
    for worse in (
        diagnosis(case, name=f"No {case.reference.names[0]}"),
        diagnosis(case, code="T17.9"),
        diagnosis(case, code="nodule"),
        demoted,
    ):
        assert score(worse, case.reference).primary <= 0.5
    assert score(demoted, case.reference).parts["reciprocal_rank"] == 0.5
    assert SCORER_BY_AGENT["pathologist"].score(demoted, case.reference).parts["top3"]


@each("pathologist")
def test_harmless_edits_of_a_diagnosis_keep_its_score(case):
    score = SCORER_BY_AGENT["pathologist"].score
    name = case.reference.names[0]
    for same in (
        diagnosis(case, name=name.upper()),
        diagnosis(case, name=f"Probable {name}"),
        diagnosis(case, name=name.lower().replace("pulmonary", "lung")),
        diagnosis(case, code=f" {case.reference.icd10[0].lower()}"),
    ):
        assert score(same, case.reference).primary == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NSCLC", "Non-small cell carcinoma of the lung"),
        ("TB", "Pulmonary tuberculosis"),
        ("Pulmonary metastases", "Metastatic disease of the lung"),
        ("Bronchogenic carcinoma", "Lung cancer"),
        ("Carcinoid", "Bronchial carcinoid"),
        ("Pulmonary thromboembolism", "PE"),
    ],
)
def test_synonyms_mean_the_same(one, other):
    assert bare_name(one) == bare_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NSCLC", "SCLC"),
        ("Lung cancer", "Lung metastasis"),
        ("Lung adenocarcinoma", "Squamous cell carcinoma of the lung"),
        ("Lung abscess", "Lung cancer"),
        ("Benign tumor", "Malignant tumor"),
    ],
)
def test_other_diagnoses_do_not(one, other):
    assert bare_name(one) != bare_name(other)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("C34.11", "exact"),
        ("c34.11 ", "exact"),
        ("C34.12", "parent"),
        ("C34", "parent"),
        ("C78.01", "chapter"),
        ("D14.31", "chapter"),
        ("D50.0", "none"),
        ("J18.9", "none"),
        ("C34????", "none"),
        ("", "none"),
    ],
)
def test_codes_are_graded(code, expected):
    assert grade(code, ("C34.11",)) == expected


def test_listed_codes_are_told_from_well_formed_ones():
    pytest.importorskip("simple_icd_10_cm")
    assert is_listed("C34.11")
    assert is_listed(" d3a.090")
    assert not is_listed("C34.19")
    assert not is_listed("C00-D49"), "a chapter is no code"


@pytest.mark.parametrize(
    ("category", "right", "wrong"),
    [
        (
            "2",
            ["Annual LDCT", "CT in 12 months", "Repeat CT in one year"],
            ["CT in 3 months", "PET-CT"],
        ),
        (
            "3",
            ["LDCT in 6 months", "Chest CT, 6-month interval"],
            ["CT in 6 weeks", "No CT in 6 months"],
        ),
        (
            "4A",
            ["CT in 3 months", "Low-dose CT in 12 weeks"],
            ["CT in 3 years", "Annual CT", "Rest"],
        ),
        ("4B", ["PET-CT", "CT-guided biopsy", "Tissue sampling"], ["CT in 3 months", "No biopsy"]),
    ],
)
def test_workup_follows_the_rules_of_its_category_or_not(category, right, wrong):
    for step in right:
        assert follows_category([step], category), step
    for step in wrong:
        assert not follows_category([step], category), step
    assert not follows_category([], category)
    assert not follows_category(["CT in 6 months", "Biopsy"], "3"), "too much is not right either"


def test_management_is_scored_only_where_the_case_asks_for_it():
    case = CASES["pathologist"][0]
    scorer = SCORER_BY_AGENT["pathologist"]
    asked = case.reference.model_copy(update={"management": "3"})
    output = diagnosis(case)
    answers = [
        Answer(scorer.score(output.model_copy(update={"workup": steps}), asked).parts, asked)
        for steps in (("LDCT in 6 months",), ("LDCT in 3 years",))
    ]
    assert scorer.summarize([*answers, Answer(None, asked)])["management_right"] == (
        pytest.approx(1 / 3)
    )
    unasked = Answer(scorer.score(output, case.reference).parts, case.reference)
    assert "management_right" not in scorer.summarize([unasked])


def test_code_rates_are_over_the_cases_whose_code_is_known():
    case = CASES["pathologist"][0]
    scorer = SCORER_BY_AGENT["pathologist"]
    uncoded = case.reference.model_copy(update={"icd10": ()})
    score = scorer.score(diagnosis(case), uncoded)
    assert score.primary == 1
    known = Answer(scorer.score(diagnosis(case), case.reference).parts, case.reference)
    figures = scorer.summarize([Answer(score.parts, uncoded), known])
    assert figures["code_exact"] == figures["code_category"] == 1
    assert "code_exact" not in scorer.summarize([Answer(score.parts, uncoded)])


# ReportWriter.


def report_primary(case, text: str) -> float:
    return SCORER_BY_AGENT["report_writer"].score(read_report(text), case.reference).primary


@pytest.mark.parametrize(
    "placeholder", ["[Name]", "TBD", "XXX", "lorem ipsum dolor", "{patient}", "insert date here"]
)
@each("report_writer")
def test_placeholder_lowers_the_score(case, placeholder):
    text = faultless_report(case.input)
    edited = text.replace("## Technique\n", f"## Technique\n{placeholder}\n")
    assert report_primary(case, edited) == pytest.approx(report_primary(case, text) / 2)


@each("report_writer")
def test_dropped_negation_lowers_the_score_and_the_negation_itself_does_not(case):
    said = [sentence(finding) for finding in case.input.findings]
    denied = faultless_report(case.input, [*said, "No pneumothorax."])
    claimed = faultless_report(case.input, [*said, "Pneumothorax."])
    assert report_primary(case, denied) == pytest.approx(1)
    assert report_primary(case, claimed) <= 0.5


@each("report_writer")
def test_centimetres_are_harmless_and_wrong_centimetres_are_not(case):
    def converted(text: str) -> str:
        number = text.split()[3]
        return text.replace(f"{number} mm", f"{int(number) / 10:g} cm")

    said = [sentence(finding) for finding in case.input.findings]
    same = faultless_report(case.input, [converted(text) for text in said])
    wrong = faultless_report(case.input, [text.replace(" mm", " cm") for text in said])
    assert report_primary(case, same) == pytest.approx(1)
    assert report_primary(case, wrong) <= 0.5


@pytest.mark.parametrize(
    ("words", "contradicts"),
    [
        ("solid, smooth", False),
        ("ground-glass, smooth", True),
        ("part-solid, smooth", True),
        ("non-solid, smooth", True),
        ("solid, spiculated", True),
        ("solid", False),
        ("", False),
    ],
)
def test_density_or_margin_that_is_not_so_contradicts_the_fact(words, contradicts):
    case = CASES["report_writer"][0]
    looked = case.reference.facts[0].model_copy(update={"characteristics": ("solid", "smooth")})
    reference = case.reference.model_copy(update={"facts": (looked,)})
    text = faultless_report(case.input).replace("solid, smooth", words)
    score = SCORER_BY_AGENT["report_writer"].score(read_report(text), reference)
    assert score.parts["contradicted"] == contradicts
    assert score.parts["omitted"] == contradicts
    share = 0 if contradicts else len(words.split()) / 2
    assert score.parts["looks_carried"] == pytest.approx(share)


def test_wrong_finding_said_again_without_its_density_is_one_error():
    case = CASES["report_writer"][0]
    text = faultless_report(case.input).replace("8 mm", "9 mm")
    again = text.replace("## Impression\n", "## Impression\n9 mm nodule in the right upper lobe. ")
    score = SCORER_BY_AGENT["report_writer"].score
    for report in (text, again):
        assert score(read_report(report), case.reference).parts["contradicted"] == 1


def test_recommendation_that_is_not_given_costs_its_share():
    case = CASES["report_writer"][0]
    reference = case.reference.model_copy(update={"recommendations": ("CT in 6 months",)})
    score = SCORER_BY_AGENT["report_writer"].score
    given = faultless_report(case.input)
    for text, primary in (
        (given, 1.0),
        (given.replace("in 6 months", "in 3 years"), 0.9),
        (given.replace("Chest CT in 6", "No CT in 6"), 0.9),
    ):
        assert score(read_report(text), reference).primary == pytest.approx(primary)


def test_impression_that_says_otherwise_than_the_findings_is_a_conflict():
    case = CASES["report_writer"][0]
    score = SCORER_BY_AGENT["report_writer"].score
    text = faultless_report(case.input)
    for impression, conflicts in (
        ("8 mm nodule in the right upper lobe. ", 0),
        ("8 mm nodule in the left upper lobe. ", 1),
        ("12 mm nodule in the right upper lobe. ", 1),
        ("0.8 cm nodule. ", 0),
    ):
        edited = text.replace("## Impression\n", f"## Impression\n{impression}")
        parts = score(read_report(edited), case.reference).parts
        assert parts["impression_conflicts"] == conflicts, impression


def test_rouge_is_shown_and_never_ranked_on_because_it_hardly_sees_a_wrong_side():
    case = CASES["report_writer"][0]
    score = SCORER_BY_AGENT["report_writer"].score
    text = faultless_report(case.input)
    right = score(read_report(text), case.reference)
    wrong = score(read_report(text.replace("right upper", "left upper")), case.reference)
    assert right.parts["rouge_l"] - wrong.parts["rouge_l"] < 0.1
    assert wrong.primary <= 0.5 < right.primary
    assert rouge_l("a b c d", "a c d e") == pytest.approx(2 * 3 / 8)
    assert rouge_l("", "a") == rouge_l("a", "") == 0


OF_FINDINGS = {
    *("side_swapped", "size_changed", "unit_changed", "location_changed", "placeholder_left"),
    *("finding_omitted", "finding_invented", "finding_negated"),
}


@pytest.mark.parametrize("suite", ["qc_reviewer", "qc_reviewer-generated"])
def test_facts_read_from_reviewed_reports_tell_wrong_ones_from_clean_and_reworded_ones(suite):
    """Reports of other authors than this scorer's: every defect of a finding, no clean report."""
    for case in load_suite(SUITES / f"{suite}.jsonl").cases:
        defect = case.reference.defect
        if not case.input.findings or (defect is not None and defect.kind not in OF_FINDINGS):
            continue
        reference = ReportWriterReference(
            sections=("Findings", "Impression"),
            facts=tuple(
                ReportFact(
                    kind=f.kind,
                    structure=f.location,
                    laterality=f.laterality,
                    size_mm=f.size_mm,
                    characteristics=f.characteristics,
                )
                for f in case.input.findings
            ),
            diagnosis=case.input.diagnosis.primary.name,
        )
        parts = (
            SCORER_BY_AGENT["report_writer"].score(read_report(case.input.report), reference).parts
        )
        wrong = sum(parts[name] for name in ("contradicted", "invented", "omitted", "placeholders"))
        assert (wrong > 0) == (defect is not None), case.id


# QCReviewer.


def always(verdict: str, score: int) -> QCReviewerOutput:
    issue = Issue(category="CONSISTENCY", severity="critical", description="x")
    return QCReviewerOutput(
        issues=(issue,) if verdict == "fail" else (), score=score, verdict=verdict
    )


@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_reviewer_that_always_says_the_same_has_half_at_most_and_no_correlation(verdict):
    scorer = SCORER_BY_AGENT["qc_reviewer"]
    scored = [
        (scorer.score(always(verdict, 50), case.reference), case) for case in CASES["qc_reviewer"]
    ]
    assert fmean(score.primary for score, _ in scored) <= 0.5
    figures = scorer.summarize([Answer(score.parts, case.reference) for score, case in scored])
    assert figures["mcc"] == 0
    assert figures["balanced_accuracy"] == figures["auroc"] == 0.5


def test_reviewer_without_a_fault_has_every_figure_at_1():
    scorer = SCORER_BY_AGENT["qc_reviewer"]
    answers = [
        Answer(PERFECT["qc_reviewer"](case), case.reference) for case in CASES["qc_reviewer"]
    ]
    assert set(scorer.summarize(answers).values()) == {1.0}


# Measures with weights.


@pytest.mark.parametrize("extra", get_args(Extra))
def test_measure_whose_package_is_missing_says_which_to_install(extra):
    module, package = PACKAGES[extra]
    if find_spec(module) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(ConfigError, match=f"not installed; install {package}"):
        likeness(extra, ["a"], ["b"])
    assert likeness(extra, [], []) == []
    with pytest.raises(ConfigError, match="1 texts cannot have 0 references"):
        likeness(extra, ["a"], [])


# Figures.


def test_correlation_ranking_and_calibration_by_hand():
    truth = [True, True, True, False, False]
    assert matthews(truth, [True, True, False, False, True]) == pytest.approx(
        (2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5
    )
    assert matthews(truth, [not right for right in truth]) == -1
    assert auroc(truth, [5, 4, 1, 3, 1]) == pytest.approx((2 + 2 + 0.5) / 6)
    assert auroc([True], [1]) is None
    assert calibration([]) == {}
    spread = [(1.0, True), (1.0, False), (0.0, False), (0.55, True)]
    assert calibration(spread) == pytest.approx(
        {"brier": (0 + 1 + 0 + 0.45**2) / 4, "ece": (1 + 0 + 0.45) / 4}
    )


def _alignment_parts(case):
    reference = case.reference
    output = AlignmentOutput(
        intent=reference.intent, handler=reference.handlers[0], asked="x", confidence=90
    )
    return SCORER_BY_AGENT["alignment"].score(output, reference).parts


def _review_parts(case):
    defect = case.reference.defect
    issues = (
        ()
        if defect is None
        else (Issue(category=defect.categories[0], severity=defect.severity, description="x"),)
    )
    output = QCReviewerOutput(
        issues=issues, score=95 if defect is None else 20, verdict=case.reference.verdict
    )
    return SCORER_BY_AGENT["qc_reviewer"].score(output, case.reference).parts


PERFECT = {
    "alignment": _alignment_parts,
    "radiologist": lambda case: (
        SCORER_BY_AGENT["radiologist"]
        .score(faultless_reading(case.reference), case.reference)
        .parts
    ),
    "pathologist": lambda case: (
        SCORER_BY_AGENT["pathologist"].score(diagnosis(case), case.reference).parts
    ),
    "report_writer": lambda case: (
        SCORER_BY_AGENT["report_writer"]
        .score(read_report(faultless_report(case.input)), case.reference)
        .parts
    ),
    "qc_reviewer": _review_parts,
}
