"""``soma-bench judge``: samples to label, and what labels say of a judge."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from soma_bench.cli.options import read_target, store_option
from soma_bench.cli.output import json_option, print_json, print_table
from soma_bench.errors import ConfigError
from soma_bench.providers.pool import ProviderPool
from soma_bench.scoring.agreement import Estimate
from soma_bench.scoring.calibrate import (
    Calibration,
    Verdict,
    calibrate,
    collect_verdicts,
    load_verdicts,
)
from soma_bench.scoring.judge import Judge, RubricItem
from soma_bench.scoring.judged import LEAST_LABELS
from soma_bench.scoring.labels import (
    Candidate,
    Label,
    draw_sample,
    load_keys,
    load_labels,
    save_rows,
)
from soma_bench.settings import store_location
from soma_bench.sweeps.store import Store
from soma_bench.types import AGENTS, Target

_PATH = click.Path(path_type=Path)
_FIGURES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "kappa": "kappa, quadratic",
    "alpha": "Krippendorff's alpha",
    "labellers_alpha": "alpha of the labellers",
    "test_retest": "same word when asked again",
    "length_bias": "overrates longer answers by",
    "self_preference": "overrates its own family by",
}


@click.group(epilog="Example: soma-bench judge calibrate labels.jsonl --verdicts verdicts.jsonl")
def judge() -> None:
    """Draw answers to label, and measure a judge by the labels."""


@judge.command(
    epilog='Example: soma-bench judge sample demo --agent report_writer --out labels.jsonl --ask "names-side:Does the impression name a side?"'
)
@click.argument("run")
@click.option(
    "--agent", type=click.Choice(AGENTS), required=True, help="Whose answers are to be labelled."
)
@click.option(
    "--ask",
    "questions",
    multiple=True,
    required=True,
    metavar="ID:QUESTION",
    help="A yes-no question about every answer. Repeatable.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=LEAST_LABELS,
    show_default=True,
    help="Answers to draw.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Another seed draws other answers."
)
@click.option("--out", type=_PATH, required=True, help="Label file to write.")
@click.option("--key", type=_PATH, help="Key file to write. [default: OUT with .key.jsonl]")
@store_option
@json_option
def sample(
    run: str,
    agent: str,
    questions: tuple[str, ...],
    count: int,
    seed: int,
    out: Path,
    key: Path | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Draw answers of RUN at random for people to label, without saying whose they are."""
    items = [_question(text) for text in questions]
    for path in (out, key := key or out.with_suffix(".key.jsonl")):
        if path.exists():
            raise ConfigError(f"{path}: is there already and may hold labels; name another file")
    with Store(store_location(store)) as opened:
        candidates = [
            Candidate(
                trial=trial["key"], target=Target.parse(trial["target"]), text=trial["answer"]
            )
            for trial in opened.trials(opened.find_run(run).id)
            if trial["status"] == "done" and trial["agent"] == agent and trial["answer"].strip()
        ]
    rows, keys = draw_sample(candidates, items, count, seed=seed)
    save_rows(keys, key)
    save_rows(rows, out)
    if as_json:
        drawn = {"answers": count, "questions": len(rows), "out": str(out), "key": str(key)}
        print_json(drawn)
    else:
        click.echo(f"{out}: {len(rows)} questions about {count} answers; whose they are: {key}")


@judge.command(
    "calibrate",
    epilog="Example: soma-bench judge calibrate labels.jsonl --judge ollama:gemma3:27b --verdicts verdicts.jsonl",
)
@click.argument("labels", type=_PATH)
@click.option("--judge", "target", metavar="TARGET", help="Ask this model. [default: ask nobody]")
@click.option("--verdicts", type=_PATH, help="Verdicts to write with --judge, to read without.")
@click.option("--key", type=_PATH, help="Whose the answers are, for self-preference.")
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="How often --judge is asked each question.",
)
@click.option(
    "--allow-cloud", is_flag=True, help="Let the answers' texts go to a judge in the cloud."
)
@json_option
@click.pass_context
def calibrate_command(
    ctx: click.Context,
    labels: Path,
    target: str | None,
    verdicts: Path | None,
    key: Path | None,
    repeats: int,
    allow_cloud: bool,
    as_json: bool,
) -> None:
    """Say how far a judge agrees with the people's labels in LABELS (JSONL).

    Exit code 1 where there are too few random labels: the judge then stays uncalibrated, and no
    profile and no gate takes its figures.
    """
    rows = load_labels(labels)
    asked = None if target is None else read_target(target, "--judge")
    if asked is not None:
        said = asyncio.run(_ask(asked, rows, repeats, allow_cloud=allow_cloud))
        if verdicts is not None:
            save_rows(said, verdicts)
    elif verdicts is not None:
        said = load_verdicts(verdicts)
    else:
        raise ConfigError("give --judge to ask a model, or --verdicts to read what it has said")
    found = calibrate(rows, said, targets=load_keys(key) if key else None, judge=asked)
    if as_json:
        print_json(_as_json(found))
    else:
        _print(found)
    ctx.exit(0 if found.met.is_calibrated else 1)


async def _ask(
    target: Target, rows: list[Label], repeats: int, *, allow_cloud: bool
) -> list[Verdict]:
    async with ProviderPool() as providers:
        asked = Judge(
            provider=providers.get(target.provider), target=target, allow_cloud=allow_cloud
        )
        return await collect_verdicts(asked, rows, repeats=repeats, on_progress=_show_progress)


def _show_progress(done: int, planned: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {planned} calls", err=True, nl=done == planned)


def _question(text: str) -> RubricItem:
    name, colon, question = text.partition(":")
    if not colon or not question.strip():
        raise ConfigError(f"--ask: {text!r} is not ID:QUESTION")
    return RubricItem(name.strip(), question.strip())


def _as_json(found: Calibration) -> dict[str, Any]:
    figures: dict[str, Estimate | None] = {name: getattr(found, name) for name in _FIGURES}
    return {
        "calibrated": found.met.is_calibrated,
        "labels": found.labels,
        "answers": found.answers,
        "invalid_rate": found.invalid_rate,
        **{name: None if each is None else each._asdict() for name, each in figures.items()},
        "met": {"metric": found.met.metric, **asdict(found.met)},
    }


def _print(found: Calibration) -> None:
    rows = []
    for name, words in _FIGURES.items():
        figure: Estimate | None = getattr(found, name)
        rows.append([words, *("?" if figure is None else _figure(figure.value), _range(figure))])
    rows.append(["invalid words", _figure(found.invalid_rate), ""])
    rows.append([found.met.metric, _figure(found.met.mean), _range(found.met)])
    print_table(
        f"{found.labels} labels on {found.answers} answers", ["", ">value", ">95 % interval"], rows
    )
    if not found.met.is_calibrated:
        click.echo(
            f"\nuncalibrated: {found.met.labels} randomly drawn answers are labelled, and"
            f" {LEAST_LABELS} are needed"
        )


def _range(figure: Estimate | Any) -> str:
    if figure is None or figure.low is None or figure.high is None:
        return "?"
    return f"{_figure(figure.low)} to {_figure(figure.high)}"


def _figure(value: float) -> str:
    return f"{value:.3f}"
