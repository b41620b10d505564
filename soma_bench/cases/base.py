"""What a case is: one evaluation input with its reference."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from soma_bench.agents.base import Strict
from soma_bench.files import digest

Split = Literal["dev", "held_out"]
"""``dev`` cases may be looked at while prompts and settings are chosen; ``held_out`` ones are kept
for the last measurement."""


class Case(Strict):
    """One row of a suite; each agent narrows ``agent``, ``input`` and ``reference``."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
    agent: str
    input: BaseModel
    reference: BaseModel
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What the case is about, for looking at scores by kind."""
    split: Split | None = None
    """None where the suite is not divided."""
    cluster: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    """What the case shares with others, such as a patient or a template: cases of one cluster are
    not independent evidence. None for a case by itself."""

    @property
    def digest(self) -> str:
        """Digest of everything the case says."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return digest(content)
