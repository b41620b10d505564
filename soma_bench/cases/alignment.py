"""Cases of the Alignment agent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from soma_bench.agents.alignment import AlignmentInput, Handler, Intent
from soma_bench.agents.base import Strict
from soma_bench.cases.base import Case


class AlignmentReference(Strict):
    """The right reading of a message."""

    intent: Intent
    handlers: Annotated[tuple[Handler, ...], Field(min_length=1, max_length=5)]
    """Handlers that are right; more than one where a message is open to several."""


class AlignmentCase(Case):
    """A doctor's message with its right reading."""

    agent: Literal["alignment"]
    input: AlignmentInput
    reference: AlignmentReference
