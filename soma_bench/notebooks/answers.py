"""Single answers in full, so that a reader sees what a score is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from soma_bench.plots.labels import AGENT_TITLES
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.scores import ScoredTrial
from soma_bench.types import AgentName


def sample_answers(scored: Iterable[ScoredTrial], agent: AgentName) -> tuple[ScoredTrial, ...]:
    """An agent's best and its worst answer, the first of each in the order of the plan.

    One answer where all score alike, none where the agent has no trial.
    """
    of_agent = [one for one in scored if one.trial["agent"] == agent]
    if not of_agent:
        return ()
    best = max(of_agent, key=lambda one: one.score.primary_value)
    worst = min(of_agent, key=lambda one: one.score.primary_value)
    return (best,) if best is worst else (best, worst)


def answer_sheet(one: ScoredTrial) -> str:
    """A trial as Markdown: the question, what is expected, the answer, and its score."""
    trial, score = one.trial, one.score
    agent: AgentName = trial["agent"]
    lines = [
        f"### {AGENT_TITLES[agent]}, case `{trial['case_id']}` on `{trial['target']}`",
        f"**{SCORER_BY_AGENT[agent].primary}: {score.primary_value:.3f}**",
        "Asked:",
        _block(trial["request"]["messages"][-1]["content"]),
        "Expected:",
        _block(one.case.reference.model_dump_json(indent=2), "json"),
    ]
    if trial["thoughts"]:
        lines += ["Thought:", _block(trial["thoughts"])]
    lines += ["Answered:", _block(_pretty(trial["answer"]))]
    if score.failure is not None:
        lines.append(f"The answer failed and scores 0: {score.failure}")
    else:
        lines += ["Parts of the score:", _block(json.dumps(score.parts, indent=2), "json")]
    return "\n\n".join(lines)


def _pretty(text: str) -> str:
    """JSON with line breaks; anything else as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def _block(text: str, language: str = "") -> str:
    """A fenced block that no text can break out of."""
    longest = max((len(fence) for fence in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
