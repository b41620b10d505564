"""Labels: people's yes or no to questions about answers, given without knowing whose answer it is.

A label file is JSONL, one question about one answer a line. Which target gave an answer stands in a
key file of its own, which nobody who labels needs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError
from soma_bench.files import digest, first_problem, parse_json, read_text, write_atomically
from soma_bench.scoring.judge import RubricItem, blinded
from soma_bench.types import Target

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]
Row = TypeVar("Row", bound=Strict)


class Label(Strict):
    """A person's word on one question about one answer."""

    id: Identifier
    """Of the answer; says nothing of its target."""
    item: Identifier
    question: Annotated[str, Field(min_length=1, max_length=300)]
    answer: Annotated[str, Field(min_length=1, max_length=20_000)]
    """The text, without the names of its model."""
    drawn: Literal["random", "chosen"]
    """Only randomly drawn answers can calibrate a judge."""
    label: Literal[0, 1] | None = None
    """1 for yes, 0 for no, None until somebody has labelled it."""
    labeller: Annotated[str, Field(max_length=40)] = ""
    """Initials or a number; several may label one question, each in a line of their own."""


class LabelKey(Strict):
    """Whose answer it is: the part that labellers do not see."""

    id: Identifier
    trial: str
    target: str

    @field_validator("target")
    @classmethod
    def _is_target(cls, value: str) -> str:
        Target.parse(value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer that may be drawn for labelling."""

    trial: str
    """Key of its trial."""
    target: Target
    text: str


def draw_sample(
    candidates: Sequence[Candidate], items: Sequence[RubricItem], count: int, *, seed: int
) -> tuple[list[Label], list[LabelKey]]:
    """A random sample of answers to label, blind and in random order, and its key.

    The same candidates and seed give the same sample, in whatever order they come.

    Raises:
        ConfigError: fewer answers are there than asked for, or there is no question.
    """
    if not items:
        raise ConfigError("a sample to label needs at least one question")
    if not 1 <= count <= len(candidates):
        raise ConfigError(f"cannot draw {count} answers to label: there are {len(candidates)}")
    ordered = sorted(candidates, key=lambda candidate: candidate.trial)
    drawn = random.Random(seed).sample(ordered, count)  # noqa: S311 - a sample, no secret
    rows, keys = [], []
    for candidate in drawn:
        # The trial's key could be looked up; its digest with the seed cannot be told apart.
        name = "a-" + digest([candidate.trial, seed])[-12:]
        keys.append(LabelKey(id=name, trial=candidate.trial, target=str(candidate.target)))
        text = blinded(candidate.text, candidate.target)
        rows += [
            Label(id=name, item=item.id, question=item.question, answer=text, drawn="random")
            for item in items
        ]
    return rows, keys


def load_labels(path: Path) -> list[Label]:
    """Read and check a label file.

    Raises:
        ConfigError: a line is wrong, an answer or a question has two texts, or somebody labels one
            question twice; the message names file and line.
    """
    rows = load_rows(path, Label)
    texts: dict[tuple[str, ...], str] = {}
    seen: set[tuple[str, str, str]] = set()
    for number, row in enumerate(rows, start=1):
        for key, text in (
            (("answer", row.id), row.answer),
            (("question", row.id, row.item), row.question),
        ):
            if texts.setdefault(key, text) != text:
                raise ConfigError(f"{path}:{number}: {key[0]}: {row.id} has another text above")
        who = (row.id, row.item, row.labeller)
        if who in seen:
            raise ConfigError(
                f"{path}:{number}: item: {row.item} of {row.id} stands twice for labeller"
                f" {row.labeller!r}"
            )
        seen.add(who)
    return rows


def load_keys(path: Path) -> dict[str, Target]:
    """The target of each answer of a key file.

    Raises:
        ConfigError: a line is wrong; the message names file and line.
    """
    return {key.id: Target.parse(key.target) for key in load_rows(path, LabelKey)}


def save_rows(rows: Sequence[Strict], path: Path) -> bool:
    """Write records as JSONL; True if that changed the file.

    Raises:
        ConfigError: the file cannot be written.
    """
    return write_atomically(path, "".join(f"{row.model_dump_json()}\n" for row in rows))


def label_schema() -> dict[str, Any]:
    """JSON Schema of one line of a label file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Label.model_json_schema()}


def load_rows(path: Path, form: type[Row]) -> list[Row]:
    """Read records from JSONL.

    Raises:
        ConfigError: a line is wrong; the message names file and line.
    """
    rows = []
    for number, line in enumerate(read_text(path).rstrip().split("\n"), start=1):
        place = f"{path}:{number}"
        parse_json(line, place)  # refuses what the model's own reader lets pass: duplicate keys
        try:
            rows.append(form.model_validate_json(line))
        except ValidationError as error:
            raise ConfigError(f"{place}: {first_problem(error)}") from error
    return rows
