"""Reading YAML 1.2 files so that every word is what it looks like.

``off`` and ``yes`` are words and ``1e-3`` is a number, as YAML 1.2 has it; YAML 1.1 has it otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soma_bench.errors import ConfigError
from soma_bench.files import read_text

_MAX_FILE_CHARACTERS = 1_000_000
_MAX_DEPTH = 50


def read_yaml(path: Path) -> Any:
    """The value in a YAML file; aliases, tags and directives are refused.

    Aliases can make a small file expand without end, tags and directives make plain words mean
    something else.

    Raises:
        ConfigError: the file cannot be read or is not such YAML; the message names the line.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, place: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: it is not YAML, or not of the kind that is read here; the message begins with
            ``place``.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MAX_FILE_CHARACTERS:
        raise ConfigError(f"{place}: is too long ({len(text)} characters)")
    try:
        _refuse_what_is_unwanted(text, place)
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{place}:{mark.line + 1}" if mark else place
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: is not YAML: {problem}") from error
    except ValueError as error:
        raise ConfigError(f"{place}: is not usable YAML: {error}") from error


def _refuse_what_is_unwanted(text: str, place: str) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.tokens import (
        AliasToken,
        BlockEndToken,
        BlockMappingStartToken,
        BlockSequenceStartToken,
        DirectiveToken,
        FlowMappingEndToken,
        FlowMappingStartToken,
        FlowSequenceEndToken,
        FlowSequenceStartToken,
        TagToken,
    )

    opening = (
        BlockMappingStartToken,
        BlockSequenceStartToken,
        FlowMappingStartToken,
        FlowSequenceStartToken,
    )
    closing = (BlockEndToken, FlowMappingEndToken, FlowSequenceEndToken)
    unwanted = {AliasToken: "aliases", TagToken: "tags", DirectiveToken: "directives"}
    depth = 0
    for token in YAML(typ="safe", pure=True).scan(text):
        where = f"{place}:{token.start_mark.line + 1}"
        if type(token) in unwanted:
            raise ConfigError(f"{where}: {unwanted[type(token)]} are not allowed here")
        depth += isinstance(token, opening) - isinstance(token, closing)
        if depth > _MAX_DEPTH:
            raise ConfigError(f"{where}: is nested too deeply")
