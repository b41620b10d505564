"""Costs: worked by hand, labelled by where tokens come from, and never 0 for what is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from routing_examples import row
from soma_bench.cli.costs import costs as costs_command
from soma_bench.costs import (
    PLAN_PROMPT_TOKENS,
    PLAN_USD,
    pay_back_months,
    scenario,
    usual_scenarios,
)
from soma_bench.environment import Environment
from soma_bench.hardware.original import TABLE, TARGET
from soma_bench.hardware.plan import expected_work
from soma_bench.providers.prices import load_prices
from soma_bench.sweeps.plan import load_suites
from soma_bench.sweeps.spec import load_sweep
from soma_bench.types import AGENTS, Target

SWEEP = Path(__file__).parent.parent / "sweeps" / "m4max.yaml"

SONNET = Target("claude", "claude-sonnet-5-5")
PRICES = load_prices(Environment(_env_file=None))
EVERY = dict.fromkeys(AGENTS, SONNET)


def test_the_clouds_price_by_hand():
    """The plan's 2077 output tokens at $10 and the suites' prompts at $2 a million."""
    found = scenario("cloud", EVERY, PRICES)
    output = sum(entry.tokens for entry in TABLE)
    assert output == 2077
    assert found.usd == pytest.approx((sum(PLAN_PROMPT_TOKENS.values()) * 2 + output * 10) / 1e6)
    assert found.usd_a_month == pytest.approx(1000 * found.usd)
    assert found.basis == "plan"
    assert all("genai-prices" in stage.source for stage in found.stages)


def test_the_assumed_prompts_are_as_long_as_those_of_the_suites():
    sweep = load_sweep(SWEEP)
    for suite in load_suites(sweep, SWEEP.parent):
        work = expected_work(sweep, suite, TARGET)
        assert PLAN_PROMPT_TOKENS[suite.agent] == pytest.approx(work.prompt_tokens, rel=0.1)


def test_electricity_by_hand():
    """124.4 s in all at 145 W and $0.13 a kilowatt-hour."""
    found = scenario("local", dict.fromkeys(AGENTS, TARGET), PRICES)
    seconds = sum(entry.seconds for entry in TABLE)
    assert found.usd == pytest.approx(145 * seconds * 0.13 / 3_600_000)
    assert found.usd < PLAN_USD["full local"]


def test_cloud_is_dearer_than_hybrid_and_hybrid_than_local():
    cloud, hybrid, local = usual_scenarios(SONNET, TARGET, PRICES)
    assert cloud.usd > hybrid.usd > local.usd > 0
    assert not cloud.is_local
    assert hybrid.is_local
    assert [stage.agent for stage in hybrid.stages if stage.target == SONNET] == ["report_writer"]


def test_measured_tokens_count_and_what_is_not_measured_is_said():
    evidence = [row("report_writer", str(SONNET), prompt_tokens=1000.0, output_tokens=2000.0)]
    found = scenario("cloud", EVERY, PRICES, evidence=evidence)
    writer = next(stage for stage in found.stages if stage.agent == "report_writer")
    assert writer.usd == pytest.approx((1000 * 2 + 2000 * 10) / 1e6)
    assert writer.basis == "measured"
    assert found.basis == "mixed"


def test_a_price_that_is_not_known_makes_the_sum_unknown_and_never_0():
    found = scenario("x", {**EVERY, "alignment": Target("openai", "gpt-99-none")}, PRICES)
    assert found.usd is None
    assert found.usd_a_month is None
    assert "no price" in found.stages[0].source
    assert pay_back_months(found.usd_a_month, 80) is None


def test_the_plans_own_pay_back_is_four_to_six_years():
    month = {name: 1000 * usd for name, usd in PLAN_USD.items()}
    assert pay_back_months(month["full local"], month["cloud only"]) == pytest.approx(51.3, abs=0.1)
    assert pay_back_months(month["hybrid"], month["cloud only"]) == pytest.approx(66.7, abs=0.1)


def test_what_saves_nothing_never_pays_back():
    assert pay_back_months(80.0, 80.0) is None
    assert pay_back_months(90.0, 80.0) is None


def test_the_command_says_by_what_it_reckons():
    done = CliRunner().invoke(costs_command, ["--per-month", "5000"])
    assert done.exit_code == 0
    assert "tokens by" in done.stdout
    assert "genai-prices" in done.stdout
    assert "145 W" in done.stdout
    told = json.loads(CliRunner().invoke(costs_command, ["--json"]).stdout)
    assert [one["basis"] for one in told] == ["plan"] * 3
    assert told[0]["pay_back_months"] is None
