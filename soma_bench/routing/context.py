"""What a call to an agent happens in: whose data it carries, how urgent it is, when it must be done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from soma_bench.types import PRIVACY_LEVELS, Image, PrivacyLevel

Need = Literal["interactive", "batch"]
"""Whether someone waits for the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """What is known to identify the patient of a case; never shown, logged or traced."""

    values: frozenset[str] = field(default=frozenset(), repr=False)
    """Names, record numbers, dates of birth and other ids, as they may stand in a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """The circumstances of one call."""

    privacy: PrivacyLevel | None = None
    """Level of the data in the call, which outputs inherit from their inputs; the stricter of this
    and the agent's own level holds. None where the data has no level of its own."""
    identifiers: Identifiers = Identifiers()
    need: Need = "interactive"
    deadline: float | None = None
    """When the answer is of no use any more, by the running loop's clock; None for no deadline."""
    prior_studies: int = 0
    """Earlier examinations that the case is compared with."""
    images: tuple[Image, ...] = field(default=(), repr=False)
    """Pictures of the case. A target that sees and may have them is shown them instead of what was
    measured in them, as in a sweep; the others are asked in words alone."""

    def left_s(self) -> float | None:
        """Seconds until the deadline, never below 0; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - asyncio.get_running_loop().time())


def strictest(levels: Iterable[PrivacyLevel | None]) -> PrivacyLevel | None:
    """The strictest of privacy levels; None where none is given."""
    given = [level for level in levels if level is not None]
    return min(given, key=PRIVACY_LEVELS.index) if given else None
