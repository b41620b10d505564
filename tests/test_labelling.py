"""Labelling in a notebook: blind, in random order, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from soma_bench.errors import ConfigError
from soma_bench.scoring.judge import RubricItem
from soma_bench.scoring.labels import Candidate, draw_sample, load_labels, save_rows
from soma_bench.types import Target
from soma_bench.widgets import LabellingSession, LabellingWidget


@pytest.fixture
def path(tmp_path: Path) -> Path:
    candidates = [
        Candidate(trial=f"sha256:{i}", target=Target.parse("ollama:qwen3:8b"), text=f"Answer <{i}>")
        for i in range(6)
    ]
    items = [RubricItem(id="side", question="Is a side named?")]
    rows, _ = draw_sample(candidates, items, 6, seed=1)
    out = tmp_path / "labels.jsonl"
    save_rows(rows, out)
    return out


def questions(session: LabellingSession) -> list[str]:
    seen = []
    while (asked := session.current()) is not None:
        seen.append(asked.id)
        session.give(1)
    return seen


def test_each_labeller_has_an_order_of_their_own_and_it_stays(path: Path) -> None:
    first = [row.id for row in LabellingSession(path, "ab")._questions]
    assert [row.id for row in LabellingSession(path, "ab")._questions] == first
    others = [[row.id for row in LabellingSession(path, name)._questions] for name in "cdef"]
    assert any(order != first for order in others)
    assert all(sorted(order) == sorted(first) for order in others)


def test_every_label_is_saved_at_once_and_the_session_can_be_left(path: Path) -> None:
    session = LabellingSession(path, "ab")
    asked = session.current()
    assert asked is not None
    session.give(0)
    assert [(r.id, r.label) for r in load_labels(path) if r.labeller == "ab"] == [(asked.id, 0)]
    back = LabellingSession(path, "ab")
    assert (back.done, back.total) == (1, 6)
    assert asked.id not in questions(back)
    assert back.current() is None


def test_two_labellers_keep_each_others_labels(path: Path) -> None:
    one, two = LabellingSession(path, "one"), LabellingSession(path, "two")
    for _ in range(3):
        one.give(1)
        two.give(0)
    questions(one)
    questions(two)
    rows = load_labels(path)
    assert sorted(row.labeller for row in rows) == ["one"] * 6 + ["two"] * 6
    assert {row.label for row in rows if row.labeller == "one"} == {1}
    assert [row.label for row in rows if row.labeller == "two"].count(0) == 3


def test_skipped_questions_come_last_and_undo_asks_again(path: Path) -> None:
    session = LabellingSession(path, "ab")
    first = session.current()
    session.skip()
    assert session.current() != first
    second = session.current()
    session.give(1)
    session.undo()
    assert session.current() == second
    assert session.done == 0
    assert questions(session)[-1] == first.id


def test_the_widget_is_blind_shows_text_as_text_and_follows_its_buttons(path: Path) -> None:
    widget = LabellingWidget(path, "ab")
    assert "&lt;" in widget._answer.value
    assert "qwen" not in widget._answer.value + widget._question.value
    for _ in range(6):
        widget._yes.click()
    assert widget._progress.value == "6 of 6 questions answered"
    assert widget._yes.disabled
    widget._undo.click()
    assert widget._progress.value == "5 of 6 questions answered"
    path.unlink()
    widget._no.click()
    assert widget._progress.value.startswith("not saved: ")


def test_a_labeller_needs_a_name(path: Path) -> None:
    with pytest.raises(ConfigError, match="labeller needs a name"):
        LabellingSession(path, " ")
