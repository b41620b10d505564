"""Short names for figures and tables: what all targets share is said once, not on every label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from soma_bench.types import AgentName, Target, Thinking

AGENT_TITLES: Mapping[AgentName, str] = {
    "alignment": "Alignment",
    "radiologist": "Radiologist",
    "pathologist": "Pathologist",
    "report_writer": "ReportWriter",
    "qc_reviewer": "QCReviewer",
}

LONGEST = 30
"""Characters of a label; longer ones lose their middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Short names of the models and targets that appear together."""

    shared: str
    """What all models' names begin with; empty where they share nothing."""
    models: Mapping[str, str]
    """Short name by ``provider:model``, sorted by it."""
    targets: Mapping[str, str]
    """Short name by target, such as ``q4_0, thinking 24``."""


def name_targets(targets: Iterable[str]) -> Names:
    """Short and distinct names for targets that appear together."""
    texts = sorted(set(targets))
    parsed = {text: Target.parse(text) for text in texts}
    models = sorted({target.whole_model for target in parsed.values()})
    shared, rests = _without_shared_part(models)
    short = dict(zip(models, _distinct(rests), strict=True))
    return Names(
        shared=shared,
        models=short,
        targets={
            text: ", ".join(
                filter(None, (short[target.whole_model], thinking_name(target.thinking)))
            )
            for text, target in parsed.items()
        },
    )


def thinking_name(thinking: Thinking | None) -> str:
    """A thinking setting in words; empty where the target leaves it to the model."""
    if thinking is None:
        return ""
    return "no thinking" if thinking == "off" else f"thinking {thinking}"


def _without_shared_part(models: Sequence[str]) -> tuple[str, list[str]]:
    """The leading words that all names share, and each name's rest."""
    if len(models) == 1:
        # Nothing to tell apart: the quantization, where there is one, says most.
        quantization = Target.parse(models[0]).quantization
        if quantization is None:
            return "", [models[0].partition(":")[2]]
        return models[0].removesuffix(quantization).rstrip("-_:."), [quantization]
    words = [re.findall(r"[^-:/]+[-:/]?", model) for model in models]
    columns = zip(*(word[:-1] for word in words), strict=False)
    count = len(list(takewhile(lambda column: len(set(column)) == 1, columns)))
    shared = "".join(words[0][:count])
    return shared.rstrip("-:/"), [model.removeprefix(shared) for model in models]


def _distinct(names: Sequence[str]) -> list[str]:
    """Names cut to a readable length; those that became alike are numbered."""
    cut = [_shortened(name) for name in names]
    counts = {name: cut.count(name) for name in cut}
    return [
        name if counts[name] == 1 else f"{name} ({cut[:index].count(name) + 1})"
        for index, name in enumerate(cut)
    ]


def _shortened(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    tail = LONGEST // 2
    return f"{name[: LONGEST - tail - 1]}…{name[-tail:]}"
