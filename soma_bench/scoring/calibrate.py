"""How far a judge can be trusted: its verdicts against people's labels."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Annotated

from pydantic import Field

from soma_bench.agents.base import Strict
from soma_bench.errors import ConfigError, ProviderError
from soma_bench.scoring.agreement import (
    Estimate,
    krippendorff_alpha,
    sensitivity,
    specificity,
    weighted_kappa,
    with_interval,
)
from soma_bench.scoring.judge import Judge, Judgement, Problem, RubricItem, model_families
from soma_bench.scoring.judged import JudgedFigure, judged_mean
from soma_bench.scoring.labels import Identifier, Label, load_rows
from soma_bench.types import Target

_TRIES = 3
_LONGEST_WAIT_S = 60.0


class Verdict(Strict):
    """A judge's word on one question about one answer; one line of a verdict file."""

    id: Identifier
    item: Identifier
    repeat: Annotated[int, Field(ge=0)]
    met: bool | None
    """None where the judge's word is invalid."""
    quote: str
    problem: Problem | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What labels say of a judge. A figure is None where the labels cannot give it."""

    labels: int
    """Labelled questions that the judge answered, drawn at random."""
    answers: int
    """Answers that they are about."""
    sensitivity: Estimate | None
    specificity: Estimate | None
    kappa: Estimate | None
    """Quadratic-weighted kappa of how many questions of an answer are met."""
    alpha: Estimate | None
    """Krippendorff's alpha, nominal, of the labellers' consensus and the judge."""
    labellers_alpha: Estimate | None
    """That of the labellers among themselves: no judge can be held to more."""
    test_retest: Estimate | None
    """Share of questions that the judge answers the same when asked again."""
    length_bias: Estimate | None
    """How much more the judge overrates the longer half of the answers than the shorter one."""
    self_preference: Estimate | None
    """How much more it overrates answers of its own family than others'."""
    invalid_rate: float
    """Share of the judge's words that are invalid: unreadable, without a quote or a false one."""
    met: JudgedFigure
    """Share of an answer's questions that are met, over labelled and unlabelled answers, corrected
    by the labels; each answer is one label, however many questions it was asked."""


async def collect_verdicts(
    judge: Judge,
    labels: Sequence[Label],
    *,
    repeats: int = 2,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Verdict]:
    """Ask a judge every question of a label file, several times; it does not see the labels.

    A backend's failure is no verdict: the question is asked again.

    Args:
        judge: whom to ask.
        labels: rows whose answers and questions count; equal ones are asked once.
        repeats: how often to ask, each time with another seed.
        on_progress: told how many calls of how many are done.

    Raises:
        PrivacyError: the judge is in the cloud and is not allowed to be.
        ProviderError: the judge's backend failed and goes on failing.
    """
    texts = {row.id: row.answer for row in labels}
    items: dict[str, dict[str, RubricItem]] = defaultdict(dict)
    for row in labels:
        items[row.id][row.item] = RubricItem(row.item, row.question)
    calls = [(name, repeat) for name in texts for repeat in range(repeats)]
    verdicts = []
    for done, (name, repeat) in enumerate(calls, start=1):
        said = await _rate(judge, texts[name], tuple(items[name].values()), repeat)
        verdicts += [
            Verdict(
                id=name,
                item=each.item,
                repeat=repeat,
                met=each.met,
                quote=each.quote,
                problem=each.problem,
            )
            for each in said
        ]
        on_progress(done, len(calls))
    return verdicts


async def _rate(
    judge: Judge, text: str, items: Sequence[RubricItem], repeat: int
) -> tuple[Judgement, ...]:
    for _ in range(_TRIES - 1):
        try:
            return await judge.rate_blind(text, items, seed=repeat)
        except ProviderError as error:
            wait_s = error.wait_s or 0.0
            if not error.retryable or wait_s > _LONGEST_WAIT_S:
                raise
            await asyncio.sleep(wait_s)
    return await judge.rate_blind(text, items, seed=repeat)


def load_verdicts(path: Path) -> list[Verdict]:
    """Read a verdict file.

    Raises:
        ConfigError: a line is wrong; the message names file and line.
    """
    return load_rows(path, Verdict)


def calibrate(
    labels: Sequence[Label],
    verdicts: Sequence[Verdict],
    *,
    targets: Mapping[str, Target] | None = None,
    judge: Target | None = None,
) -> Calibration:
    """Compare a judge's first verdicts with the labels.

    Intervals resample answers, whose questions belong together. Several labellers of one question
    count as their majority; a draw is no label.

    Args:
        labels: with and without a label.
        verdicts: of the judge.
        targets: whose each answer is, for self-preference.
        judge: the judge's own target, for self-preference.

    Raises:
        ConfigError: the judge has said nothing of these answers.
    """
    first = {(v.id, v.item): v for v in verdicts if v.repeat == 0}
    rows = {(row.id, row.item): row for row in labels if (row.id, row.item) in first}
    if not rows:
        raise ConfigError(
            "no verdict is about an answer of the label file; are both of one sample?"
        )
    groups, unlabelled = _beside_labels(rows.values(), first, _consensus(labels))
    flat = _flat(groups)
    if not flat and not unlabelled:
        raise ConfigError(
            "every word of the judge on these answers is invalid; choose a judge that can quote"
        )
    used = [verdict for verdict in verdicts if (verdict.id, verdict.item) in rows]
    length = {row.id: len(row.answer.split()) for row in rows.values()}
    return Calibration(
        labels=len(flat),
        answers=len(groups),
        sensitivity=with_interval(lambda g: sensitivity(_flat(g)), groups),
        specificity=with_interval(lambda g: specificity(_flat(g)), groups),
        kappa=with_interval(lambda g: weighted_kappa([_totals(pairs) for _, pairs in g]), groups),
        alpha=with_interval(lambda g: krippendorff_alpha(_flat(g), "nominal"), groups),
        labellers_alpha=_labellers_alpha(labels),
        test_retest=with_interval(lambda same: fmean(same) if same else None, _retests(used)),
        length_bias=_length_bias(groups, length),
        self_preference=_self_preference(groups, targets or {}, judge),
        invalid_rate=fmean(float(verdict.met is None) for verdict in used),
        met=judged_mean(
            "share of questions met",
            [(fmean(label for label, _ in g), fmean(said for _, said in g)) for _, g in groups],
            [fmean(said) for said in unlabelled],
        ),
    )


_Group = tuple[str, list[tuple[int, int]]]
"""An answer's id and, for each of its questions, (label, verdict)."""


def _beside_labels(
    rows: Iterable[Label],
    first: Mapping[tuple[str, str], Verdict],
    truth: Mapping[tuple[str, str], int],
) -> tuple[list[_Group], list[list[int]]]:
    """The valid verdicts beside the labels of answers drawn at random, and those without any.

    Of an answer that has a labelled question, its other questions are left out.
    """
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    unlabelled: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        key = (row.id, row.item)
        met = first[key].met
        if met is None:
            continue
        if key in truth and row.drawn == "random":
            pairs[row.id].append((truth[key], int(met)))
        elif key not in truth:
            unlabelled[row.id].append(int(met))
    alone = [said for name, said in unlabelled.items() if name not in pairs]
    return list(pairs.items()), alone


def _flat(groups: Sequence[_Group]) -> list[tuple[int, int]]:
    return [pair for _, pairs in groups for pair in pairs]


def _totals(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(label for label, _ in pairs), sum(said for _, said in pairs)


def _overrating(groups: Sequence[_Group]) -> float | None:
    flat = _flat(groups)
    return fmean(said - label for label, said in flat) if flat else None


def _difference(groups: Sequence[_Group], chosen: Callable[[str], bool]) -> float | None:
    """How much more the chosen answers are overrated than the others; None without both."""
    inside = _overrating([group for group in groups if chosen(group[0])])
    outside = _overrating([group for group in groups if not chosen(group[0])])
    return None if inside is None or outside is None else inside - outside


def _given(labels: Iterable[Label]) -> Mapping[tuple[str, str], list[int]]:
    """The labels of each question of an answer, by whomever."""
    given: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in labels:
        if row.label is not None:
            given[row.id, row.item].append(row.label)
    return given


def _consensus(labels: Sequence[Label]) -> dict[tuple[str, str], int]:
    means = {key: fmean(values) for key, values in _given(labels).items()}
    return {key: int(mean > 0.5) for key, mean in means.items() if mean != 0.5}


def _labellers_alpha(labels: Sequence[Label]) -> Estimate | None:
    units = [values for values in _given(labels).values() if len(values) > 1]
    return with_interval(lambda u: krippendorff_alpha(u, "nominal"), units) if units else None


def _retests(verdicts: Sequence[Verdict]) -> list[float]:
    """Whether each second and later word is that of the first time; an invalid one is like none."""
    first = {(v.id, v.item): v.met for v in verdicts if v.repeat == 0}
    return [
        float(v.met is not None and v.met == first.get((v.id, v.item)))
        for v in verdicts
        if v.repeat > 0
    ]


def _length_bias(groups: Sequence[_Group], length: Mapping[str, int]) -> Estimate | None:
    if not groups:
        return None
    middle = median(length[name] for name, _ in groups)
    return with_interval(lambda g: _difference(g, lambda name: length[name] > middle), groups)


def _self_preference(
    groups: Sequence[_Group], targets: Mapping[str, Target], judge: Target | None
) -> Estimate | None:
    if judge is None:
        return None
    known = [group for group in groups if group[0] in targets]
    own = {name for name, _ in known if model_families(targets[name]) & model_families(judge)}
    return with_interval(lambda g: _difference(g, own.__contains__), known) if known else None
