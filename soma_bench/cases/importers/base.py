"""What an importer is, and how rows become a suite: all of them or none.

A row that cannot be used is reported by its number. An import writes nothing until every row has been
read; it stops at bad rows unless it is told to leave them out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from soma_bench.cases.base import Case
from soma_bench.cases.suite import CASE_BY_AGENT
from soma_bench.errors import ConfigError
from soma_bench.files import digest, file_digest, first_problem, write_atomically
from soma_bench.types import AgentName

_SHOWN_NUMBERS = 8
BROKEN = "\0broken"
"""Column, which no file can have, that says why a row could not be read."""


class RowError(ValueError):
    """A row cannot become a case; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file."""

    number: int
    """As a spreadsheet counts: the header of a table is row 1."""
    fields: Mapping[str, Any]
    """Values by column, whose name is in lower case with single spaces for ``_`` and ``-``."""

    def text(self, *columns: str) -> str:
        """The first of the columns that has a text.

        Raises:
            RowError: none of them has.
        """
        for column in columns:
            value = self.fields.get(column)
            if isinstance(value, str) and value.strip():
                return value.strip()
        raise RowError(f"{columns[0]} is missing or empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an import was asked for."""

    path: Path
    agent: AgentName
    out: Path
    """The suite's file: paths inside it start from its folder."""
    mapping: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of file and how its rows become cases."""

    name: str
    agents: tuple[AgentName, ...]
    """Agents that it has cases for."""
    source: str
    """Where the data come from, unless the user says otherwise."""
    licence: str
    """Under which terms, as far as known; the user's own copy decides."""
    needs_mapping: bool = False
    read: Callable[[Job], Iterable[Row]]
    """The file's rows; raises ConfigError where it is no such file."""
    convert: Callable[[Row, Job], Sequence[Mapping[str, Any]]]
    """Cases of a row as JSON values without agent; none where the row is for another purpose.
    Raises RowError where it cannot be used."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one or more rows."""

    numbers: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.numbers[:_SHOWN_NUMBERS]))
        more = len(self.numbers) - _SHOWN_NUMBERS
        rows = "row" if len(self.numbers) == 1 else f"{len(self.numbers)} rows:"
        return f"{rows} {shown}{f' and {more} more' if more > 0 else ''}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has found; nothing is written yet."""

    format: Format
    job: Job
    cases: tuple[Case, ...]
    passed_over: int
    """Rows that are sound and hold nothing for the agent."""
    problems: tuple[Problem, ...] = ()
    source: str
    licence: str

    @property
    def bad_rows(self) -> int:
        """How many rows cannot be used."""
        return sum(len(problem.numbers) for problem in self.problems)


def read_cases(
    kind: Format, job: Job, *, source: str | None = None, licence: str | None = None
) -> Imported:
    """Read a file to its end and make its cases.

    Args:
        kind: the file's format.
        job: the file, the agent and where the suite will be.
        source: where the data come from; the format's own words by default.
        licence: under which terms; the format's own words by default.

    Raises:
        ConfigError: the format has nothing for the agent, a mapping is missing or superfluous,
            the suite would replace the file, or the file as a whole is not of the format.
    """
    if job.agent not in kind.agents:
        raise ConfigError(
            f"{kind.name}: has no cases for {job.agent}; it has them for {', '.join(kind.agents)}"
        )
    if kind.needs_mapping != (job.mapping is not None):
        wanted = "needs --mapping FILE" if kind.needs_mapping else "takes no --mapping"
        raise ConfigError(f"{kind.name}: {wanted}")
    if job.out.resolve() in (job.path.resolve(), job.mapping and job.mapping.resolve()):
        raise ConfigError(f"{job.out}: is the very file that is imported; give another --out")
    cases: dict[str, Case] = {}
    problems: dict[str, list[int]] = {}
    passed_over = 0
    for row in kind.read(job):
        try:
            made = _cases_of(kind, row, job, cases)
        except RowError as error:
            problems.setdefault(str(error), []).append(row.number)
            continue
        passed_over += not made
        cases.update((case.id, case) for case in made)
    return Imported(
        format=kind,
        job=job,
        cases=tuple(cases.values()),
        passed_over=passed_over,
        problems=tuple(Problem(tuple(rows), reason) for reason, rows in problems.items()),
        source=source or kind.source,
        licence=licence or kind.licence,
    )


def _cases_of(kind: Format, row: Row, job: Job, before: Mapping[str, Case]) -> list[Case]:
    if not any(str(value).strip() for value in row.fields.values() if value is not None):
        raise RowError("is blank")
    if set(row.fields) == {BROKEN}:
        raise RowError(str(row.fields[BROKEN]))
    made = [_case(content, job.agent) for content in kind.convert(row, job)]
    twice = next((case.id for case in made if case.id in before), None)
    if twice is not None:
        raise RowError(f"id {twice!r} has come up before")
    return made


def _case(content: Mapping[str, Any], agent: AgentName) -> Case:
    text = json.dumps({"agent": agent, **content})
    try:
        return CASE_BY_AGENT[agent].model_validate_json(text)
    except ValidationError as error:
        raise RowError(first_problem(error)) from error


def write_suite(imported: Imported) -> Path:
    """Write the suite and, beside it, ``<name>.source.json``, which says where it comes from.

    Returns:
        Path of the file beside it.

    Raises:
        ConfigError: there is no case, or a file cannot be written.
    """
    job = imported.job
    if not imported.cases:
        raise ConfigError(f"{job.path}: has no row that makes a case for {job.agent}")
    rows = [case.model_dump(mode="json", exclude_defaults=True) for case in imported.cases]
    origin = {
        "suite": job.out.name,
        "suite_digest": digest([case.digest for case in imported.cases]),
        "format": imported.format.name,
        "file": job.path.name,
        "file_digest": file_digest(job.path) if job.path.is_file() else None,
        "source": imported.source,
        "licence": imported.licence,
        "cases": len(rows),
        "rows_passed_over": imported.passed_over,
        "rows_left_out": [str(problem) for problem in imported.problems],
    }
    beside = job.out.with_suffix(".source.json")
    write_atomically(beside, json.dumps(origin, indent=2, ensure_ascii=False) + "\n")
    write_atomically(job.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return beside


def slug(text: object) -> str:
    """A text as part of a case's id."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in str(text).lower())
    return "-".join(filter(None, kept.split("-")))[:60]
