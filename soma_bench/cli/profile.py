"""``soma-bench profile`` and ``soma-bench export``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from soma_bench.cli.options import verify_option
from soma_bench.cli.output import json_option, print_json, print_table, tell_of_retirements
from soma_bench.errors import ConfigError
from soma_bench.files import read_text
from soma_bench.routing.difference import diff as differences
from soma_bench.routing.difference import figures
from soma_bench.routing.export import (
    FORMATS,
    ExportFormat,
    export_profile,
    format_of,
    write_export,
)
from soma_bench.routing.export_check import check_export
from soma_bench.routing.lint import LEAST_CASES, MOST_DAYS
from soma_bench.routing.lint import lint as find_doubts
from soma_bench.routing.profile import Profile, load_profile, resolve, save_profile
from soma_bench.types import AGENTS, AgentName, Target

_file = click.Path(path_type=Path)


@click.group(epilog="Example: soma-bench profile validate routing_profiles/demo.json")
def profile() -> None:
    """Validate, show and compare routing profiles."""


@profile.command(epilog="Example: soma-bench profile validate routing_profiles/demo.json")
@click.argument("path", type=_file)
@json_option
def validate(path: Path, as_json: bool) -> None:
    """Check the profile at PATH: its fields, targets, privacy, evidence and digest."""
    loaded = load_profile(path)
    _tell_of_retirements(loaded)
    digest = loaded.provenance.digest
    if as_json:
        print_json({"valid": True, "name": loaded.name, "digest": digest})
        return
    sealed = f"digest {digest}" if digest else "written by hand: no evidence and no digest"
    click.echo(f"{path}: valid; {len(loaded.evidence)} rows of evidence; {sealed}")


@profile.command(epilog="Example: soma-bench profile show routing_profiles/demo.json")
@click.argument("path", type=_file)
@json_option
def show(path: Path, as_json: bool) -> None:
    """Show each agent's route in the profile at PATH, with the evidence for it."""
    loaded = load_profile(path)
    _tell_of_retirements(loaded)
    if as_json:
        print_json(loaded.model_dump(mode="json"))
        return
    rows = []
    for agent in AGENTS:
        route = resolve(loaded, agent)
        fallback = "none" if route.fallback is None else str(route.fallback)
        proof = _proof(loaded, agent, route.primary)
        rows.append([agent, str(route.primary), proof, fallback, route.privacy])
    print_table(
        f"profile {loaded.name}",
        ["agent", "primary", "evidence", "fallback", "privacy"],
        rows,
    )
    click.echo()
    for agent in AGENTS:
        click.echo(f"{agent}: {loaded.routing[agent].reason}")
    runs = ", ".join(loaded.provenance.run_ids) or "none"
    click.echo(f"\npipeline {loaded.pipeline}; measured in runs: {runs}")
    if loaded.synthetic_evidence:
        click.echo("synthetic weights: this profile is a test of the method, not a recommendation")


def _tell_of_retirements(loaded: Profile) -> None:
    routes = [resolve(loaded, agent) for agent in AGENTS]
    tell_of_retirements(
        target for route in routes for target in (route.primary, route.fallback) if target
    )


def _proof(loaded: Profile, agent: AgentName, target: Target) -> str:
    for row in loaded.evidence:
        if (row.agent, row.target) == (agent, str(target)):
            return figures(row)
    return "none"


@profile.command(epilog="Example: soma-bench profile diff routing_profiles/a.json new.json")
@click.argument("before", type=_file)
@click.argument("after", type=_file)
@json_option
@click.pass_context
def diff(ctx: click.Context, before: Path, after: Path, as_json: bool) -> None:
    """Say what the profile AFTER does differently from BEFORE; exit code 1 where it does."""
    lines = differences(load_profile(before), load_profile(after))
    if as_json:
        print_json({"differences": lines})
    else:
        click.echo("\n".join(lines) or "no differences")
    ctx.exit(1 if lines else 0)


@profile.command(epilog="Example: soma-bench profile lint routing_profiles/soma-default.json")
@click.argument("path", type=_file)
@click.option(
    "--machine",
    "machine_name",
    default="here",
    show_default=True,
    help="The machine that is to run it: here, m4max-36gb or m4max-64gb.",
)
@click.option(
    "--least-cases",
    type=click.IntRange(1),
    default=LEAST_CASES,
    show_default=True,
    help="Evidence of fewer cases is too small.",
)
@click.option(
    "--most-days",
    type=click.IntRange(1),
    default=MOST_DAYS,
    show_default=True,
    help="Older evidence is too old.",
)
@json_option
@click.pass_context
def lint(
    ctx: click.Context,
    path: Path,
    machine_name: str,
    least_cases: int,
    most_days: int,
    as_json: bool,
) -> None:
    """Say what is doubtful about the profile at PATH; exit code 1 where something is.

    Thresholds that the primary itself passes, targets without evidence, evidence that is synthetic, simulated, small, old, or from other hardware or weights, retired models, cheaper targets that may be as good, and models that do not fit into memory together.
    """
    from soma_bench.cli.profile_lint import surroundings

    loaded = load_profile(path)
    around = surroundings(loaded, machine_name, least_cases=least_cases, most_days=most_days)
    findings = find_doubts(loaded, around)
    if as_json:
        print_json({"name": loaded.name, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            click.echo(f"{finding.rule}: {finding}")
        click.echo(f"{path}: {len(findings) or 'no'} findings")
    ctx.exit(1 if findings else 0)


@profile.command(epilog="Example: soma-bench profile keygen ~/.soma/signing.key")
@click.argument("private", type=_file)
@click.option("--public", type=_file, help="File of the public key. [default: PRIVATE.pub]")
@json_option
def keygen(private: Path, public: Path | None, as_json: bool) -> None:
    """Make a pair of keys: PRIVATE, which only you can read, and the public one beside it."""
    from soma_bench.routing.signing import make_keys

    beside = public or private.with_name(f"{private.name}.pub")
    key = make_keys(private, beside)
    if as_json:
        print_json({"private": str(private), "public": str(beside), "key": key.id})
        return
    click.echo(f"{private}: the private key; keep it to yourself, out of any repository")
    click.echo(f"{beside}: the public key {key.id}, for whoever loads profiles")


@profile.command(epilog="Example: soma-bench profile sign demo.json --key ~/.soma/signing.key")
@click.argument("path", type=_file)
@click.option("--key", type=_file, required=True, help="File of the private key.")
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=90,
    show_default=True,
    help="How long it is valid.",
)
@click.option("--out", type=_file, help="File to write. [default: PATH itself]")
@json_option
def sign(path: Path, key: Path, days: int, out: Path | None, as_json: bool) -> None:
    """Sign the profile at PATH until so many days from now."""
    from soma_bench.routing.signing import read_private_key, sign_profile

    until = datetime.now(UTC) + timedelta(days=days)
    signed = sign_profile(load_profile(path), read_private_key(key), until)
    save_profile(signed, out or path)
    assert signed.signature is not None
    if as_json:
        told = {"out": str(out or path), "key": signed.signature.key}
        print_json({**told, "valid_until": signed.valid_until})
        return
    click.echo(f"{out or path}: signed with {signed.signature.key}, until {signed.valid_until}")


@profile.command(epilog="Example: soma-bench profile verify demo.json --key signing.key.pub")
@click.argument("path", type=_file)
@click.option("--key", type=_file, required=True, help="File of the public key.")
@json_option
@click.pass_context
def verify(ctx: click.Context, path: Path, key: Path, as_json: bool) -> None:
    """Check that the profile at PATH is as the owner of the key signed it, and still valid.

    Exit code 1 when it is altered, unsigned, signed by another or expired; the reason is said.
    """
    from soma_bench.routing.signing import read_public_key

    public = read_public_key(key)
    read_text(path)
    try:
        loaded = load_profile(path, public)
    except ConfigError as refusal:
        if as_json:
            print_json({"verified": False, "reason": str(refusal)})
        else:
            click.echo(f"refused: {refusal}")
        ctx.exit(1)
    if as_json:
        print_json({"verified": True, "name": loaded.name, "valid_until": loaded.valid_until})
        return
    click.echo(f"{path}: profile {loaded.name} is as it was signed; until {loaded.valid_until}")


@profile.command(epilog="Example: soma-bench profile schemas schemas")
@click.argument("folder", type=_file)
@json_option
def schemas(folder: Path, as_json: bool) -> None:
    """Write the JSON Schemas of a profile, an exported configuration and a recorded call to FOLDER."""
    from soma_bench.cli.schemas import publish

    written = publish(folder)
    if as_json:
        print_json({"folder": str(folder), "changed": written})
        return
    for name, changed in written.items():
        click.echo(f"{folder / name}: {'written' if changed else 'unchanged'}")


@click.command(epilog="Example: soma-bench export demo.json --out backend/config/llm.config.js")
@click.argument("path", metavar="PROFILE", type=_file)
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="The profile itself, an ES module or a CommonJS module for Node, or environment variables."
    " [default: by the file's name]",
)
@click.option("--out", type=_file, help="File to write. [default: print]")
@click.option("--check", type=_file, help="Deployed file to compare with PROFILE; writes nothing.")
@verify_option
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    path: Path,
    form: ExportFormat | None,
    out: Path | None,
    check: Path | None,
    verify: Path | None,
    as_json: bool,
) -> None:
    """Write PROFILE in the form that a backend loads. No form ever holds an API key.

    The file is replaced in one step, and what it replaces is kept beside it as NAME.previous. With --check a deployed file is compared instead: exit code 0 where it is what PROFILE says, 1 where it is not, 2 where it cannot be read.
    """
    if out is not None and check is not None:
        raise ConfigError("--out writes a file and --check writes none: give one of them")
    named = check or out
    if form is None and named is None:
        raise ConfigError(f"--format is missing; choose one of {', '.join(FORMATS)}")
    chosen = form or format_of(named or path)
    loaded = load_profile(path, verify)
    if check is not None:
        found = check_export(loaded, chosen, check)
        if as_json:
            told = {"format": chosen, "file": str(check), "same": not found, "differences": found}
            print_json(told)
        else:
            for line in found:
                click.echo(f"{check}: {line}")
            click.echo(
                f"{check}: {'differs from' if found else 'is what'} {path}{'' if found else ' says'}"
            )
        ctx.exit(1 if found else 0)
    if out is None:
        text = export_profile(loaded, chosen)
        if as_json:
            print_json({"format": chosen, "text": text})
        else:
            click.echo(text, nl=False)
        return
    changed = write_export(loaded, chosen, out)
    if as_json:
        print_json({"format": chosen, "out": str(out), "changed": changed})
    else:
        click.echo(f"{out}: {'written' if changed else 'unchanged'}")
