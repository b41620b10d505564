"""Labelling answers in a notebook: blind, in random order, every word saved as it is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from soma_bench.errors import ConfigError
from soma_bench.scoring.labels import Label, load_labels, save_rows

if TYPE_CHECKING:
    from ipywidgets import VBox


class LabellingSession:
    """One person's way through a label file.

    The file says nothing of whose answer it is, and each labeller gets the questions in a random
    order of their own, which is the same whenever they come back. Every label is saved at once.

    Args:
        path: the label file, as ``soma-bench judge sample`` writes it.
        labeller: initials or a number; others' labels are left alone.

    Raises:
        ConfigError: the file cannot be read, or no labeller is named.
    """

    def __init__(self, path: Path, labeller: str) -> None:
        if not labeller.strip() or len(labeller) > 40:
            raise ConfigError("a labeller needs a name of 1 to 40 characters, such as initials")
        self._path = path
        self._labeller = labeller
        self._rows = load_labels(path)
        questions = {(row.id, row.item): row for row in self._rows}
        order = sorted(questions)
        random.Random(labeller).shuffle(order)  # noqa: S311 - an order, no secret
        self._questions = [questions[key] for key in order]
        self._skipped: set[tuple[str, str]] = set()
        self._given: list[tuple[str, str]] = []

    @property
    def total(self) -> int:
        """How many questions there are."""
        return len(self._questions)

    @property
    def done(self) -> int:
        """How many of them this labeller has answered."""
        return sum(self._label_of(row) is not None for row in self._questions)

    def current(self) -> Label | None:
        """The question to answer now; skipped ones come last, None when all are answered."""
        open_ = [row for row in self._questions if self._label_of(row) is None]
        fresh = [row for row in open_ if (row.id, row.item) not in self._skipped]
        return next(iter(fresh or open_), None)

    def give(self, label: Literal[0, 1]) -> None:
        """Answer the current question (1 for yes, 0 for no) and save it.

        Raises:
            ConfigError: the file cannot be written, or was changed by someone else so that it no
                longer can be read; nothing is lost.
        """
        asked = self.current()
        if asked is not None:
            self._write(asked, label)
            self._given.append((asked.id, asked.item))

    def skip(self) -> None:
        """Put the current question off to the end."""
        asked = self.current()
        if asked is not None:
            self._skipped.add((asked.id, asked.item))

    def undo(self) -> None:
        """Take back the latest label of this session, which is asked again next."""
        if self._given:
            key = self._given.pop()
            row = next(row for row in self._questions if (row.id, row.item) == key)
            self._write(row, None)
            self._questions.remove(row)
            self._questions.insert(0, row)
            self._skipped.discard(key)

    def _label_of(self, asked: Label) -> int | None:
        for row in self._rows:
            if (row.id, row.item, row.labeller) == (asked.id, asked.item, self._labeller):
                return row.label
        return None

    def _write(self, asked: Label, label: Literal[0, 1] | None) -> None:
        # Others may label the same file meanwhile: their rows are read anew and kept.
        rows = load_labels(self._path)
        mine = asked.model_copy(update={"label": label, "labeller": self._labeller})
        for index, row in enumerate(rows):
            same = (row.id, row.item) == (asked.id, asked.item)
            if same and row.labeller in (self._labeller, ""):
                rows[index] = mine
                break
        else:
            rows.append(mine)
        save_rows(rows, self._path)
        self._rows = rows


class LabellingWidget:
    """Shows one answer and one question at a time, with buttons for yes, no, skip and undo.

    Args:
        path: the label file.
        labeller: initials or a number.

    Raises:
        ConfigError: as `LabellingSession`.
    """

    def __init__(self, path: Path | str, labeller: str) -> None:
        import ipywidgets as widgets

        self.session = LabellingSession(Path(path), labeller)
        self._progress = widgets.Label()
        self._answer = widgets.HTML()
        self._question = widgets.HTML()
        self._yes = widgets.Button(description="Yes", tooltip="The answer to the question is yes")
        self._no = widgets.Button(description="No", tooltip="The answer to the question is no")
        self._skip = widgets.Button(description="Skip", tooltip="Ask this question at the end")
        self._undo = widgets.Button(description="Undo", tooltip="Take the latest label back")
        self._yes.on_click(lambda _: self._do(lambda: self.session.give(1)))
        self._no.on_click(lambda _: self._do(lambda: self.session.give(0)))
        self._skip.on_click(lambda _: self._do(self.session.skip))
        self._undo.on_click(lambda _: self._do(self.session.undo))
        buttons = widgets.HBox([self._yes, self._no, self._skip, self._undo])
        # Question and buttons stand above the answer, so that a long answer never moves them.
        self.view: VBox = widgets.VBox([self._progress, self._question, buttons, self._answer])
        self._show()

    def _repr_mimebundle_(self, **kwargs: object) -> object:
        return self.view._repr_mimebundle_(**kwargs)

    def _do(self, act: Callable[[], None]) -> None:
        try:
            act()
        except ConfigError as error:
            self._progress.value = f"not saved: {error}"
            return
        self._show()

    def _show(self) -> None:
        session = self.session
        asked = session.current()
        self._progress.value = f"{session.done} of {session.total} questions answered"
        for button in (self._yes, self._no, self._skip):
            button.disabled = asked is None
        if asked is None:
            self._question.value = "<b>All questions are answered.</b>"
            self._answer.value = ""
            return
        self._question.value = f"<b>{escape(asked.question)}</b>"
        self._answer.value = (
            '<pre style="white-space: pre-wrap; max-width: 60em; border: 1px solid #ccc;'
            f' padding: 0.6em" tabindex="0" aria-label="answer">{escape(asked.answer)}</pre>'
        )
