"""The ends of cloud models: told in time, with the date, its source and what follows."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS

from soma_bench.providers import claude_models
from soma_bench.providers.lifecycle import NOTICE, retirement
from soma_bench.types import Target

TODAY = date(2026, 11, 25)


@pytest.mark.parametrize(
    ("target", "on", "retired", "successor"),
    [
        ("claude:claude-sonnet-4-20250514", date(2026, 6, 15), True, "claude-sonnet-5-5"),
        ("claude:claude-sonnet-4-5?thinking=2048", date(2026, 11, 30), False, "claude-sonnet-5-5"),
        ("claude:claude-3-opus-20240229", date(2026, 1, 5), True, "claude-opus-5-5"),
        ("openai:gpt-4o", date(2027, 1, 14), False, "gpt-6-luna"),
        ("openai:gpt-4o-mini", date(2027, 1, 14), False, "gpt-6-luna"),
        ("openai:o1", date(2026, 10, 23), True, None),
    ],
)
def test_an_ending_model_is_told_with_its_date_and_successor(target, on, retired, successor):
    found = retirement(Target.parse(target), TODAY)
    assert found is not None
    assert (found.on, found.retired, found.successor) == (on, retired, successor)
    assert str(on) in str(found)
    assert (successor or "another model") in str(found)


@pytest.mark.parametrize(
    "target",
    ["claude:claude-sonnet-5-5", "openai:gpt-6-luna", "ollama:qwen3:8b", "openai:gpt-4o-nearly"],
)
def test_a_model_without_a_known_end_is_not_spoken_of(target):
    assert retirement(Target.parse(target), TODAY) is None


def test_notice_is_given_from_ninety_days_before():
    target, end = Target.parse("claude:claude-sonnet-4-5"), date(2026, 11, 30)
    assert retirement(target, end - NOTICE - timedelta(days=1)) is None
    noticed = retirement(target, end - NOTICE)
    assert noticed is not None
    assert not noticed.retired
    ended = retirement(target, end)
    assert ended is not None
    assert ended.retired


@pytest.mark.parametrize("model", sorted(DEPRECATED_MODELS))
def test_every_end_that_the_sdk_knows_is_known_with_the_same_date(model):
    found = retirement(Target("claude", model), date(2027, 1, 1))
    assert found is not None
    assert f"{found.on:%B} {found.on.day}" in DEPRECATED_MODELS[model].replace("th", "").replace(
        "st,", ","
    )
    assert str(found.on.year) in DEPRECATED_MODELS[model]


def test_the_table_names_no_successor_that_ends_itself():
    for model in claude_models.RETIREMENTS:
        successor = claude_models.successor(model)
        assert successor
        assert retirement(Target("claude", successor), TODAY) is None
