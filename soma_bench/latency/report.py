"""What a latency measurement found, as plain records that are its JSON report too."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem, read_json
from soma_bench.latency.harness import HarnessError
from soma_bench.latency.load import Load, Run
from soma_bench.latency.objectives import Objectives, holds
from soma_bench.latency.percentiles import Percentile, percentiles
from soma_bench.latency.samples import MEASURES, Sample
from soma_bench.latency.steady import Steadiness, steadiness
from soma_bench.scoring.statistics import mean_interval
from soma_bench.sweeps.machine import MachineLoad
from soma_bench.types import ModelIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure over the requests that were answered, in seconds."""

    name: str
    n: int
    percentiles: tuple[Percentile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What came out a second, over all answers that ended in the measured time.

    Answers to requests from before it count too, so that neither end is empty.
    """

    window_s: float
    requests_per_s: float
    output_tokens_per_s: float | None
    tokens_per_s: float | None
    """Prompt and output together; None where the backend counts no tokens."""
    effective_concurrency: float
    """Requests under way on average, by Little's law: less than asked for where the harness had to
    space them out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goodput:
    """Requests within the objectives, failures counted as outside."""

    objectives: dict[str, float]
    share: float
    low: float
    high: float
    """95 % interval of the share."""
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One target under one load, warm."""

    load: Load
    loop: Literal["closed", "open"]
    measured: int
    failures: dict[str, int]
    """By kind."""
    gave_up: bool
    """Whether the load was stopped because one request after the other failed."""
    reloads: int
    """Requests for which the backend loaded the model again; they are left out of the measures."""
    stopped_early: int
    """Answers that ended by themselves before their limit of tokens."""
    measures: tuple[Measure, ...]
    throughput: Throughput
    goodput: Goodput | None
    steadiness: Steadiness
    mean_prompt_tokens: float | None
    mean_cached_tokens: float | None
    """Prompt tokens that came from a cache: with many, first tokens come sooner than in production."""
    mean_output_tokens: float | None
    machine: MachineLoad
    samples: tuple[Sample, ...]
    """The measured requests themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetReport:
    """One target with one kind of work."""

    target: str
    work: str
    agent: str | None
    identity: ModelIdentity
    cold: tuple[Sample, ...]
    """Requests that each found the model unloaded; empty for a target that loads nothing here."""
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole measurement."""

    schema_version: Literal[1] = 1
    measured_at: str
    """ISO 8601, UTC."""
    environment: dict[str, Any]
    """Hardware, system and library versions."""
    harness: tuple[HarnessError, ...]
    targets: tuple[TargetReport, ...]


_REPORT = TypeAdapter(Report)


def report_text(report: Report) -> str:
    """A report as JSON."""
    return json.dumps(asdict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def load_report(path: Path) -> Report:
    """Read a report.

    Raises:
        ConfigError: the file cannot be read or is no report; the message names the place.
    """
    content = read_json(path)
    try:
        return _REPORT.validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: is no latency report: {first_problem(error)}") from error


def report_schema() -> dict[str, Any]:
    """JSON Schema of a report."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_REPORT.json_schema(),
    }


def summarise(run: Run, load: Load, machine: MachineLoad, objectives: Objectives) -> Level:
    """A level's figures.

    Args:
        run: what the load gave.
        load: how the target was asked.
        machine: what else the machine did meanwhile.
        objectives: what counts as good; empty where nobody said.
    """
    answered = [sample for sample in run.measured if sample.failure is None]
    warm = [sample for sample in answered if not sample.load_s]
    throughput = _throughput(run)
    return Level(
        load=load,
        loop="open" if load.rate is not None else "closed",
        measured=len(run.measured),
        failures=dict(Counter(s.failure for s in run.measured if s.failure is not None)),
        gave_up=run.gave_up,
        reloads=len(answered) - len(warm),
        stopped_early=sum(sample.finish == "stop" for sample in answered),
        measures=tuple(_measure(name, warm) for name in MEASURES),
        throughput=throughput,
        goodput=_goodput(run, objectives, throughput) if objectives and run.measured else None,
        steadiness=steadiness([sample.total_s for sample in warm]),
        mean_prompt_tokens=_mean([sample.prompt_tokens for sample in answered]),
        mean_cached_tokens=_mean([sample.cached_tokens for sample in answered]),
        mean_output_tokens=_mean([sample.output_tokens for sample in answered]),
        machine=machine,
        samples=tuple(run.measured),
    )


def _measure(name: str, samples: Sequence[Sample]) -> Measure:
    values = [value for s in samples if (value := MEASURES[name](s)) is not None]
    return Measure(name=name, n=len(values), percentiles=percentiles(values))


def _throughput(run: Run) -> Throughput:
    """What ended after the measuring began, until the last measured request ended."""
    window = run.ended_s - run.began_s
    ended = [
        sample
        for sample in (*run.measured, *run.others)
        if sample.failure is None and run.began_s < sample.ended_s <= run.ended_s
    ]
    if window <= 0:
        return Throughput(
            window_s=0.0,
            requests_per_s=0.0,
            output_tokens_per_s=None,
            tokens_per_s=None,
            effective_concurrency=0.0,
        )
    out = _sum([sample.output_tokens for sample in ended])
    prompt = _sum([sample.prompt_tokens for sample in ended])
    return Throughput(
        window_s=window,
        requests_per_s=len(ended) / window,
        output_tokens_per_s=None if out is None else out / window,
        tokens_per_s=None if out is None or prompt is None else (out + prompt) / window,
        effective_concurrency=sum(sample.total_s for sample in ended) / window,
    )


def _goodput(run: Run, objectives: Objectives, throughput: Throughput) -> Goodput:
    good = [float(holds(sample, objectives)) for sample in run.measured]
    share = mean_interval([[value] for value in good])
    failed = sum(sample.failure is not None for sample in run.measured)
    answered = len(good) - failed
    return Goodput(
        objectives=dict(objectives),
        share=share.mean,
        low=share.low,
        high=share.high,
        requests_per_s=throughput.requests_per_s * sum(good) / answered if answered else 0.0,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _mean(values: Sequence[int | None]) -> float | None:
    total = _sum(values)
    return None if total is None or not values else total / len(values)
