"""Which cloud models have ended, or end soon, and what follows them.

The dates are the vendors' announcements, as they stood when the tables were written; for Claude the
installed SDK's own list completes them. A vendor may postpone an end: this warns and forbids nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib.metadata import version

from soma_bench.providers import claude_models, openai_models
from soma_bench.types import Target

NOTICE = timedelta(days=90)
"""How long before its end a model is spoken of."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """The end of a model."""

    target: Target
    on: date
    retired: bool
    """Whether that day has come."""
    successor: str | None
    """The model that follows it, by the vendor's word; None where none is known."""
    source: str
    """Where the date is from, and as of when."""

    def __str__(self) -> str:
        when = f"was retired on {self.on}" if self.retired else f"will be retired on {self.on}"
        advice = (
            f"change to {self.target.provider}:{self.successor}"
            if self.successor
            else "choose another model"
        )
        return f"{self.target.whole_model} {when} ({self.source}); {advice}"


def retirement(target: Target, today: date) -> Retirement | None:
    """The end of a target's model, where it has come or comes within `NOTICE`; else None."""
    model = target.model
    if target.provider == "claude":
        on = claude_models.RETIREMENTS.get(model)
        source = f"Anthropic's announcement, as of {claude_models.AS_OF}"
        successor = claude_models.successor(model)
        if on is None:
            on = _told_by_sdk().get(model)
            source = f"list of anthropic {version('anthropic')}"
    elif target.provider == "openai":
        on = openai_models.RETIREMENTS.get(model)
        source = f"OpenAI's announcement, as of {openai_models.AS_OF}"
        successor = openai_models.successor(model)
    else:
        return None
    if on is None or today < on - NOTICE:
        return None
    return Retirement(target, on, today >= on, successor, source)


@cache
def _told_by_sdk() -> dict[str, date]:
    """The ends that Anthropic's SDK knows; its dates are words such as ``June 15th, 2026``."""
    from anthropic.resources.messages.messages import DEPRECATED_MODELS

    found = {}
    for model, words in DEPRECATED_MODELS.items():
        month, day, year = words.replace(",", "").split()
        text = f"{month} {day.rstrip('stndrh')} {year}"
        found[model] = datetime.strptime(text, "%B %d %Y").date()
    return found
