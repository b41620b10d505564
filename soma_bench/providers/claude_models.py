"""What Claude's models take, as documented on `AS_OF`, for where the API does not say so itself.

The API's own account of a model (`from_api`) goes first; this table stands in for it where an
endpoint has none, and adds what it never tells: whether a model still takes sampling parameters,
and whether it thinks when nothing is said about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Literal

from soma_bench.providers.base import Capabilities
from soma_bench.types import Request, ThinkingLevel

if TYPE_CHECKING:
    from anthropic.types import ModelInfo

AS_OF = date(2026, 11, 25)

LEAST_BUDGET = 1024
"""The smallest thinking budget that the API takes."""

LEVELS: tuple[ThinkingLevel, ...] = ("low", "medium", "high")
ALLOWANCE_TOKENS = {"low": 4_096, "medium": 16_384, "high": 32_768}
"""Tokens that a level of thinking gets on top of the answer's; the API takes one cap for both.
It is a cap and no budget: effort alone decides how much the model thinks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeModel:
    """What one model, or one family of models, takes."""

    off: Literal["disabled", "between_tools"] | None
    """How thinking is turned off; None where the model always thinks."""
    levels: bool
    """Whether it takes adaptive thinking with an effort."""
    budget: bool
    """Whether it takes a number of thinking tokens."""
    thinks_by_default: bool
    """Whether it may think when the request does not say."""
    sampling: bool = False
    """Whether it takes ``temperature`` and ``top_p``, by the API version that still has them."""
    vision: bool = True
    schema: bool = True
    context_tokens: int | None = 1_000_000
    max_output_tokens: int | None = 128_000

    @property
    def capabilities(self) -> Capabilities:
        """The same in the words that every provider uses."""
        off: tuple[str, ...] = ("off",) if self.off else ()
        return Capabilities(
            vision=self.vision,
            thinking_levels=off + (LEVELS if self.levels else ()),
            thinking_budget=self.budget,
            least_budget=LEAST_BUDGET,
            schema=self.schema,
            context_tokens=self.context_tokens,
            max_output_tokens=self.max_output_tokens,
            weights_bytes=None,
        )

    def allowance(self, request: Request) -> int:
        """Tokens that thinking gets on top of the answer's."""
        if isinstance(request.thinking, int):
            return request.thinking
        if request.thinking is None:
            return ALLOWANCE_TOKENS["high"] if self.thinks_by_default else 0
        return ALLOWANCE_TOKENS.get(request.thinking, 0)


_ALWAYS = ClaudeModel(off=None, levels=True, budget=False, thinks_by_default=True)
_BETWEEN_TOOLS = ClaudeModel(off="between_tools", levels=True, budget=False, thinks_by_default=True)
_ADAPTIVE = ClaudeModel(off="disabled", levels=True, budget=False, thinks_by_default=True)
_ADAPTIVE_ON_REQUEST = replace(_ADAPTIVE, thinks_by_default=False)
_BOTH = ClaudeModel(
    off="disabled", levels=True, budget=True, thinks_by_default=False, sampling=True
)
_BUDGETS = ClaudeModel(
    off="disabled",
    levels=False,
    budget=True,
    thinks_by_default=False,
    sampling=True,
    context_tokens=200_000,
    max_output_tokens=64_000,
)

_FAMILIES: dict[str, ClaudeModel] = {
    "claude-fable-5": _ALWAYS,
    "claude-mythos-5": _ALWAYS,
    "claude-opus-5-5": _ALWAYS,
    "claude-opus-5": _ADAPTIVE,
    "claude-sonnet-5-5": _BETWEEN_TOOLS,
    "claude-sonnet-5": _ADAPTIVE,
    "claude-haiku-5-5": _ADAPTIVE,
    "claude-opus-4-8": _ADAPTIVE_ON_REQUEST,
    "claude-opus-4-7": _ADAPTIVE_ON_REQUEST,
    "claude-opus-4-6": _BOTH,
    "claude-sonnet-4-6": replace(_BOTH, max_output_tokens=64_000),
    "claude-opus-4-5": _BUDGETS,
    "claude-sonnet-4-5": _BUDGETS,
    "claude-haiku-4-5": _BUDGETS,
    "claude-sonnet-4": replace(_BUDGETS, schema=False),
    "claude-opus-4": replace(_BUDGETS, schema=False, max_output_tokens=32_000),
}

RETIREMENTS: dict[str, date] = {
    "claude-3-7-sonnet-20250219": date(2026, 2, 19),
    "claude-3-7-sonnet-latest": date(2026, 2, 19),
    "claude-3-5-haiku-20241022": date(2026, 2, 19),
    "claude-3-5-haiku-latest": date(2026, 2, 19),
    "claude-opus-4-20250514": date(2026, 6, 15),
    "claude-opus-4-0": date(2026, 6, 15),
    "claude-sonnet-4-20250514": date(2026, 6, 15),
    "claude-sonnet-4-0": date(2026, 6, 15),
    "claude-sonnet-4-5-20250929": date(2026, 11, 30),
    "claude-sonnet-4-5": date(2026, 11, 30),
}
"""When models end, or ended."""

_SUCCESSORS = {
    "haiku": "claude-haiku-5-5",
    "sonnet": "claude-sonnet-5-5",
    "opus": "claude-opus-5-5",
}


def successor(model: str) -> str | None:
    """The current model of the same line."""
    return next((name for line, name in _SUCCESSORS.items() if line in model), None)


UNKNOWN = ClaudeModel(
    off=None,
    levels=False,
    budget=False,
    thinks_by_default=False,
    schema=False,
    context_tokens=None,
    max_output_tokens=None,
)
"""A model of which nothing is known, as a compatible server may have: no thinking setting is
promised for it, and a schema goes into its prompt."""


def from_table(model: str) -> ClaudeModel:
    """The entry of a model's family: of the longest name that the model's begins with."""
    found = [name for name in _FAMILIES if model == name or model.startswith(f"{name}-")]
    return _FAMILIES[max(found, key=len)] if found else UNKNOWN


def names() -> tuple[str, ...]:
    """The families in the table, which are also names that the API takes, but for the oldest."""
    return tuple(_FAMILIES)


def from_api(info: ModelInfo) -> ClaudeModel:
    """What the API says of a model, completed from the table."""
    told = info.capabilities
    known = from_table(info.id)
    if told is None:
        return known
    types, effort = told.thinking.types, told.effort
    off: Literal["disabled", "between_tools"] | None = None
    if types.disabled.supported:
        off = "disabled"
    elif types.between_tools.supported:
        off = "between_tools"
    adaptive = types.adaptive.supported
    return ClaudeModel(
        off=off,
        levels=adaptive and effort.low.supported and effort.medium.supported,
        budget=types.enabled.supported,
        # A model that is not in the table is newer than it: those think unless told not to.
        thinks_by_default=adaptive if known is UNKNOWN else known.thinks_by_default,
        sampling=known.sampling,
        vision=told.image_input.supported,
        schema=told.structured_outputs.supported,
        context_tokens=info.max_input_tokens or known.context_tokens,
        max_output_tokens=info.max_tokens or known.max_output_tokens,
    )
