"""What a call costs, against figures worked out by hand; what is not known is None and never 0."""

from __future__ import annotations

import json
import socket

import pytest

from soma_bench.environment import Environment, read_environment
from soma_bench.errors import ConfigError
from soma_bench.providers.prices import Prices, load_prices
from soma_bench.types import Target, Usage

MILLION = 1_000_000


@pytest.fixture(autouse=True)
def no_prices_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env file here
    for name in ("SOMA_BENCH_PRICES", "SOMA_BENCH_WATTS", "SOMA_BENCH_USD_PER_KWH"):
        monkeypatch.delenv(name, raising=False)


def cost(target: str, seconds: float | None = 1.0, prices: Prices | None = None, **tokens: int):
    return (prices or load_prices()).cost(Target.parse(target), Usage(**tokens), seconds)


@pytest.mark.parametrize(
    ("target", "tokens", "usd"),
    [
        # $2 in, $10 out for a million tokens
        ("claude:claude-sonnet-5-5", {"prompt_tokens": MILLION, "output_tokens": 0}, 2.0),
        ("claude:claude-sonnet-5-5", {"prompt_tokens": 0, "output_tokens": MILLION}, 10.0),
        # 500 x $2 + 300 x $0.10 (read) + 200 x $2.50 (written) + 100 x $10, a million tokens each
        (
            "claude:claude-sonnet-5-5",
            {
                "prompt_tokens": 1000,
                "cached_tokens": 300,
                "cache_write_tokens": 200,
                "output_tokens": 100,
            },
            0.002530,
        ),
        # thinking is part of the output and is not paid twice
        (
            "claude:claude-haiku-5-5",
            {"prompt_tokens": 1000, "output_tokens": 1000, "thinking_tokens": 900},
            0.0006,
        ),
        # $0.15 in, $0.075 from the cache, $0.60 out
        (
            "openai:gpt-4o-mini",
            {"prompt_tokens": 2000, "cached_tokens": 1000, "output_tokens": 500},
            0.000525,
        ),
        # from the table beside the module: $2, $0.10, $2.50, $10
        (
            "openai:gpt-6.2-sol",
            {
                "prompt_tokens": 1000,
                "cached_tokens": 300,
                "cache_write_tokens": 200,
                "output_tokens": 100,
            },
            0.002530,
        ),
        # above 272k tokens the whole call costs $4 in and $15 out
        ("openai:gpt-6.2-sol", {"prompt_tokens": 300_000, "output_tokens": 1000}, 1.215),
        ("openai:gpt-6.2-sol", {"prompt_tokens": 272_000, "output_tokens": 1000}, 0.554),
    ],
)
def test_a_cloud_call_costs_what_its_price_list_says(target, tokens, usd):
    found = cost(target, **tokens)
    assert found.usd == pytest.approx(usd, rel=1e-9)
    assert found.basis == "price list"
    assert found.source


def test_each_price_says_where_it_stands():
    listed = cost("claude:claude-sonnet-5-5", prompt_tokens=1, output_tokens=1)
    assert listed.source.startswith("genai-prices 0.")
    tabled = cost("openai:gpt-6.2-sol", prompt_tokens=1, output_tokens=1)
    assert tabled.source.startswith("https://")
    assert tabled.as_of == "2026-11-25"


@pytest.mark.parametrize(
    ("target", "tokens", "reason"),
    [
        ("claude:claude-nobody-9", {"prompt_tokens": 1, "output_tokens": 1}, "claude-nobody-9"),
        ("openai:gpt-99", {"prompt_tokens": 1, "output_tokens": 1}, "SOMA_BENCH_PRICES"),
        ("openai:omni-moderation-latest", {"prompt_tokens": 1, "output_tokens": 1}, "no price"),
        ("openai:text-embedding-3-small", {"prompt_tokens": 1, "output_tokens": 1}, "no price"),
        ("claude:claude-sonnet-5-5", {"prompt_tokens": 1}, "did not count"),
        ("claude:claude-sonnet-5-5", {"output_tokens": 1}, "did not count"),
        (
            "claude:claude-sonnet-5-5",
            {"prompt_tokens": 1, "cached_tokens": 2, "output_tokens": 1},
            "cannot price",
        ),
        (
            "openai:gpt-6.2-sol",
            {"prompt_tokens": 1, "cached_tokens": 2, "output_tokens": 1},
            "cache",
        ),
    ],
)
def test_what_is_not_known_is_none_with_its_reason(target, tokens, reason):
    found = cost(target, **tokens)
    assert found.usd is None
    assert reason in found.source


def test_a_local_call_costs_its_electricity():
    prices = load_prices(Environment(SOMA_BENCH_WATTS=200, SOMA_BENCH_USD_PER_KWH=0.36))
    found = cost("ollama:qwen3:8b", seconds=50.0, prices=prices)
    assert found.usd == pytest.approx(0.001)  # 200 W x 50 s = 1/360 kWh
    assert (found.basis, found.source) == ("electricity", "200 W at 0.36 USD/kWh")
    assert cost("ollama:qwen3:8b", seconds=None).usd is None


def test_defaults_are_used_as_such_and_say_so():
    found = cost("llamacpp:m", seconds=3600.0)
    assert found.usd == pytest.approx(0.145 * 0.13)
    assert found.source.count("default") == 2


def table(tmp_path, **changes):
    row = {
        "provider": "openai",
        "model": "gpt-99",
        "rates": {"input": 1.0, "output": 3.0},
        "as_of": "2026-01-02",
        "source": "our contract",
        **changes,
    }
    path = tmp_path / "prices.json"
    path.write_text(json.dumps([row]))
    return path


def test_a_table_of_ones_own_adds_and_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMA_BENCH_PRICES", str(table(tmp_path)))
    found = cost("openai:gpt-99", prompt_tokens=MILLION, output_tokens=MILLION)
    assert (found.usd, found.source, found.as_of) == (4.0, "our contract", "2026-01-02")
    assert cost("openai:gpt-99", prompt_tokens=9, cached_tokens=1, output_tokens=0).usd is None, (
        "a rate that is left out is not known"
    )
    monkeypatch.setenv("SOMA_BENCH_PRICES", str(table(tmp_path, model="gpt-6.2-sol")))
    assert cost("openai:gpt-6.2-sol", prompt_tokens=MILLION, output_tokens=0).usd == 1.0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"as_of": "2026-13-40"}, "as_of"),
        ({"as_of": "yesterday"}, "as_of"),
        ({"rates": {"input": -1.0, "output": 1.0}}, "rates.input"),
        ({"rates": {"input": 1.0}}, "rates.output"),
        ({"rates": {"input": "1", "output": 1.0}}, "rates.input"),
        ({"provider": "ollama"}, "provider"),
        ({"price": 3}, "price"),
        ({"source": ""}, "source"),
    ],
)
def test_a_wrong_table_is_refused_by_its_place(tmp_path, monkeypatch, changes, word):
    path = table(tmp_path, **changes)
    monkeypatch.setenv("SOMA_BENCH_PRICES", str(path))
    with pytest.raises(ConfigError) as caught:
        load_prices()
    assert str(caught.value).startswith(f"{path}: ")
    assert word in str(caught.value)


def test_a_table_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMA_BENCH_PRICES", str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        load_prices(read_environment())


def test_prices_are_known_without_a_network(monkeypatch):
    def no_network(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert cost("openai:gpt-4o", prompt_tokens=MILLION, output_tokens=0).usd == 2.5


def test_a_model_without_a_price_is_looked_up_once_and_not_at_each_call(monkeypatch):
    import genai_prices

    looked_up = []
    real = genai_prices.calc_price

    def counting(*given, **named):
        looked_up.append(given)
        return real(*given, **named)

    monkeypatch.setattr(genai_prices, "calc_price", counting)
    found = [cost("openai:nobody-lists-this", prompt_tokens=n, output_tokens=1) for n in range(9)]
    assert {one.usd for one in found} == {None}
    assert len(looked_up) <= 2, "a second one only where the hour has changed"


@pytest.mark.parametrize(
    "model",
    [
        "claude:claude-sonnet-5-5",
        "claude:claude-sonnet-4-5",
        "openai:gpt-6-luna",
        "openai:gpt-4o-mini",
    ],
)
@pytest.mark.parametrize("prompt", [0, 1000, 150_000, 199_999, 200_000, 300_000])
@pytest.mark.parametrize(
    ("cached", "written", "output"), [(0, 0, 0), (300, 0, 100), (0, 200, 7), (300, 200, 250_000)]
)
def test_remembered_rates_price_a_call_as_the_library_does(
    monkeypatch, model, prompt, cached, written, output
):
    counts = {"prompt_tokens": prompt, "cached_tokens": min(cached, prompt // 2)}
    counts |= {"cache_write_tokens": min(written, prompt // 3), "output_tokens": output}
    quick = cost(model, **counts)
    monkeypatch.setattr("soma_bench.providers.prices._flat", lambda *_: None)
    thorough = cost(model, **counts)
    assert quick.source == thorough.source
    assert quick.usd == pytest.approx(thorough.usd, rel=1e-12)
