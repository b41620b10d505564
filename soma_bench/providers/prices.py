"""What one call costs: by a price list in the cloud, by its electricity on one's own machine.

Cloud prices come from genai-prices, whose data travels with the library and is never fetched, and
before it from two tables of the same form: ``prices.json`` beside this module, for models that the
library does not know yet, and a file of the user's own (``SOMA_BENCH_PRICES``), which wins. A row of
such a table says per million tokens what is paid, since when that is known and where it stands::

    [{"provider": "openai", "model": "gpt-6.2-sol", "as_of": "2026-11-25", "source": "...",
      "rates": {"input": 2.0, "cached": 0.1, "cache_write": 2.5, "output": 10.0}}]

A local call costs watts x seconds x tariff. Where the environment names neither, the watts are
145 W, which is the most that a Mac Studio with a Max chip draws at the wall in Apple's measurement
(support article 102027, M2 Max), and the tariff is 0.13 USD a kilowatt-hour, the mean that
commercial customers in the United States paid in 2024 (EIA, Electric Power Monthly, table 5.3),
to the cent. Neither was measured here, so each record says that they are defaults.

A price that is not known is None with the reason, never 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from soma_bench.environment import Environment, read_environment
from soma_bench.errors import ConfigError
from soma_bench.files import canonical_json, first_problem, parse_json, read_text
from soma_bench.types import ProviderName, Target, Usage

DEFAULT_WATTS = 145.0
DEFAULT_USD_PER_KWH = 0.13
_WATTS_SOURCE = "default: the most that a Mac Studio with a Max chip draws, by Apple"
_TARIFF_SOURCE = "default: US commercial mean of 2024, by EIA"

_WATT_SECONDS_PER_KWH = 3_600_000
_TOKENS_PER_RATE = 1_000_000
_FIELDS: Mapping[str, str] = {
    "input": "input_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
}
"""Rates of a table by their names in the price list."""
_VENDORS: Mapping[ProviderName, str] = {"claude": "anthropic", "openai": "openai"}

CostBasis = Literal["price list", "electricity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a call costs, and by what that is known."""

    usd: float | None
    """None where it is not known; ``source`` then says why."""
    basis: CostBasis
    source: str
    """The list and the row in it, or the power and the tariff; or the reason why there is no price."""
    as_of: str | None = None
    """Day (ISO 8601) on which the price was read; None where the list's version stands for it."""


def _iso_day(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise ValueError(f"{value!r} is not a day such as 2026-11-25")
    datetime.fromisoformat(value)
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_Rate = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class _Rates(_Strict):
    """US dollars per million tokens; None where it is not known."""

    input: _Rate
    cached: _Rate | None = None
    cache_write: _Rate | None = None
    output: _Rate


class _LongPrompt(_Strict):
    """Rates of a whole call whose prompt is longer than so many tokens."""

    above_tokens: Annotated[int, Field(gt=0)]
    rates: _Rates


class _Row(_Strict):
    provider: Literal["claude", "openai"]
    model: Annotated[str, Field(min_length=1, max_length=260)]
    rates: _Rates
    long_prompt: _LongPrompt | None = None
    as_of: Annotated[str, AfterValidator(_iso_day)]
    source: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """All that is needed to price a call; made by `load_prices`."""

    rows: Mapping[tuple[ProviderName, str], _Row]
    watts: float | None
    usd_per_kwh: float | None

    def cost(self, target: Target, usage: Usage, seconds: float | None) -> Cost:
        """What a call to ``target`` costs today.

        Args:
            target: what was called.
            usage: the tokens of the call.
            seconds: how long a local machine worked on it, without loading the model.
        """
        if target.is_local:
            return self._electricity(seconds)
        if usage.prompt_tokens is None or usage.output_tokens is None:
            return _unknown(f"{target.provider} did not count the tokens of this call")
        row = self.rows.get((target.provider, target.model))
        return _by_row(row, usage) if row else _by_list(target, usage)

    def _electricity(self, seconds: float | None) -> Cost:
        watts = DEFAULT_WATTS if self.watts is None else self.watts
        tariff = DEFAULT_USD_PER_KWH if self.usd_per_kwh is None else self.usd_per_kwh
        power = f"{watts:g} W" + (f" ({_WATTS_SOURCE})" if self.watts is None else "")
        price = f"{tariff:g} USD/kWh" + (f" ({_TARIFF_SOURCE})" if self.usd_per_kwh is None else "")
        if seconds is None:
            return Cost(usd=None, basis="electricity", source="nobody measured how long it takes")
        return Cost(
            usd=watts * seconds * tariff / _WATT_SECONDS_PER_KWH,
            basis="electricity",
            source=f"{power} at {price}",
        )


def load_prices(environment: Environment | None = None) -> Prices:
    """The prices as the environment and the tables say.

    Args:
        environment: where power, tariff and the user's own table come from; read anew by default.

    Raises:
        ConfigError: a variable or the user's table is wrong; the message names the place.
    """
    environment = environment or read_environment()
    shipped = files("soma_bench.providers").joinpath("prices.json").read_text("utf-8")
    rows = _read_rows(shipped, "prices.json")
    if environment.prices_file:
        path = Path(environment.prices_file)
        rows |= _read_rows(read_text(path), str(path))
    return Prices(rows=rows, watts=environment.local_watts, usd_per_kwh=environment.usd_per_kwh)


def _read_rows(text: str, place: str) -> dict[tuple[ProviderName, str], _Row]:
    content: Any = parse_json(text, place)
    try:
        rows = TypeAdapter(list[_Row]).validate_json(canonical_json(content))
    except ValidationError as error:
        raise ConfigError(f"{place}: {first_problem(error)}") from error
    found: dict[tuple[ProviderName, str], _Row] = {}
    for row in rows:
        if (row.provider, row.model) in found:
            raise ConfigError(f"{place}: {row.provider}:{row.model} stands twice")
        found[row.provider, row.model] = row
    return found


def _by_row(row: _Row, usage: Usage) -> Cost:
    prompt, output = usage.prompt_tokens or 0, usage.output_tokens or 0
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    fresh = prompt - cached - written
    if fresh < 0:
        return _unknown(f"more tokens from and into the cache than the prompt's {prompt}")
    long = row.long_prompt
    rates = long.rates if long and prompt > long.above_tokens else row.rates
    if cached and rates.cached is None:
        return _unknown(f"the price of cached tokens of {row.model} is not in {row.source}")
    if written and rates.cache_write is None:
        return _unknown(f"the price of a cache write of {row.model} is not in {row.source}")
    usd = _rated(rates, fresh, cached, written, output)
    return Cost(usd=usd, basis="price list", source=row.source, as_of=row.as_of)


def _rated(rates: _Rates, fresh: int, cached: int, written: int, output: int) -> float:
    """The price of so many tokens of each kind, in US dollars."""
    rated = (
        fresh * rates.input
        + cached * (rates.cached or 0.0)
        + written * (rates.cache_write or 0.0)
        + output * rates.output
    )
    return rated / _TOKENS_PER_RATE


def _by_list(target: Target, usage: Usage) -> Cost:
    now = datetime.now(UTC)
    flat = _flat(target.provider, target.model, now.replace(minute=0, second=0, microsecond=0))
    if isinstance(flat, Cost):
        return flat
    if flat is not None and (usd := flat.price(usage)) is not None:
        return Cost(usd=usd, basis="price list", source=flat.source)
    # A third of a second to import, which commands without a cloud target need not spend.
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    # Both count alike: the input has the cached and the cache-written tokens in it, the output the
    # thinking ones.
    counts = Counts(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        found = calc_price(
            counts,
            target.model,
            provider_id=_VENDORS[target.provider],
            genai_request_timestamp=now,
        )
    except ValueError as error:
        return _unknown(f"{_release()} cannot price these token counts: {error}")
    return Cost(
        usd=float(found.total_price), basis="price list", source=f"{_release()}: {found.model.id}"
    )


@dataclass(frozen=True, slots=True)
class _Flat:
    """Rates of the price list that hold for every call of fewer tokens than its first tier's."""

    rates: _Rates
    below_tokens: float
    source: str

    def price(self, usage: Usage) -> float | None:
        """The price of a call; None where these rates do not say."""
        prompt, output = usage.prompt_tokens or 0, usage.output_tokens or 0
        cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
        fresh = prompt - cached - written
        if fresh < 0 or output < 0 or prompt + output >= self.below_tokens:
            return None
        if (cached and self.rates.cached is None) or (written and self.rates.cache_write is None):
            return None
        return _rated(self.rates, fresh, cached, written, output)


@lru_cache(maxsize=256)
def _flat(provider: ProviderName, model: str, hour: datetime) -> _Flat | Cost | None:
    """A model's rates in an hour: the library takes longer to price a call than a call may cost.

    Where the library has no price for it, the cost that every call then has; None where its price
    is not simply so much a token.
    """
    from genai_prices import Usage as Counts
    from genai_prices import calc_price
    from genai_prices.types import TieredPrices

    try:
        found = calc_price(
            Counts(input_tokens=1, output_tokens=1),
            model,
            provider_id=_VENDORS[provider],
            genai_request_timestamp=hour,
        )
    except LookupError:
        return _unknown(
            f"{_release()} has no price for {model}; add one to a file of your own and name it in"
            " SOMA_BENCH_PRICES"
        )
    except ValueError:
        return None
    below = math.inf
    rates: dict[str, float | None] = {}
    for name, field in _FIELDS.items():
        price = getattr(found.model_price, field, None)
        if isinstance(price, TieredPrices):
            below = min([below, *(tier.start for tier in price.tiers)])
            price = price.base
        rates[name] = None if price is None else float(price)
    if rates["input"] is None or rates["output"] is None:
        return _unknown(f"{_release()} has no price per token for {model}")
    return _Flat(_Rates.model_validate(rates), below, f"{_release()}: {found.model.id}")


@cache
def _release() -> str:
    """The price list; looking its version up takes longer than pricing a call."""
    return f"genai-prices {version('genai-prices')}"


def _unknown(reason: str) -> Cost:
    return Cost(usd=None, basis="price list", source=reason)
