"""Looking into trials: filters, one trial whole, two side by side, and a model's words are only words."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from scripted import completion
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.sweeps.queries import OUTCOMES, TrialFilter, ended_counts, trial_page
from soma_bench.sweeps.running import RunningFigures
from soma_bench.sweeps.scores import score_run
from soma_bench.sweeps.store import Store
from soma_bench.types import Completion
from soma_bench.widgets.inspector import TrialInspector
from soma_bench.widgets.inspector_differences import mark_differences
from test_runner import ANSWER
from test_sweep_view import execute

SUITES = Path(__file__).parent.parent / "data" / "suites"
TWO_AGENTS = {
    "alignment": str(SUITES / "alignment.jsonl"),
    "radiologist": str(SUITES / "radiologist-generated.jsonl"),
}
HOSTILE = '</pre><script>alert("x")</script><img src=x onerror="alert(1)"> & {{ 7 * 7 }} \u202etxet'


def script(request):
    """Hostile words from one model; from the other good answers, a cut-off one and a failure."""
    if request.model == "a-q4_0":
        return completion(HOSTILE)
    if request.schema and "asked" not in json.dumps(request.schema):
        return dataclasses.replace(completion('{"findings": ['), finish="length")
    if request.thinking == 8 and "compare" in str(request.messages).lower():
        raise ProviderError("llamacpp", "gone for good", kind="out_of_memory")
    return Completion(**{**dataclasses.asdict(completion(ANSWER)), "thinking": "hm <b>"} | _whole())


def _whole():
    given = completion("")
    return {"usage": given.usage, "timings": given.timings}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("store") / "runs.db"
    with Store(str(path), create=True) as store:
        run_id = execute(
            store,
            script,
            suites=TWO_AGENTS,
        )
        score_run(store, run_id)
    return str(path)


@pytest.fixture
def inspector(stored):
    with TrialInspector(store=stored) as opened:
        yield opened


def test_each_filter_leaves_in_what_it_says(inspector):
    assert inspector.total == 24
    everything = inspector.rows
    assert [row.agent for row in inspector.filter(agent="alignment")] == ["alignment"] * 12
    target = everything[0].target
    assert inspector.filter(target=target) == tuple(r for r in everything if r.target == target)
    case = everything[1].case_id
    assert {row.case_id for row in inspector.filter(case=case[2:])} == {case}
    for outcome in {row.outcome for row in everything}:
        wanted = tuple(row for row in everything if row.outcome == outcome)
        assert inspector.filter(outcome=outcome) == wanted
    assert all(0.2 <= row.score <= 1 for row in inspector.filter(score_low=0.2))
    assert {row.score for row in inspector.filter(score_high=0.0)} == {0.0}
    assert {row.target.split("?")[0] for row in inspector.filter(text="ONERROR")} == {
        "llamacpp:a-q4_0"
    }
    assert inspector.filter(text="100%_") == ()
    assert inspector.filter(agent="alignment", text="hm <B>", score_low=0.1)
    assert inspector.filter() == everything


def test_outcomes_add_up_and_are_all_known(stored, inspector):
    with Store(stored) as store:
        counts = ended_counts(store, inspector.run_id)
    assert sum(row.count for row in counts) == 24
    assert {row.outcome for row in counts} == {"answered", "truncated", "unparsed"}
    assert {row.outcome for row in counts} <= set(OUTCOMES)


def test_pages_follow_one_another_without_a_gap(stored, inspector):
    for order in ("plan", "worst", "slowest"):
        whole = inspector.filter(order=order)
        with TrialInspector(store=stored, page_rows=7) as paged:
            paged.filter(order=order)
            rows = [row for number in range(1, paged.pages + 1) for row in paged.show_page(number)]
            assert (paged.pages, tuple(rows)) == (4, whole)
            assert paged.show_page(99) == whole[21:]
            assert paged.page_number == 4
    scores = [row.score for row in inspector.filter(order="worst")]
    assert scores == sorted(scores)


def test_a_wrong_filter_is_one_sentence_and_leaves_what_was_shown(inspector):
    shown = inspector.filter(agent="alignment")
    for wrong, words in (
        ({"agent": "nobody"}, "agent"),
        ({"outcome": "lost"}, "outcome 'lost' is none of answered"),
        ({"score_low": 0.9, "score_high": 0.1}, r"from 0\.9 to 0\.1"),
        ({"score_low": float("nan")}, "no range"),
        ({"score_low": "a"}, "score_low"),
        ({"colour": "red"}, "colour"),
        ({"order": "random"}, "order 'random' is none of plan"),
    ):
        with pytest.raises(ConfigError, match=words) as caught:
            inspector.filter(**wrong)
        assert "\n" not in str(caught.value)
    assert inspector.rows == shown
    with pytest.raises(ConfigError, match="a page of 0 trials"):
        trial_page(inspector._store, inspector.run_id, TrialFilter(), limit=0)


def test_a_trial_that_is_not_there_is_said_to_be_none(stored, inspector):
    with pytest.raises(ConfigError, match="has no trial 'sha256:x'"):
        inspector.open("sha256:x")
    with pytest.raises(ConfigError, match="no trial is open"):
        inspector.compare("sha256:x")
    inspector.open(inspector.rows[0].key)
    with pytest.raises(ConfigError, match="is not another one on case"):
        inspector.compare("sha256:x")
    with pytest.raises(ConfigError, match="no run 'other'"):
        TrialInspector("other", store=stored)


def test_another_database_shows_the_same(stored, inspector, postgres_url):  # noqa: F811
    with Store(postgres_url, create=True) as store:
        run_id = execute(store, script, suites=TWO_AGENTS)
        score_run(store, run_id)
        figures = RunningFigures(store, store.find_run(run_id))
        figures.read()
        figures.estimate()
    with TrialInspector(store=postgres_url) as other:
        assert other.panel_state() == inspector.panel_state() | {"drawn": other._drawn}
        for wanted in ({"text": "ONERROR"}, {"outcome": "truncated"}, {"case": "-0"}):
            for order in ("worst", "slowest"):
                ours = [row.key for row in inspector.filter(order=order, **wanted)]
                assert [row.key for row in other.filter(order=order, **wanted)] == ours
        key = other.rows[0].key
        assert other.open(key)["case"] == inspector.open(key)["case"]
        assert other.same_case == inspector.same_case
    with Store(stored) as store:
        here = RunningFigures(store, store.find_run(run_id))
        here.read()
        here.estimate()
    assert figures.snapshot().targets == here.snapshot().targets


class Reader(HTMLParser):
    """What elements, attributes and words a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.marked = ""
        self._marks = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self._marks += tag == "mark"

    def handle_endtag(self, tag):
        self._marks -= tag == "mark"

    def handle_data(self, data):
        self.words += data
        if self._marks:
            self.marked += data


def test_one_trial_shows_all_that_is_stored_of_it(inspector):
    row = inspector.filter(agent="alignment", outcome="answered")[0]
    trial = inspector.open(row.key)
    seen = Reader(inspector.html).words
    assert trial["request"]["messages"][0]["content"] in seen
    assert ANSWER in seen
    assert "hm <b>" in seen
    for name in trial["parts"]:
        assert name in seen
    assert json.dumps(trial["case"]["reference"], indent=2, ensure_ascii=False) in seen
    for words in ("0.020 s", "10 tokens", "to the first token", "electricity", row.key):
        assert words in seen
    assert f"{row.score:.3f}" in seen


def test_a_failure_says_why_and_how_it_ended(inspector):
    cut = inspector.filter(outcome="truncated")[0]
    trial = inspector.open(cut.key)
    assert trial["failure"]
    assert trial["failure"] in Reader(inspector.html).words


def test_a_models_words_stay_words(inspector):
    for row in inspector.filter(text="onerror"):
        inspector.open(row.key)
        seen = Reader(inspector.html)
        assert "script" not in seen.tags
        assert not any(name.startswith("on") for name in seen.attributes)
        assert HOSTILE in seen.words
        inspector.compare(inspector.same_case[-1].key)
        both = Reader(inspector.html)
        assert "script" not in both.tags
        assert not any(name.startswith("on") for name in both.attributes)


def test_two_targets_answers_to_one_case_stand_side_by_side_with_differences_marked(inspector):
    row = next(row for row in inspector.filter(agent="alignment") if "q8_0" in row.target)
    trial = inspector.open(row.key)
    others = inspector.same_case
    assert len(others) == 3
    assert {other.case_id for other in others} == {trial["case_id"]}
    other = next(other for other in others if "q4_0" in other.target)
    seen = Reader(inspector.compare(other.key))
    assert {row.target, other.target} <= set(re.findall(r"llamacpp:\S+", seen.words))
    assert "alert" in seen.marked
    assert seen.words.count("Prompt") == 1
    same = next(other for other in others if "q8_0" in other.target)
    assert "handler" not in Reader(inspector.compare(same.key)).marked
    inspector.compare(None)
    assert "mark" not in Reader(inspector.html).tags


def test_the_image_of_a_case_is_shown_and_only_its_pixels(inspector):
    from PIL import Image

    inspector.open(inspector.filter(agent="radiologist")[0].key)
    found = re.search(r'src="data:image/png;base64,([^"]+)"', inspector.html)
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        assert image.size == (512, 512)
        assert not image.info
    assert "was not shown this image" in inspector.html
    inspector.open(inspector.filter(agent="alignment")[0].key)
    assert "<img" not in inspector.html


def test_an_image_that_cannot_be_had_is_named_and_the_trial_is_shown_without(tmp_path):
    case = json.loads((SUITES / "radiologist-generated.jsonl").read_text().splitlines()[0])
    case["input"]["image"] = {"kind": "file", "path": "gone<i>.png"}
    suite = tmp_path / "radiologist.jsonl"
    suite.write_text(json.dumps(case) + "\n")
    with Store(str(tmp_path / "runs.db"), create=True) as store:
        execute(store, lambda _: "{}", suites={"radiologist": str(suite)})
    with TrialInspector(store=str(tmp_path / "runs.db"), sweep_folder=tmp_path) as inspector:
        inspector.open(inspector.rows[0].key)
        assert "gone&lt;i&gt;.png: cannot be read" in inspector.html
        assert {row.outcome for row in inspector.rows} == {"unscored"}
        assert "not scored yet" in inspector.html


def test_the_panel_does_what_it_is_asked_and_says_what_cannot_be_done(inspector):
    assert inspector._repr_mimebundle_()
    panel = inspector._panel
    ask = lambda **command: panel._handle_custom_msg(command, [])  # noqa: E731
    ask(do="filter", order="worst", filter={"agent": "alignment", "score_low": 1, "case": ""})
    assert {row["score"] for row in panel.state["rows"]} == {"1.000"}
    ask(do="filter", order="plan", filter={"score_low": 2})
    assert "no range" in panel.state["error"]
    assert panel.state["order"] == "worst"
    ask(do="open", key=panel.state["rows"][0]["key"])
    assert panel.state["html"].startswith("<h3")
    assert panel.state["error"] == ""
    ask(do="compare", key=panel.state["alike"][0]["key"])
    assert panel.state["other"] == panel.state["alike"][0]["key"]
    ask(do="compare", key="")
    assert panel.state["other"] is None
    ask(do="page", number=3)
    ask(do="unheard of")
    assert panel.state["page"]["number"] == 1
    json.dumps(panel.state, allow_nan=False)


def test_a_page_without_a_kernel_reads_how_the_trials_ended(inspector):
    data, _ = inspector._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    words = Reader(data["text/html"]).words
    assert f"The 24 trials of run {inspector.run_id}" in words
    for choice in inspector.panel_state()["choices"]["outcome"]:
        assert choice["label"].replace("(", "").replace(")", "") in words


texts = st.lists(st.sampled_from(["no", "nodule", " ", "\n", "8", ".", "mm", "<b>", "ü"])).map(
    "".join
)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_pieces_put_together_are_the_texts_and_what_is_not_marked_is_in_both(left, right):
    ours, theirs = mark_differences(left, right)
    assert "".join(piece.text for piece in ours) == left
    assert "".join(piece.text for piece in theirs) == right
    same = ["".join(p.text for p in side if not p.differs) for side in (ours, theirs)]
    assert same[0] == same[1]
    if left == right:
        assert not any(piece.differs for piece in ours)


def test_one_changed_word_is_what_is_marked():
    ours, theirs = mark_differences("No nodule in the left lung.", "A nodule in the left lung.")
    assert [piece.text for piece in ours if piece.differs] == ["No"]
    assert [piece.text for piece in theirs if piece.differs] == ["A"]
    long = "word " * 5000
    ours, _ = mark_differences(long + "\nlast", long + "\nother")
    assert [piece.text for piece in ours if piece.differs] == ["last"]
