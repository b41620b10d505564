"""Scoring what is in the store; no model is called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

from pydantic import ValidationError

from soma_bench.agents import AGENT_BY_NAME
from soma_bench.cases.base import Case
from soma_bench.cases.suite import CASE_BY_AGENT
from soma_bench.errors import AnswerError, ConfigError
from soma_bench.files import canonical_json, first_problem
from soma_bench.scoring import SCORER_BY_AGENT
from soma_bench.sweeps.store import ScoreRecord, Store
from soma_bench.types import AgentName, Completion, Timings, Usage

FailureKind = Literal["truncated", "refused", "unparsed"]
"""How an answer can fail. A backend's failure is none: its trial is tried again and not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTrial:
    """A finished trial with its case and its score by the current scorer."""

    trial: Mapping[str, Any]
    """The stored row, as `Store.trials` gives it."""
    case: Case
    score: ScoreRecord

    @property
    def failure_kind(self) -> FailureKind | None:
        """How the answer failed; None for one that was read."""
        if self.score.failure is None:
            return None
        kinds: Mapping[str, FailureKind] = {"length": "truncated", "refusal": "refused"}
        return kinds.get(self.trial["finish"], "unparsed")


SCORER_VERSIONS: Mapping[AgentName, int] = {
    agent: scorer.version for agent, scorer in SCORER_BY_AGENT.items()
}
"""The version of every agent's scorer: scores of other versions are not used."""
_BATCH = 500
"""Scores that are kept in one transaction."""


def score_run(store: Store, run_id: str, *, again: bool = False) -> int:
    """Score the run's finished trials that the current scorers have not scored; how many they were.

    Args:
        store: the store.
        run_id: the run.
        again: score all of them, also those that have a score of the current version.

    Raises:
        ConfigError: what the store holds of the run is damaged.
    """
    trials = store.trials(run_id, without_score=None if again else SCORER_VERSIONS)
    finished = (trial for trial in trials if trial["status"] == "done")
    count = 0
    while batch := [score_trial(trial) for trial in islice(finished, _BATCH)]:
        store.save_scores(batch)
        count += len(batch)
    return count


def scored_trials(store: Store, run_id: str) -> Iterator[ScoredTrial]:
    """The run's finished trials with their scores, which are made where they are missing."""
    score_run(store, run_id)
    scores = {_identity(score): score for score in store.scores(run_id)}
    for trial in store.trials(run_id):
        if trial["status"] == "done":
            yield ScoredTrial(
                trial=trial,
                case=read_case(trial["agent"], canonical_json(trial["case"])),
                score=scores[_wanted(trial)],
            )


class Cases:
    """A run's cases, each read once."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._texts = store.cases(run_id)
        self._read: dict[AgentName, dict[str, Case]] = defaultdict(dict)

    def of(self, agent: AgentName, digests: Sequence[str]) -> list[Case]:
        """An agent's cases by their digests.

        Raises:
            ConfigError: one of them is not there, or is none of the agent's.
        """
        known = self._read[agent]
        for digest in digests:
            if digest not in known:
                if digest not in self._texts:
                    raise ConfigError(f"the store is damaged: it lacks the case {digest}")
                known[digest] = read_case(agent, self._texts[digest])
        return [known[digest] for digest in digests]


def _identity(score: ScoreRecord) -> tuple[str, str, int]:
    return score.key, score.case_digest, score.scorer_version


def _wanted(trial: Mapping[str, Any]) -> tuple[str, str, int]:
    return trial["key"], trial["case_digest"], SCORER_BY_AGENT[trial["agent"]].version


@lru_cache(maxsize=4096)
def read_case(agent: AgentName, content: str) -> Case:
    """A stored case.

    Raises:
        ConfigError: it is none of the agent's.
    """
    try:
        return CASE_BY_AGENT[agent].model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(
            f"the store is damaged: a case of {agent}: {first_problem(error)}"
        ) from error


def score_trial(trial: Mapping[str, Any]) -> ScoreRecord:
    """Read a finished trial's answer and score it; one that cannot be read scores 0 and says why.

    Args:
        trial: ``key, agent, answer, finish, total_s, case_digest, case``, as `Store.trials` gives them.

    Raises:
        ConfigError: the stored case is none of the agent's.
    """
    agent = AGENT_BY_NAME[trial["agent"]]
    scorer = SCORER_BY_AGENT[agent.name]
    completion = Completion(
        text=trial["answer"],
        finish=trial["finish"],
        usage=Usage(),
        timings=Timings(total_s=trial["total_s"]),
    )
    primary, failure, parts = 0.0, None, None
    try:
        output = agent.read(completion)
    except AnswerError as error:
        failure = str(error)
    else:
        reference = read_case(agent.name, canonical_json(trial["case"])).reference
        score = scorer.score(output, reference)
        primary, parts = score.primary, score.parts
    return ScoreRecord(
        key=trial["key"],
        case_digest=trial["case_digest"],
        scorer_version=scorer.version,
        primary_value=primary,
        failure=failure,
        parts=parts,
    )
