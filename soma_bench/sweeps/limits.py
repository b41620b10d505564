"""What a sweep may ask of a vendor: so much a minute, and so much money."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from soma_bench.errors import ConfigError
from soma_bench.providers.prices import Prices
from soma_bench.sweeps.estimate import predict_usage
from soma_bench.types import Request, Target, Usage

_SECONDS = 60.0
_TOKENS_A_TURN = 16
"""Tokens that a chat format puts around a turn, at most."""
_TOKENS_AN_IMAGE = 6_400
"""Tokens that any vendor counts for one image, at most, as of 2026-11."""


class Pace:
    """Spreads units (requests, tokens) evenly over the minutes, without bursts.

    What is taken moves the earliest time of the next taking by its share of a minute. So no minute
    sees more than the rate, but for the last taking that began in it.

    Args:
        per_minute: units a minute; None is no limit.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._unit_s = 0.0 if per_minute is None else _SECONDS / per_minute
        self._next_s = -math.inf

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate to hold."""
        return self._unit_s > 0

    def take(self, units: float, now_s: float) -> float:
        """Take units, and be told at which time of the clock they may be used."""
        at = max(self._next_s, now_s)
        self._next_s = at + units * self._unit_s
        return at

    def give_back(self, units: float) -> None:
        """Return what was taken and not used; a negative number takes what was used beyond it."""
        self._next_s -= units * self._unit_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a call may take before it is known what it took."""

    tokens: int
    """Prompt and answer together, as they are expected at their limits."""
    usd: float
    """The most that the vendor can ask for it; 0 where no cost is capped."""


def need_of(target: Target, request: Request, prices: Prices | None) -> Need:
    """What a call may take.

    Args:
        target: what is called.
        request: the call.
        prices: by what its cost is held; None where none is.

    Raises:
        ConfigError: its price is not known, so that no cap can be held.
    """
    likely = predict_usage(target, request)
    output = likely.output_tokens or 0
    tokens = (likely.prompt_tokens or 0) + output
    if prices is None:
        return Need(tokens=tokens, usd=0.0)
    # No vocabulary makes more tokens of a text than it has bytes.
    prompt = len(str(request.schema).encode("utf-8", "surrogatepass")) if request.schema else 0
    for message in request.messages:
        prompt += len(message.content.encode("utf-8", "surrogatepass")) + _TOKENS_A_TURN
        prompt += len(message.images) * _TOKENS_AN_IMAGE
    plain = prices.cost(target, Usage(prompt_tokens=prompt, output_tokens=output), None)
    if plain.usd is None:
        raise ConfigError(
            f"max_cost_usd cannot be held for {target}: {plain.source}; name its price, or leave"
            " out the target or the cap"
        )
    # Vendors that charge for writing a cache charge more for it than for a plain prompt.
    written = Usage(prompt_tokens=prompt, cache_write_tokens=prompt, output_tokens=output)
    return Need(tokens=tokens, usd=max(plain.usd, prices.cost(target, written, None).usd or 0.0))


class Budget:
    """Holds what a run may cost: each call under way has its dearest possible price set aside.

    Args:
        most_usd: the cap; None is no cap.
        spent_usd: what the run has cost before.
    """

    def __init__(self, most_usd: float | None, spent_usd: float = 0.0) -> None:
        self.most_usd = most_usd
        self.spent_usd = spent_usd
        self._reserved_usd = 0.0
        self._calls = 0
        self._settled = asyncio.Event()
        self.is_exhausted = False
        """Whether a call was not made because it might have passed the cap."""

    async def reserve(self, usd: float) -> bool:
        """Set a call's dearest price aside; False where it might pass the cap.

        While others are under way, which may come cheaper than they might, it waits for them.
        """
        if self.most_usd is None:
            return True
        while self.spent_usd + self._reserved_usd + usd > self.most_usd:
            if self.is_exhausted or not self._calls:
                self.is_exhausted = True
                self._settled.set()
                return False
            self._settled.clear()
            await self._settled.wait()
        self._reserved_usd += usd
        self._calls += 1
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """A call has ended, and cost so much."""
        if self.most_usd is None:
            return
        self._calls -= 1
        self._reserved_usd = self._reserved_usd - reserved_usd if self._calls else 0.0
        self.spent_usd += spent_usd
        self._settled.set()
