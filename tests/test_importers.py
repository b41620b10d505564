"""Importers: real formats become cases, bad rows are named, and nothing is half imported."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.agents.pathologist import Diagnosis, PathologistOutput
from soma_bench.cases.images import load_images
from soma_bench.cases.importers.alterations import altered
from soma_bench.cases.importers.base import Job, read_cases
from soma_bench.cases.importers.formats import FORMAT_BY_NAME
from soma_bench.cases.suite import Suite, load_suite
from soma_bench.cli import cli
from soma_bench.errors import ConfigError
from soma_bench.scoring import SCORER_BY_AGENT

MEDEC = ["Text ID", "Text", "Sentences", "Error Flag", "Error Type", "Error Sentence ID"]
MEDEC += ["Error Sentence", "Corrected Sentence", "Corrected Text"]
RIGHT = ["ms-1", "A 50-year-old man has a cough.", "0 A 50...", "0", "NA", "-1", "NA", "NA", "NA"]
WRONG = [
    "ms-2",
    "He was given penicillin for a virus.",
    "0 He",
    "1",
    "treatment",
    "0",
    "x",
    "y",
    "z",
]
LUNA = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def table(*rows: list[str], **how: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream, **how).writerows(rows)
    return stream.getvalue()


def imported(
    tmp_path: Path, format_name: str, content: str | bytes | Path, agent: str, **more: str
) -> tuple[Result, Path]:
    path = content if isinstance(content, Path) else tmp_path / f"given{more.pop('suffix', '.csv')}"
    if isinstance(content, str):
        path.write_text(content, "utf-8", newline="")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    out = tmp_path / "made" / "suite.jsonl"
    options = [part for name, value in more.items() for part in (f"--{name}", value)]
    arguments = ["cases", "import", format_name, str(path), "--agent", agent, "--out", str(out)]
    flags = ["--skip-bad"] if "skip" in more else []
    options = [o for o in options if o not in ("--skip", "yes")]
    return CliRunner().invoke(cli, [*arguments, *options, *flags]), out


def suite(result: Result, out: Path) -> Suite:
    assert result.exit_code == 0, (result.output, result.exception)
    return load_suite(out)


# One test a format, with files in the shape that their publishers give them.


def test_medec_becomes_reviews_of_texts_with_and_without_an_error(tmp_path):
    loaded = suite(*imported(tmp_path, "medec", table(MEDEC, RIGHT, WRONG), "qc_reviewer"))
    assert [case.reference.verdict for case in loaded.cases] == ["pass", "fail"]
    assert loaded.cases[1].tags == ("medec", "treatment", "error")
    shown = AGENT_BY_NAME["qc_reviewer"].render(loaded.cases[0].input)
    assert "Data: none; judge the report by itself." in shown
    assert shown.endswith("A 50-year-old man has a cough.")


def test_mts_dialog_becomes_pairs_of_which_one_has_one_known_change(tmp_path):
    rows = [
        ["ID", "section_header", "section_text", "dialogue"],
        ["0", "GENHX", "Pain in the left knee.", "Doctor: Which knee? Patient: The left one."],
        ["1", "ROS", "The patient denies fever.", "Doctor: Any fever? Patient: No."],
        ["2", "MEDS", "Takes 20 mg of lisinopril.", "Patient: I take 20 milligrams of lisinopril."],
    ]
    loaded = suite(*imported(tmp_path, "mts-dialog", table(*rows), "qc_reviewer"))
    kinds = {c.id: c.reference.defect and c.reference.defect.kind for c in loaded.cases}
    assert list(kinds.values()) == [
        None, "side_swapped", None, "finding_negated", None, "number_changed",
    ]  # fmt: skip
    assert [c.input.report for c in loaded.cases[1::2]] == [
        "Pain in the right knee.",
        "The patient reports fever.",
        "Takes 60 mg of lisinopril.",
    ]
    assert len({case.cluster for case in loaded.cases}) == 3
    assert "The left one." in AGENT_BY_NAME["qc_reviewer"].render(loaded.cases[0].input)


def test_aci_bench_becomes_pairs_of_notes_against_their_visit(tmp_path):
    rows = [
        ["dataset", "encounter_id", "dialogue", "note"],
        ["virtassist", "D2N001", "[doctor] left hand hurts ? [patient] left , yes", "CHIEF COMPLAINT\n\nLeft hand pain."],
    ]  # fmt: skip
    loaded = suite(*imported(tmp_path, "aci-bench", table(*rows), "qc_reviewer"))
    clean, broken = loaded.cases
    assert clean.input.report == "CHIEF COMPLAINT\n\nLeft hand pain."
    assert broken.input.report == "CHIEF COMPLAINT\n\nRight hand pain."
    assert clean.cluster == broken.cluster == "aci-bench-d2n001"


def test_pubmedqa_becomes_questions_answered_by_name_without_a_code(tmp_path):
    record = {
        "QUESTION": "Does smoking cause cough?",
        "CONTEXTS": ["Background.", "Of 100 smokers 60 coughed."],
        "LABELS": ["BACKGROUND", "RESULTS"],
        "MESHES": ["Cough"],
        "YEAR": "2011",
        "final_decision": "yes",
        "LONG_ANSWER": "It does.",
    }
    content = json.dumps({"21645374": record, "2": {**record, "final_decision": "maybe"}})
    loaded = suite(*imported(tmp_path, "pubmedqa", content, "pathologist", suffix=".json"))
    assert [case.reference.names for case in loaded.cases] == [("yes",), ("maybe",)]
    score = SCORER_BY_AGENT["pathologist"].score
    for name, worth in (("Yes", 1), ("no", 0)):
        said = Diagnosis(name=name, icd10="Z00.0", confidence=90, reasoning="x")
        answer = PathologistOutput(primary=said, differentials=(), workup=())
        assert score(answer, loaded.cases[0].reference).primary == worth


def test_medqa_takes_questions_for_a_diagnosis_and_passes_over_the_others(tmp_path):
    options = {"A": "Asthma", "B": "Sarcoidosis", "C": "Tuberculosis"}
    base = {"options": options, "answer": "Sarcoidosis", "answer_idx": "B", "meta_info": "step1"}
    lines = [
        {**base, "question": "A woman coughs. What is the most likely diagnosis?"},
        {**base, "question": "A man coughs. Which drug is best?"},
    ]
    content = "\n".join(map(json.dumps, lines))
    result, out = imported(tmp_path, "medqa", content, "pathologist", suffix=".jsonl")
    loaded = suite(result, out)
    assert [case.reference.names for case in loaded.cases] == [("Sarcoidosis",)]
    assert "Asthma; Sarcoidosis; Tuberculosis" in loaded.cases[0].input.context
    assert "1 without anything for pathologist" in result.output


def test_luna16_becomes_one_case_a_series_with_the_side_from_x(tmp_path):
    content = (
        LUNA
        + "1.3.6.1,-56.08,-67.85,-311.92,4.22\n1.3.6.2,53.21,-244.41,-245.17,5.48\n1.3.6.1,-60,10,-100,12\n"
    )
    loaded = suite(*imported(tmp_path, "luna16", content, "radiologist"))
    first, second = loaded.cases
    assert [(f.laterality, f.size_mm) for f in first.reference.findings] == [
        ("right", 4.2),
        ("right", 12.0),
    ]
    assert [f.laterality for f in second.reference.findings] == ["left"]
    assert {f.location for f in first.reference.findings} == {"other"}
    assert first.cluster == "1.3.6.1"


def test_iu_xray_table_and_xml_become_impressions_against_their_findings(tmp_path):
    rows = [
        ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"],
        ["1", "normal", "normal", "PA", "Cough", "None.", "Opacity in the left base.", "Left basal opacity."],
    ]  # fmt: skip
    table_suite = suite(*imported(tmp_path, "iu-xray", table(*rows), "qc_reviewer"))
    assert table_suite.cases[1].input.report == "Impression: Right basal opacity."
    folder = tmp_path / "xml"
    folder.mkdir()
    parts = {
        "COMPARISON": "None.",
        "FINDINGS": "Opacity in the left base.",
        "IMPRESSION": "Left basal opacity.",
    }
    body = "".join(f'<AbstractText Label="{k}">{v}</AbstractText>' for k, v in parts.items())
    xml = f"<eCitation><MedlineCitation><Abstract>{body}</Abstract></MedlineCitation></eCitation>"
    (folder / "1.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{xml}', "utf-8")
    xml_suite = suite(*imported(tmp_path, "iu-xray", folder, "qc_reviewer"))
    assert xml_suite.digest == table_suite.digest


def test_xml_with_declarations_is_refused_unread(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "ha">]><a><AbstractText Label="FINDINGS">&b;</AbstractText></a>'
    result, out = imported(tmp_path, "iu-xray", bomb, "qc_reviewer", suffix=".xml")
    assert result.exit_code == 1
    assert "declares entities, which are not read" in result.output
    assert not out.exists()


MAPPING = {
    "id": "nr",
    "input.message": "text",
    "reference.intent": {"column": "Label", "values": {"q": "QUESTION", "ok": "APPROVAL"}},
    "reference.handlers": {"column": "who", "split": ";"},
    "tags": {"value": ["ward-7"]},
    "split": "part",
}


def mapping(tmp_path: Path, content: object = MAPPING) -> str:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(content), "utf-8")
    return str(path)


def test_plain_table_and_plain_jsonl_follow_their_mapping(tmp_path):
    rows = [
        ["nr", "text", "LABEL", "who", "part"],
        ["m-1", "How large?", "q", "radiologist; self", "dev"],
        ["m-2", "Fine.", "ok", "self", ""],
    ]
    given = mapping(tmp_path)
    first = suite(*imported(tmp_path, "plain", table(*rows), "alignment", mapping=given))
    assert first.cases[0].reference.handlers == ("radiologist", "self")
    assert [case.split for case in first.cases] == ["dev", None]
    assert first.cases[1].tags == ("ward-7",)
    lines = "\n".join(json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:])
    second = suite(*imported(tmp_path, "plain", lines, "alignment", mapping=given, suffix=".jsonl"))
    assert second.digest == first.digest


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"surprise": "text"}, "'surprise' is no field"),
        ({}, "names no field"),
        ({"input.message": {"split": ";"}}, "give a column or a value"),
        ({"input.message": {"column": "text", "colour": 1}}, "extra inputs are not permitted"),
        ([1], "should be an object"),
    ],
)
def test_wrong_mapping_is_refused(tmp_path, content, why):
    given = mapping(tmp_path, content)
    result, _ = imported(tmp_path, "plain", table(["text"], ["a"]), "alignment", mapping=given)
    assert isinstance(result.exception, ConfigError)
    assert why in str(result.exception)


def dicom_file(path: Path, **changes: object) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.PatientName = "Nobody^Known"
    dataset.Modality = "CT"
    dataset.Rows = dataset.Columns = 32
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
    dataset.PixelSpacing = [0.7, 0.7]
    dataset.PixelData = np.arange(1024, dtype="<i2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


DICOM_ROWS = [
    ["file", "kind", "laterality", "location", "size_mm", "characteristics"],
    ["a.dcm", "nodule", "left", "upper lobe", "9", "solid;smooth"],
    ["b.dcm", "none", "", "", "", ""],
]


def dicom_folder(tmp_path: Path, rows: list[list[str]] = DICOM_ROWS) -> tuple[Path, str]:
    folder = tmp_path / "slices"
    folder.mkdir()
    for name in ("a.dcm", "b.dcm"):
        dicom_file(folder / name)
    truth = tmp_path / "truth.csv"
    truth.write_text(table(*rows), "utf-8")
    return folder, str(truth)


def test_dicom_folder_becomes_cases_whose_images_load_from_beside_the_suite(tmp_path):
    folder, truth = dicom_folder(tmp_path)
    loaded = suite(*imported(tmp_path, "dicom", folder, "radiologist", mapping=truth))
    seen, empty = loaded.cases
    assert [f.size_mm for f in seen.reference.findings] == [9]
    assert empty.reference.findings == ()
    assert seen.input.pixel_spacing_mm == 0.7
    (image,) = load_images(seen, loaded.path.parent)
    assert image.data.startswith(b"\x89PNG")
    assert b"Nobody" not in image.data
    assert "Nobody" not in loaded.path.read_text("utf-8")


def test_dicom_slices_without_truth_or_spacing_are_named(tmp_path):
    folder, truth = dicom_folder(tmp_path)
    dicom_file(folder / "c.dcm")
    dicom_file(folder / "b.dcm", PixelSpacing=None)
    result, out = imported(tmp_path, "dicom", folder, "radiologist", mapping=truth)
    assert result.exit_code == 1
    assert "c.dcm is not in the table: nobody knows what it shows" in result.output
    assert "b.dcm has no pixel spacing: nobody can tell a size in it" in result.output
    assert not out.exists()


def test_dicom_table_cannot_reach_outside_its_folder(tmp_path):
    rows = [DICOM_ROWS[0], ["../x.dcm", "none", "", "", "", ""]]
    folder, truth = dicom_folder(tmp_path, rows)
    dicom_file(tmp_path / "x.dcm")
    result, _ = imported(tmp_path, "dicom", folder, "radiologist", mapping=truth)
    assert "../x.dcm lies outside the folder" in result.output


# Files as people have them.


@pytest.mark.parametrize(
    "content",
    [
        table(MEDEC, RIGHT, WRONG).encode("utf-8-sig"),
        table(MEDEC, RIGHT, WRONG).encode("utf-16"),
        table(MEDEC, RIGHT, WRONG, delimiter=";").encode(),
        table(MEDEC, RIGHT, WRONG, delimiter="\t").encode(),
        table([name.upper().replace(" ", "_") for name in MEDEC], RIGHT, WRONG).encode(),
        table(MEDEC, RIGHT, WRONG).replace("\r\n", "\n").encode(),
    ],
    ids=["bom", "utf-16", "semicolons", "tabs", "capitals", "unix"],
)
def test_encodings_separators_and_spellings_of_the_header_make_no_difference(tmp_path, content):
    usual = suite(*imported(tmp_path, "medec", table(MEDEC, RIGHT, WRONG), "qc_reviewer"))
    assert suite(*imported(tmp_path, "medec", content, "qc_reviewer")).digest == usual.digest


def test_windows_letters_are_read(tmp_path):
    row = ["ms-1", "Fièvre de 39°.", *RIGHT[2:]]
    loaded = suite(*imported(tmp_path, "medec", table(MEDEC, row).encode("cp1252"), "qc_reviewer"))
    assert loaded.cases[0].input.report == "Fièvre de 39°."


@pytest.mark.parametrize("name", sorted(FORMAT_BY_NAME))
@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02\xff\xfe\x00", b"{}", b"a,b\n1,2\n", b'"'])
def test_file_that_is_not_of_the_format_is_refused_in_one_sentence(tmp_path, name, content):
    kind = FORMAT_BY_NAME[name]
    more = {"mapping": mapping(tmp_path)} if kind.needs_mapping else {}
    result, out = imported(tmp_path, name, content, kind.agents[0], **more)
    if isinstance(result.exception, SystemExit):
        assert result.exit_code == 1
        assert "nothing imported: " in result.output
    else:
        assert isinstance(result.exception, ConfigError), result.exception
        said = str(result.exception)
        assert said.startswith(str(tmp_path / "given"))
        assert said.isprintable()
    assert not out.exists()


@pytest.mark.parametrize("name", sorted(FORMAT_BY_NAME))
def test_missing_file_is_refused(tmp_path, name):
    kind = FORMAT_BY_NAME[name]
    more = {"mapping": mapping(tmp_path)} if kind.needs_mapping else {}
    result, out = imported(tmp_path, name, tmp_path / "none", kind.agents[0], **more)
    assert isinstance(result.exception, ConfigError)
    assert str(tmp_path / "none") in str(result.exception)
    assert not out.exists()


# Bad rows.

BAD_ROWS: dict[str, tuple[list[str], str]] = {
    "short": (RIGHT[:4], "has 4 values in 9 columns"),
    "long": ([*RIGHT, "more"], "has 10 values in 9 columns"),
    "flag": ([*RIGHT[:3], "perhaps", *RIGHT[4:]], "error flag is 'perhaps' and not 0 or 1"),
    "no text": (["ms-3", "  ", *RIGHT[2:]], "text is missing or empty"),
    "no id": (["", *RIGHT[1:]], "text id is missing or empty"),
    "twice": (RIGHT, "id 'medec-ms-1' has come up before"),
    "endless": (["ms-3", "x" * 9000, *RIGHT[2:]], "input.report: string should have at most 8000"),
    "blank": ([""] * 9, "is blank"),
}


@pytest.mark.parametrize(("row", "why"), BAD_ROWS.values(), ids=list(BAD_ROWS))
def test_bad_row_is_named_and_nothing_is_written_unless_it_may_be_left_out(tmp_path, row, why):
    content = table(MEDEC, RIGHT, row, WRONG)
    result, out = imported(tmp_path, "medec", content, "qc_reviewer")
    assert result.exit_code == 1
    assert f"row 3: {why}" in result.output
    assert "nothing imported: 1 rows cannot be used" in result.output
    assert not out.parent.exists()
    result, out = imported(tmp_path, "medec", content, "qc_reviewer", skip="yes")
    assert [case.id for case in suite(result, out).cases] == ["medec-ms-1", "medec-ms-2"]
    assert "1 rows left out" in result.output


def test_blank_rows_by_the_hundred_are_one_line(tmp_path):
    content = table(MEDEC, RIGHT, *([[""] * 9] * 600), WRONG) + "\n" * 5
    result, _ = imported(tmp_path, "medec", content, "qc_reviewer")
    blank = [line for line in result.output.splitlines() if "is blank" in line]
    assert len(blank) == 1
    assert "605 rows: 3, 4, 5, 6, 7, 8, 9, 10 and 597 more: is blank" in blank[0]


def test_file_of_bad_rows_alone_makes_no_suite(tmp_path):
    result, out = imported(
        tmp_path, "medec", table(MEDEC, ["", *RIGHT[1:]]), "qc_reviewer", skip="yes"
    )
    assert isinstance(result.exception, ConfigError)
    assert "has no row that makes a case for qc_reviewer" in str(result.exception)
    assert not out.exists()


def test_earlier_suite_stays_as_it_was_when_an_import_fails(tmp_path):
    _, out = imported(tmp_path, "medec", table(MEDEC, RIGHT), "qc_reviewer")
    before = out.read_bytes()
    result, _ = imported(tmp_path, "medec", table(MEDEC, WRONG, RIGHT[:3]), "qc_reviewer")
    assert result.exit_code == 1
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("1.2,abc,0,0,5", "coordx is 'abc' and no number (row 2)"),
        ("1.2,nan,0,0,5", "coordx is 'nan' and no number (row 2)"),
        ("1.2,60,0,0,", "diameter mm is missing or empty"),
        ("1.2,60,0,0,0.2", "diameter is 0.2 mm (row 2)"),
        ("1.2,3,0,0,5", "so near the midline that its side is not certain"),
        (",60,0,0,5", "seriesuid is missing or empty"),
        ("1.2,60,0,99999,5", "centroid_mm"),
    ],
)
def test_annotation_that_cannot_be_true_is_named(tmp_path, line, why):
    result, out = imported(tmp_path, "luna16", LUNA + line + "\n", "radiologist")
    assert result.exit_code == 1
    assert why in result.output
    assert not out.exists()


def test_format_without_cases_for_an_agent_says_which_it_has(tmp_path):
    job = Job(path=tmp_path, agent="alignment", out=tmp_path / "x.jsonl")
    with pytest.raises(ConfigError, match="medec: has no cases for alignment; it has them for qc"):
        read_cases(FORMAT_BY_NAME["medec"], job)


# Where it comes from.


def test_source_and_licence_stand_beside_the_suite(tmp_path):
    content = table(MEDEC, RIGHT, WRONG)
    result, out = imported(
        tmp_path, "medec", content, "qc_reviewer", licence="ours alone", source="ward 7"
    )
    origin = json.loads(out.with_suffix(".source.json").read_text("utf-8"))
    loaded = suite(result, out)
    assert (origin["source"], origin["licence"]) == ("ward 7", "ours alone")
    assert (origin["suite_digest"], origin["cases"]) == (loaded.digest, 2)
    assert origin["file_digest"].startswith("sha256:")
    result, out = imported(tmp_path, "medec", content, "qc_reviewer")
    origin = json.loads(out.with_suffix(".source.json").read_text("utf-8"))
    assert "arXiv:2412.19260" in origin["source"]
    assert origin["licence"] == FORMAT_BY_NAME["medec"].licence


def test_json_says_what_was_wrong_by_row(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text(table(MEDEC, RIGHT, RIGHT[:4]), "utf-8")
    arguments = ["cases", "import", "medec", str(path), "--agent", "qc_reviewer", "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "x.jsonl")])
    said = json.loads(result.stdout)
    assert said["problems"] == [{"rows": [3], "reason": "has 4 values in 9 columns"}]
    assert said["suite"] is None


# Alterations.


@pytest.mark.parametrize(
    ("report", "source", "expected"),
    [
        ("Left knee pain.", None, "Right knee pain."),
        ("Left knee pain.", "The knee on the right hurts, the left does not.", None),
        ("Left knee pain.", "A knee hurts.", None),
        ("Nodule of 8 mm.", None, "Nodule of 24 mm."),
        ("Nodule of 8 mm.", "It has eight millimetres.", None),
        ("No evidence of fracture.", None, "Evidence of fracture."),
        ("All is well in 2021.", None, None),
    ],
)
def test_only_what_the_source_shows_to_be_wrong_is_altered(report, source, expected):
    found = altered(report, source, 0)
    assert (found and found[0]) == expected


# The user's own file.


def test_import_never_replaces_the_file_that_it_reads(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text(table(MEDEC, RIGHT), "utf-8")
    job = Job(path=path, agent="qc_reviewer", out=tmp_path / "." / "given.csv")
    with pytest.raises(ConfigError, match="is the very file that is imported"):
        read_cases(FORMAT_BY_NAME["medec"], job)
