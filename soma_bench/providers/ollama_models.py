"""Models on an Ollama server's disk, and how they get there.

Ollama itself fetches models from its library and resumes what was broken off. What the library has
cannot be asked before, so sizes and names come from a dated table, ``ollama_library.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from soma_bench.errors import ConfigError, ProviderError
from soma_bench.providers import remote
from soma_bench.providers.clock import Clock
from soma_bench.providers.ollama_client import DEFAULT_URL, NAME, Connection, Json
from soma_bench.providers.ollama_facts import Tag, canonical_name, refuse_cloud, tags_from, whole
from soma_bench.providers.workspace import Report, no_report
from soma_bench.types import Limits

LIBRARY = Path(__file__).with_name("ollama_library.json")
_UNKNOWN_NAME = "file does not exist"
_QUICK = Limits(connect_s=2.0, total_s=10.0)
_STALL_S = 120.0
"""A pull that reports nothing for so long has stopped; the server tries again by itself before."""
_PATIENT = Limits(first_token_s=_STALL_S, between_tokens_s=_STALL_S, total_s=7 * 86_400.0)


@dataclass(frozen=True, slots=True)
class LibrarySize:
    """What the table knows of a model's size."""

    size_bytes: int
    as_of: str
    """Year and month."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model that was asked for, and whether it had to be fetched."""

    tag: Tag
    written: bool


def library_size(model: str) -> LibrarySize | None:
    """Size of a model by the table; None where it is not in it."""
    family, _, tag = model.partition(":")
    entry = _library()["models"].get(family, {})
    size = entry.get("tags", {}).get(tag)
    return None if size is None else LibrarySize(size, entry["as_of"])


def known_not_to_exist(model: str) -> bool:
    """Whether a name is one of those that are often tried and do not exist."""
    near = _library()["not_there"]["nearest"]
    return model in near or model.removesuffix(":latest") in near


def which_do(model: str) -> str:
    """What the table knows instead of a model that does not exist; empty where it knows nothing."""
    family = model.partition(":")[0]
    near = _library()["not_there"]["nearest"]
    entry: Mapping[str, Any] = _library()["models"].get(family, {})
    facts = []
    if entry:
        there = ", ".join(f"{family}:{tag}" for tag in entry["tags"])
        facts.append(f"there are {there} (as of {entry['as_of']})")
    if nearest := near.get(model) or near.get(family):
        facts.append(f"nearest: {', '.join(nearest)}")
    return "; ".join(facts)


class Shelf:
    """The models on one Ollama server's disk.

    Args:
        base_url: the server's address; ``http://127.0.0.1:11434`` by default.

    Raises:
        ConfigError: the address is not a plain http or https URL.
    """

    def __init__(self, base_url: str | None = None) -> None:
        url = base_url or DEFAULT_URL
        self.is_loopback = remote.is_loopback(url)
        self._connection = Connection(url, _QUICK, direct=self.is_loopback)
        self.base_url = self._connection.base_url

    async def installed(self) -> dict[str, Tag]:
        """The models by exact name, sorted, with those that only stand for one in a cloud.

        Raises:
            ProviderError: the server cannot be asked.
        """
        answer = await Clock(NAME, _QUICK).wait_whole(self._connection.get("/api/tags"))
        return {tag.name: tag for tag in sorted(tags_from(answer), key=lambda tag: tag.name)}

    async def pull(self, model: str, report: Report = no_report) -> Pulled:
        """Have the server fetch a model; one that is there already is left alone.

        A pull that was stopped goes on where it was when it is asked for again.

        Raises:
            ConfigError: the library has no such model.
            PrivacyError: the model would run in a cloud.
            ProviderError: the server cannot be asked, or the pull broke off.
        """
        refuse_cloud(model)
        name = canonical_name(model)
        present = await self.installed()
        if name in present:
            return Pulled(present[name], written=False)
        await self._fetch(name, report)
        present = await self.installed()
        if name not in present:
            raise ProviderError(NAME, f"{name} was pulled and is not listed", kind="backend")
        return Pulled(present[name], written=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def _fetch(self, name: str, report: Report) -> None:
        clock = Clock(NAME, _PATIENT)
        body: Json = {"model": name, "stream": True}
        layers: dict[str, tuple[int, int]] = {}
        status = ""
        try:
            async with aclosing(
                self._connection.lines("/api/pull", body, clock.wait_next)
            ) as lines:
                async for line in lines:
                    clock.token(thinking=False)
                    status = str(line.get("status") or status)
                    total = whole(line.get("total"))
                    if total:
                        layers[str(line.get("digest"))] = (whole(line.get("completed")) or 0, total)
                    done_bytes = sum(done for done, _ in layers.values())
                    report(
                        f"{name}: {status}", done_bytes, sum(size for _, size in layers.values())
                    )
        except ProviderError as error:
            raise _explained(error, name) from None
        if status != "success":
            raise _explained(remote.ended_early(NAME), name)


def _explained(error: ProviderError, name: str) -> ConfigError | ProviderError:
    """The failure of a pull, with what to do."""
    if _UNKNOWN_NAME in str(error):
        known = which_do(name) or "check its name"
        return ConfigError(f"ollama: Ollama's library has no model {name!r}; {known}")
    if error.kind == "not_running":
        return error
    text = str(error).removeprefix(f"{NAME}: ")
    return ProviderError(
        NAME,
        f"pulling {name} stopped: {text}. The same command goes on where it stopped",
        kind=error.kind,
        wait_s=error.wait_s,
        limit=error.limit,
    )


@cache
def _library() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(LIBRARY.read_text(encoding="utf-8"))
    return table
