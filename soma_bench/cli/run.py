"""``soma-bench run``: live analyses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from soma_bench.cli.output import json_option, print_json, print_table, seconds
from soma_bench.errors import AnswerError, ConfigError
from soma_bench.files import first_problem, parse_json, read_text
from soma_bench.pipeline import Analysis, AnalysisResult, analyse
from soma_bench.providers.pool import ProviderPool
from soma_bench.routing.profile import Profile, load_profile
from soma_bench.routing.router import Routed, Router


@click.command(
    epilog="Example: soma-bench run data/examples/*.json --profile routing_profiles/demo.json"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--profile",
    "profile_path",
    required=True,
    type=click.Path(path_type=Path),
    help="The routing profile that says where each agent runs.",
)
@json_option
@click.pass_context
def run(ctx: click.Context, files: tuple[Path, ...], profile_path: Path, as_json: bool) -> None:
    """Analyse the cases in FILES (JSON) on the targets of a profile; print each report.

    Exit code 1 when an analysis got no usable answer from a model.
    """
    profile = load_profile(profile_path)
    analyses = [(path, load_analysis(path)) for path in files]
    failures = asyncio.run(_run_all(analyses, profile, as_json=as_json))
    ctx.exit(1 if failures else 0)


def load_analysis(path: Path) -> Analysis:
    """Read an analysis from a JSON file.

    Raises:
        ConfigError: it cannot be read or is no analysis; the message names the field.
    """
    text = read_text(path)
    parse_json(
        text, str(path)
    )  # refuses what the model's own reader lets pass: duplicate keys, NaN
    try:
        return Analysis.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error


async def _run_all(
    analyses: list[tuple[Path, Analysis]], profile: Profile, *, as_json: bool
) -> int:
    results: list[dict[str, Any]] = []
    failures = 0
    async with ProviderPool() as providers:
        router = Router(profile, providers)
        for path, analysis in analyses:
            try:
                result = await analyse(
                    analysis, router.ask, order=profile.pipeline, on_stage=_show_progress
                )
            except AnswerError as error:
                failures += 1
                click.echo(f"{path}: no report: {error}", err=True)
                results.append({"file": str(path), "error": str(error)})
                continue
            results.append(_as_json(path, result))
            if not as_json:
                _print(path, result)
    if as_json:
        print_json(results)
    return failures


def _show_progress(stage: Routed) -> None:
    spent = stage.completion.timings.total_s
    click.echo(f"{stage.agent}: {stage.target}, {seconds(spent)}", err=True)


def _print(path: Path, result: AnalysisResult) -> None:
    click.echo(f"\n{path}\n")
    click.echo(result.report.markdown)
    issues = "; ".join(f"{i.severity} {i.category}: {i.description}" for i in result.review.issues)
    click.echo(
        f"\nQC review: {result.review.verdict}, score {result.review.score} of 100"
        + (f"; {issues}" if issues else "")
        + "\n"
    )
    rows = [_stage_cells(stage) for stage in result.stages]
    total = sum(stage.completion.timings.total_s for stage in result.stages)
    rows.append(["all stages", "", seconds(total), "", "", "", ""])
    columns = ["stage", "target", ">time", ">prompt tok", ">output tok", ">thinking", "passed over"]
    print_table("Stages (loading models not counted)", columns, rows)


def _stage_cells(stage: Routed) -> list[str]:
    usage = stage.completion.usage
    tokens = (usage.prompt_tokens, usage.output_tokens, usage.thinking_tokens)
    return [
        stage.agent,
        str(stage.target),
        seconds(stage.completion.timings.total_s),
        *("?" if count is None else str(count) for count in tokens),
        "; ".join(stage.passed_over),
    ]


def _as_json(path: Path, result: AnalysisResult) -> dict[str, Any]:
    return {
        "file": str(path),
        "report": result.report.markdown,
        "review": result.review.model_dump(mode="json"),
        "stages": [
            {
                "agent": stage.agent,
                "target": str(stage.target),
                "output": stage.output.model_dump(mode="json"),
                "total_s": stage.completion.timings.total_s,
                "load_s": stage.completion.timings.load_s,
                "prompt_tokens": stage.completion.usage.prompt_tokens,
                "output_tokens": stage.completion.usage.output_tokens,
                "thinking_tokens": stage.completion.usage.thinking_tokens,
                "passed_over": list(stage.passed_over),
            }
            for stage in result.stages
        ],
    }
