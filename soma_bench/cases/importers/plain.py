"""Any CSV or JSONL file, with a mapping that says which column means what.

The mapping is a JSON object from a field of the case to a column or a constant::

    {
      "id": "nr",
      "input.message": "text",
      "reference.intent": {"column": "label", "values": {"q": "QUESTION", "ok": "APPROVAL"}},
      "reference.handlers": {"column": "who", "split": ";"},
      "tags": {"value": ["ward-7"]}
    }

``values`` translates, ``split`` makes a list, ``number`` makes a number of a text. A column that is
empty leaves its field out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, RootModel, ValidationError, model_validator

from soma_bench.agents.base import Strict
from soma_bench.cases.importers.base import Format, Job, Row, RowError
from soma_bench.cases.importers.tables import column_name, read_csv, read_jsonl
from soma_bench.errors import ConfigError
from soma_bench.files import first_problem, read_text
from soma_bench.types import AGENTS

_TARGET = re.compile(r"(?:id|split|cluster|tags|(?:input|reference)(?:\.[a-z0-9_]+){1,6})")


class _Rule(Strict):
    """Where a field's value comes from."""

    column: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    value: Any = None
    values: dict[str, Any] | None = None
    split: Annotated[str, Field(min_length=1, max_length=5)] | None = None
    number: bool = False

    @model_validator(mode="before")
    @classmethod
    def _may_be_a_column(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_one_origin(self) -> _Rule:
        if ("value" in self.model_fields_set) == (self.column is not None):
            raise ValueError("give a column or a value")
        return self


class _Mapping(RootModel[dict[str, _Rule]]):
    """Rules by field of the case."""

    @model_validator(mode="after")
    def _names_fields(self) -> _Mapping:
        wrong = next((name for name in self.root if not _TARGET.fullmatch(name)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no field; they begin with input. or reference.")
        if not self.root:
            raise ValueError("names no field")
        return self


@lru_cache(maxsize=8)
def _rules(path: Path) -> tuple[tuple[str, _Rule], ...]:
    try:
        mapping = _Mapping.model_validate_json(read_text(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error
    return tuple(mapping.root.items())


def _read(job: Job) -> Iterable[Row]:
    assert job.mapping is not None
    rules = _rules(job.mapping)
    if job.path.suffix.lower() in (".jsonl", ".ndjson"):
        return read_jsonl(job.path)
    columns = tuple(column_name(rule.column) for _, rule in rules if rule.column is not None)
    return read_csv(job.path, columns)


def _convert(row: Row, job: Job) -> Sequence[Mapping[str, Any]]:
    assert job.mapping is not None
    case: dict[str, Any] = {"id": f"row-{row.number}"}
    for target, rule in _rules(job.mapping):
        value = _value(row, rule)
        if value is None:
            continue
        *path, last = target.split(".")
        place = case
        for name in path:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise RowError(f"{target}: lies below a field that has a value")
        place[last] = value
    return [case]


def _value(row: Row, rule: _Rule) -> Any:
    if rule.column is None:
        return rule.value
    value = row.fields.get(column_name(rule.column))
    if isinstance(value, str):
        value = value.strip() or None
    if value is None:
        return None
    if rule.split is not None and isinstance(value, str):
        return [_one(rule, part.strip()) for part in value.split(rule.split) if part.strip()]
    return _one(rule, value)


def _one(rule: _Rule, value: Any) -> Any:
    if rule.values is not None:
        if str(value) not in rule.values:
            raise RowError(f"{rule.column} is {str(value)[:40]!r}, which values do not translate")
        return rule.values[str(value)]
    if rule.number and isinstance(value, str):
        try:
            return int(value) if re.fullmatch(r"-?\d+", value) else float(value)
        except ValueError as error:
            raise RowError(f"{rule.column} is {value[:40]!r} and no number") from error
    return value


FORMAT = Format(
    name="plain",
    agents=AGENTS,
    source="not stated",
    licence="not stated",
    needs_mapping=True,
    read=_read,
    convert=_convert,
)
