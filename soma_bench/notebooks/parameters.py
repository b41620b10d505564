"""The parameters of a notebook that is to be run, checked before its kernel starts.

The cell tagged ``parameters`` says which there are; its annotations say what they must be. Names that
it does not have and values of another type are refused.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import nbformat
from pydantic import ConfigDict, TypeAdapter, ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.strict_yaml import parse_yaml, read_yaml

TAG = "parameters"

_PLAIN: Mapping[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "Any": Any,
    "dict": dict[str, Any],
    "list": list[Any],
}
_GENERIC: Mapping[str, Any] = {"dict": dict, "list": list, "Literal": Literal}
_SHOWN = 200
"""Characters of a value in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter, as its line in the cell declares it."""

    name: str
    annotation: str | None
    """As it is written; None where the line has none, and every value is taken."""
    type: Any

    def checked(self, value: Any) -> Any:
        """A value, if it is of the declared type; a whole number may stand for a float.

        Raises:
            ConfigError: it is not.
        """
        kind = TypeAdapter(self.type, config=ConfigDict(strict=True, allow_inf_nan=False))
        given = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            return kind.validate_python(given)
        except ValidationError as error:
            hint = ""
            if self.type is str and not isinstance(given, str):
                hint = "; in YAML a text that looks like something else stands in quotes"
            raise ConfigError(
                f"parameter {self.name}: must be {self.annotation}, not {_short(given)}"
                f" ({first_problem(error).removeprefix('the whole: ')}){hint}"
            ) from error

    def read(self, text: str) -> Any:
        """A value from the command line: text for a ``str``, else YAML 1.2.

        Raises:
            ConfigError: it is not of the declared type.
        """
        if self.type is str:
            return text
        value = parse_yaml(text, f"parameter {self.name}")
        if value is not None and get_origin(self.type) is Union and str in get_args(self.type):
            return text
        return self.checked(value)


def declared_parameters(notebook: nbformat.NotebookNode, place: str) -> dict[str, Parameter]:
    """The parameters of a notebook by name; empty where no cell is tagged.

    Args:
        notebook: the notebook.
        place: begins an error's message.

    Raises:
        ConfigError: the cell is not Python, or an annotation is none that can be checked.
    """
    cells = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    if len(cells) > 1:
        raise ConfigError(f"{place}: has {len(cells)} cells tagged {TAG}; leave one")
    found: dict[str, Parameter] = {}
    for cell in cells:
        try:
            lines = ast.parse(cell.source).body
        except SyntaxError as error:
            raise ConfigError(
                f"{place}: the parameters cell is not Python (line {error.lineno})"
            ) from error
        for line in lines:
            for parameter in _declared(line, place):
                found[parameter.name] = parameter
    return found


def read_parameters(
    declared: Mapping[str, Parameter],
    given: Iterable[tuple[str, str]],
    file: Path | None,
    place: str,
) -> dict[str, Any]:
    """Parameters from a command line and a YAML file; the command line wins.

    Args:
        declared: the notebook's parameters.
        given: names and texts of the command line.
        file: a YAML 1.2 file with a mapping; None for none.
        place: the notebook; begins an error's message.

    Raises:
        ConfigError: a name is unknown or stands twice, a value is of another type, or the file
            cannot be read.
    """
    values: dict[str, Any] = {}
    if file is not None:
        content = read_yaml(file) or {}
        if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
            raise ConfigError(f"{file}: must be a mapping of parameters, such as run: demo")
        values |= check_parameters(declared, content, str(place))
    texts: dict[str, str] = {}
    for name, text in given:
        if name in texts:
            raise ConfigError(f"parameter {name}: is given twice")
        _known(declared, name, place)
        texts[name] = text
    return values | {name: declared[name].read(text) for name, text in texts.items()}


def check_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """The given values, all of them declared and of their types.

    Raises:
        ConfigError: a name is unknown, or a value is of another type.
    """
    for name in given:
        _known(declared, name, place)
    return {name: declared[name].checked(value) for name, value in given.items()}


def set_parameters(notebook: nbformat.NotebookNode, values: Mapping[str, Any]) -> None:
    """Put a cell behind the parameters that sets them, as papermill writes it."""
    from papermill.translators import PythonTranslator

    cell = nbformat.v4.new_code_cell(PythonTranslator.codify(values))
    cell.metadata["tags"] = ["injected-parameters"]
    place = next(n for n, one in enumerate(notebook.cells) if TAG in one.metadata.get("tags", ()))
    notebook.cells.insert(place + 1, cell)


def _known(declared: Mapping[str, Parameter], name: str, place: str) -> None:
    if name not in declared:
        known = ", ".join(declared) or "none"
        raise ConfigError(f"{place}: has no parameter {_short(name)}; it has: {known}")


def _declared(line: ast.stmt, place: str) -> list[Parameter]:
    match line:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
            text = ast.unparse(annotation)
            try:
                return [Parameter(name=name, annotation=text, type=_type_of(annotation))]
            except ValueError as error:
                raise ConfigError(
                    f"{place}: parameter {name}: its annotation {text} cannot be checked; use str, "
                    "int, float, bool, Literal[...], dict[...], list[...] or a union of these"
                ) from error
        case ast.Assign(targets=targets):
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            return [Parameter(name=name, annotation=None, type=Any) for name in names]
    return []


def _type_of(node: ast.expr) -> Any:
    """The type that an annotation names; nothing is evaluated."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type_of(left), _type_of(right)]  # noqa: UP007 - of values, not of names
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            return Literal[tuple(ast.literal_eval(part) for part in _parts(inside))]
        case ast.Subscript(value=ast.Name(id=name), slice=inside) if name in _GENERIC:
            return _GENERIC[name][tuple(_type_of(part) for part in _parts(inside))]
    raise ValueError(ast.unparse(node))


def _parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
