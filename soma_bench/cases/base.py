"""What a case is: one evaluation input with its reference."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from soma_bench.agents.base import Strict
from soma_bench.files import digest


class Case(Strict):
    """One row of a suite; each agent narrows ``agent``, ``input`` and ``reference``."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
    agent: str
    input: BaseModel
    reference: BaseModel
    tags: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What the case is about, for looking at scores by kind."""

    @property
    def digest(self) -> str:
        """Digest of everything the case says."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return digest(content)
