"""``soma-bench run``: live analyses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from soma_bench.cli.options import profile_option, verify_option
from soma_bench.cli.output import dollars, json_option, print_json, print_table, seconds
from soma_bench.environment import read_environment
from soma_bench.errors import AnswerError, ConfigError
from soma_bench.files import first_problem, parse_json, read_text
from soma_bench.pipeline import Analysis, AnalysisResult, Draft, Machines, StageResult, analyse
from soma_bench.pipeline.deadline import stage_weights
from soma_bench.pipeline.events import (
    Event,
    RewriteFailed,
    RewriteStarted,
    StageEnded,
    StageFailed,
    StageFellBack,
    StageStarted,
)
from soma_bench.pipeline.machines import first_machines
from soma_bench.providers.pool import ProviderPool
from soma_bench.replay import Recorder
from soma_bench.routing.overrides import provider_factory, under
from soma_bench.routing.profile import Profile, load_profile
from soma_bench.routing.router import Router


@click.command(
    epilog="Example: soma-bench run data/examples/*.json --profile routing_profiles/demo.json"
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@profile_option
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    help="Seconds that one analysis may take; no limit by default.",
)
@click.option(
    "--record",
    "log",
    type=click.Path(path_type=Path),
    help="Append every call to this log, without identifiers, for soma-bench replay.",
)
@verify_option
@json_option
@click.pass_context
def run(
    ctx: click.Context,
    files: tuple[Path, ...],
    profile_path: Path,
    deadline_s: float | None,
    log: Path | None,
    verify: Path | None,
    as_json: bool,
) -> None:
    """Analyse the cases in FILES (JSON) on the targets of a profile; print each report.

    Exit code 1 when an analysis got no usable answer from a model.
    """
    profile = load_profile(profile_path, verify)
    analyses = [(path, load_analysis(path)) for path in files]
    recorder = None if log is None else Recorder(log)
    failures = asyncio.run(_run_all(analyses, profile, deadline_s, recorder, as_json=as_json))
    if recorder is not None:
        left_out = f"; {recorder.left_out} left out" if recorder.left_out else ""
        click.echo(f"{log}: {recorder.written} calls recorded{left_out}", err=True)
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
    analyses: list[tuple[Path, Analysis]],
    profile: Profile,
    deadline_s: float | None,
    recorder: Recorder | None,
    *,
    as_json: bool,
) -> int:
    results: list[dict[str, Any]] = []
    failures = 0
    environment = read_environment()
    effective = under(profile, environment)
    async with ProviderPool(provider_factory(profile, environment)) as providers:
        router = Router(profile, providers, environment=environment)
        machines = Machines(first_machines(router, effective))
        for path, analysis in analyses:
            try:
                result = await analyse(
                    analysis,
                    router.ask if recorder is None else recorder.recording(router.ask),
                    order=profile.pipeline,
                    deadline_s=deadline_s,
                    weights=stage_weights(effective),
                    machines=machines,
                    on_event=_show_progress,
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


def _show_progress(event: Event) -> None:
    click.echo(_line(event), err=True)


def _line(event: Event) -> str:
    match event:
        case StageStarted(agent=agent, queued_s=queued):
            return f"{agent}: asking" + (f", after {seconds(queued)} in the queue" * (queued > 0))
        case StageFellBack(agent=agent, target=target, passed_over=passed_over):
            return f"{agent}: fell back to {target}; " + "; ".join(passed_over)
        case StageEnded(result=stage):
            cost = f", {dollars(stage.cost_usd)}"
            return f"{stage.agent}: {stage.target}, {seconds(stage.seconds)}{cost}"
        case StageFailed(agent=agent, kind=kind):
            return f"{agent}: no answer ({kind})"
        case RewriteStarted(critical=critical):
            return f"qc_reviewer: {critical} critical, so the report is written anew"
        case RewriteFailed(why=why):
            return f"report_writer: the draft stays as it is: {why}"


def _print(path: Path, result: AnalysisResult) -> None:
    click.echo(f"\n{path}\n")
    click.echo(result.report.markdown)
    for number, draft in enumerate(result.drafts, 1):
        of = f" of draft {number}" if len(result.drafts) > 1 else ""
        click.echo(f"\nQC review{of}: {_review(draft)}")
    if result.rewrite_error:
        click.echo(f"\nThe report was not written anew: {result.rewrite_error}")
    click.echo()
    rows = [_stage_cells(stage) for stage in result.stages]
    total = sum(stage.completion.timings.total_s for stage in result.stages)
    whole = sum(stage.seconds for stage in result.stages)
    cost = dollars(result.cost_usd)
    rows.append(["all stages", "", seconds(total), seconds(whole), "", "", "", "", cost, ""])
    columns = ["stage", "target", ">answer", ">stage", ">queue"]
    columns += [">prompt tok", ">output tok", ">thinking", ">cost", "passed over"]
    title = "Stages (answer: without loading the model; stage: from asking to the answer)"
    print_table(title, columns, rows)


def _review(draft: Draft) -> str:
    review = draft.review
    issues = "; ".join(f"{i.severity} {i.category}: {i.description}" for i in review.issues)
    return f"{review.verdict}, score {review.score} of 100" + (f"; {issues}" if issues else "")


def _stage_cells(stage: StageResult) -> list[str]:
    usage = stage.completion.usage
    tokens = (usage.prompt_tokens, usage.output_tokens, usage.thinking_tokens)
    return [
        stage.agent,
        str(stage.target),
        seconds(stage.completion.timings.total_s),
        seconds(stage.seconds),
        seconds(stage.queued_s),
        *("?" if count is None else str(count) for count in tokens),
        dollars(stage.cost_usd),
        "; ".join(stage.passed_over),
    ]


def _as_json(path: Path, result: AnalysisResult) -> dict[str, Any]:
    return {
        "file": str(path),
        "report": result.report.markdown,
        "review": result.review.model_dump(mode="json"),
        "drafts": [
            {"report": draft.report.markdown, "review": draft.review.model_dump(mode="json")}
            for draft in result.drafts
        ],
        "rewrite_error": result.rewrite_error,
        "cost_usd": result.cost_usd,
        "stages": [
            {
                "agent": stage.agent,
                "round": stage.round,
                "target": str(stage.target),
                "reason": stage.reason,
                "privacy": stage.privacy,
                "output": stage.output.model_dump(mode="json"),
                "total_s": stage.completion.timings.total_s,
                "load_s": stage.completion.timings.load_s,
                "stage_s": stage.seconds,
                "queued_s": stage.queued_s,
                "prompt_tokens": stage.completion.usage.prompt_tokens,
                "output_tokens": stage.completion.usage.output_tokens,
                "thinking_tokens": stage.completion.usage.thinking_tokens,
                "cost_usd": stage.cost_usd,
                "fallback_used": stage.fallback_used,
                "passed_over": list(stage.passed_over),
            }
            for stage in result.stages
        ],
    }
