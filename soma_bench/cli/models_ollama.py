"""The part of ``soma-bench models`` that speaks to an Ollama server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from soma_bench.cli.downloads import download_bar, megabytes
from soma_bench.cli.output import print_json, print_table
from soma_bench.errors import ConfigError, ProviderError, SomaError
from soma_bench.providers.ollama import Ollama
from soma_bench.providers.ollama_facts import Tag, canonical_name, is_cloud_tag
from soma_bench.providers.ollama_models import (
    Shelf,
    known_not_to_exist,
    library_size,
    which_do,
)
from soma_bench.types import AGENTS

T = TypeVar("T")

MEMORY_SHARE = 0.75
"""Part of a machine's memory that models may take: the working set of a Mac's GPU."""


@dataclass(frozen=True, slots=True)
class Looked:
    """An Ollama server's models, or why they are not known."""

    url: str
    tags: tuple[Tag, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A model that a profile or a sweep needs."""

    model: str
    used_by: tuple[str, ...]
    state: str
    """``present``, ``missing``, ``cloud`` (fetched by nobody) or ``unknown`` (no such model)."""
    size_bytes: int | None
    size_from: str | None
    fits: bool | None
    """Whether its weights alone fit into the memory that models may take; None if nobody knows."""
    note: str = ""


def look() -> Looked:
    """The models on the server that the environment names."""

    async def installed(shelf: Shelf) -> Looked:
        try:
            return Looked(shelf.base_url, tuple((await shelf.installed()).values()))
        except ProviderError as error:
            return Looked(shelf.base_url, reason=str(error))

    return _on_shelf(installed)


def looked_record(looked: Looked) -> dict[str, Any]:
    """What was seen, for machines."""
    return {
        "url": looked.url,
        "models": [tag_record(tag) for tag in looked.tags],
        "reason": looked.reason,
    }


def tell_looked(looked: Looked) -> None:
    """What was seen, for people."""
    if looked.reason:
        click.echo(looked.reason, err=True)
        return
    rows = [
        [
            tag.name,
            tag.quantization or "?",
            megabytes(tag.size_bytes),
            "in a cloud" if tag.remote else "",
            (tag.digest or "?").removeprefix("sha256:")[:12],
        ]
        for tag in looked.tags
    ]
    print_table(f"ollama at {looked.url}", ["name", "weights", ">size", "", "digest"], rows)


def tag_record(tag: Tag) -> dict[str, Any]:
    """A listed model, for machines."""
    return {
        "name": tag.name,
        "digest": tag.digest,
        "size_bytes": tag.size_bytes,
        "quantization": tag.quantization,
        "parameter_size": tag.parameter_size,
        "cloud": tag.remote,
    }


def shown(model: str) -> dict[str, Any]:
    """What the server says of one model.

    Raises:
        SomaError: it is not installed, runs in a cloud, or the server cannot be asked.
    """

    async def ask() -> dict[str, Any]:
        provider = Ollama(base_url=_base_url(None))
        try:
            facts = await provider.facts(model)
            identity = await provider.identity(model)
        finally:
            await provider.close()
        can = facts.capabilities()
        return {
            **tag_record(facts.tag),
            "family": facts.family,
            "context_tokens": facts.context_tokens,
            "vision": can.vision,
            "thinking": can.thinking_taken,
            "engine": identity.engine,
        }

    return asyncio.run(ask())


def pull(model: str, *, as_json: bool) -> None:
    """Have the server fetch one model, and say so.

    Raises:
        SomaError: it could not be fetched.
    """
    with download_bar() as report:
        pulled = _on_shelf(lambda shelf: shelf.pull(model, report))
    if as_json:
        print_json({"written": pulled.written, "model": tag_record(pulled.tag)})
        return
    did = "fetched" if pulled.written else "already there"
    click.echo(f"{did}: {pulled.tag.name} ({megabytes(pulled.tag.size_bytes)}), on the server")


def setup(file: Path, *, fetch: bool, as_json: bool) -> bool:
    """Show which models a file needs and, if told to, fetch them.

    Returns:
        Whether every model is there, exists and fits.

    Raises:
        ConfigError: the file is neither a profile nor a sweep.
        ProviderError: the server cannot be asked.
    """
    needed_by, base_url = _models_in(file)
    share = _share_bytes() if _shelf_is_here(base_url) else None

    async def plan(shelf: Shelf) -> list[Needed]:
        present = await shelf.installed() if needed_by else {}
        return [_judged(name, users, present, share) for name, users in needed_by.items()]

    needed = _on_shelf(plan, base_url)
    wanted = [item.model for item in needed if item.state == "missing" and item.fits is not False]
    problems: dict[str, str] = {}
    if not as_json:
        _tell_plan(file, needed, share)
    if wanted and fetch:
        problems = _fetch(wanted, base_url, quiet=as_json)
        needed = _on_shelf(plan, base_url)
    if as_json:
        print_json(_plan_record(needed, share, problems))
    elif wanted and not fetch:
        click.echo(f"to fetch {len(wanted)}: soma-bench models setup {file} --yes")
    for problem in problems.values():
        click.echo(f"not fetched: {problem}", err=True)
    return all(item.state == "present" and item.fits is not False for item in needed)


def _fetch(models: list[str], base_url: str | None, *, quiet: bool) -> dict[str, str]:
    """Fetch one after the other; what went wrong, by model."""
    problems: dict[str, str] = {}
    for model in models:
        try:
            with download_bar() as report:
                pulled = _on_shelf(lambda shelf, m=model, r=report: shelf.pull(m, r), base_url)  # type: ignore[misc]
        except SomaError as error:
            problems[model] = str(error)
            continue
        if not quiet:
            click.echo(f"fetched: {pulled.tag.name} ({megabytes(pulled.tag.size_bytes)})")
    return problems


def _judged(
    model: str, used_by: tuple[str, ...], present: dict[str, Tag], share: float | None
) -> Needed:
    """What is known of one needed model."""
    tag = present.get(model)
    if is_cloud_tag(model) or (tag and tag.remote):
        note = "runs in Ollama's cloud; choose a model without -cloud"
        return Needed(
            model=model,
            used_by=used_by,
            state="cloud",
            size_bytes=None,
            size_from=None,
            fits=None,
            note=note,
        )
    size = tag.size_bytes if tag else None
    source = "installed" if tag else None
    note = ""
    state = "present" if tag else "missing"
    if tag is None and known_not_to_exist(model):
        state, note = "unknown", which_do(model)
    elif tag is None and (known := library_size(model)):
        size, source = known.size_bytes, f"library, {known.as_of}"
    fits = None if size is None or share is None else size <= share
    if fits is False:
        note = "its weights alone are more than models may take; choose a smaller one"
    return Needed(
        model=model,
        used_by=used_by,
        state=state,
        size_bytes=size,
        size_from=source,
        fits=fits,
        note=note,
    )


def _tell_plan(file: Path, needed: list[Needed], share: float | None) -> None:
    if not needed:
        click.echo(f"{file} needs no Ollama model")
        return
    words = {"present": "there", "missing": "to fetch", "unknown": "does not exist"}
    rows = [
        [
            item.model,
            ", ".join(item.used_by),
            megabytes(item.size_bytes),
            item.size_from or "",
            words.get(item.state, item.state),
            item.note,
        ]
        for item in needed
    ]
    columns = ["model", "used by", ">size", "known from", "state", ""]
    print_table(f"Ollama models for {file}", columns, rows)
    total = _total(needed)
    if share is None or total is None:
        click.echo("whether they fit together is not known")
        return
    word = "fit" if total <= share else "do not fit"
    more = "" if total <= share else "; Ollama unloads one to load another"
    click.echo(
        f"their weights, {megabytes(total)}, {word} together into the {megabytes(int(share))} that "
        f"models may take here (75 % of memory; contexts come on top){more}"
    )


def _plan_record(
    needed: list[Needed], share: float | None, problems: dict[str, str]
) -> dict[str, Any]:
    total = _total(needed)
    return {
        "models": [
            {
                "model": item.model,
                "used_by": list(item.used_by),
                "state": item.state,
                "size_bytes": item.size_bytes,
                "size_from": item.size_from,
                "fits": item.fits,
                "note": problems.get(item.model, item.note),
            }
            for item in needed
        ],
        "total_bytes": total,
        "memory_bytes": None if share is None else int(share),
        "fits_together": None if share is None or total is None else total <= share,
    }


def _total(needed: list[Needed]) -> int | None:
    """Bytes of all of them; None where one is not known."""
    sizes = [item.size_bytes for item in needed if item.state in ("present", "missing")]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _models_in(file: Path) -> tuple[dict[str, tuple[str, ...]], str | None]:
    """The Ollama models that a profile or sweep names, with their agents, and the server's address."""
    users: dict[str, list[str]] = {}
    base_url: str | None = None
    if file.suffix == ".json":
        from soma_bench.routing.profile import load_profile, resolve

        profile = load_profile(file)
        base_url = profile.providers.ollama.base_url
        routes = [resolve(profile, agent) for agent in AGENTS]
        pairs = [
            (target, route.agent) for route in routes for target in (route.primary, route.fallback)
        ]
    elif file.suffix in (".yaml", ".yml"):
        from soma_bench.sweeps.spec import load_sweep

        sweep = load_sweep(file)
        pairs = [
            (target, agent)
            for group in sweep.targets
            for agent in group.agents or sweep.suites
            for target in group.targets()
        ]
    else:
        raise ConfigError(f"{file}: is neither a profile (.json) nor a sweep (.yaml)")
    for target, agent in pairs:
        if target is not None and target.provider == "ollama":
            agents = users.setdefault(canonical_name(target.model), [])
            if agent not in agents:
                agents.append(agent)
    return {model: tuple(agents) for model, agents in sorted(users.items())}, base_url


def _share_bytes() -> float:
    """Memory that models may take on this machine."""
    import psutil

    return float(psutil.virtual_memory().total * MEMORY_SHARE)


def _shelf_is_here(base_url: str | None) -> bool:
    """Whether the server runs on this machine, whose memory can be looked up."""
    return Shelf(_base_url(base_url)).is_loopback


def _base_url(given: str | None) -> str | None:
    """The server's address: the environment's, else the file's."""
    from soma_bench.environment import read_environment

    return read_environment().ollama_base_url or given


def _on_shelf(work: Callable[[Shelf], Awaitable[T]], base_url: str | None = None) -> T:
    """Do something with the server's models."""

    async def run() -> T:
        shelf = Shelf(_base_url(base_url))
        try:
            return await work(shelf)
        finally:
            await shelf.close()

    return asyncio.run(run())
