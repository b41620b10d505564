"""What both cloud providers' tests share: ways to ask, requests, failures, and the hunt for keys."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from servers.base import Fault
from soma_bench.providers.base import Provider
from soma_bench.types import Completion, Image, Limits, Message, Request

Ask = Callable[[Provider, Request], Awaitable[Completion]]

SHORT = Limits(connect_s=0.5, first_token_s=0.3, between_tokens_s=0.3, total_s=0.6)
PICTURE = Image(b"\x89PNG\r\n\x1a\n", "image/png")
SCHEMA = {
    "type": "object",
    "properties": {
        "side": {"type": "string", "enum": ["left", "right"]},
        "size_mm": {"type": "integer", "minimum": 1, "maximum": 300},
        "note": {"type": "string", "maxLength": 20},
    },
    "required": ["side", "size_mm", "note"],
    "additionalProperties": False,
}


def request(model: str, **changes: Any) -> Request:
    messages = (Message("system", "You read CT reports."), Message("user", "Is there a nodule?"))
    return Request(**{"model": model, "messages": messages, "max_tokens": 64, **changes})


async def complete(provider: Provider, sent: Request) -> Completion:
    return await provider.complete(sent)


async def stream(provider: Provider, sent: Request) -> Completion:
    chunks = [chunk async for chunk in provider.stream(sent)]
    completion = chunks[-1].completion
    assert completion is not None
    assert all(chunk.completion is None for chunk in chunks[:-1])
    return completion


both = pytest.mark.parametrize("ask", [complete, stream], ids=["complete", "stream"])


def run(provider: Provider, work: Callable[[Provider], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(go())


def broken(after: int) -> list[Any]:
    """Faults of the transport and their kinds, breaking a stream after some pieces."""
    return [
        pytest.param(Fault(after=after, then="reset"), "cut_off", id="reset"),
        pytest.param(Fault(after=0, then="reset"), "cut_off", id="reset-at-once"),
        pytest.param(Fault(after=after, then="end"), "ended_early", id="end"),
        pytest.param(Fault(after=after, then="garbage"), "malformed", id="garbage"),
        pytest.param(Fault(status=200, body=b""), "malformed|ended_early", id="empty"),
        pytest.param(Fault(status=302, headers={"location": "/"}), "backend", id="redirect"),
    ]


def in_an_hour() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)


@contextmanager
def no_key_shown(key: str) -> Iterator[list[BaseException]]:
    """Fails if a part of ``key`` is in the log at its chattiest, or in an exception given to it."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    caught: list[BaseException] = []
    try:
        yield caught
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert log.getvalue(), "nothing was logged: the hunt would find nothing"
    shown = [log.getvalue()]
    for error in caught:
        shown += traceback.format_exception(error)
        link: BaseException | None = error
        while link is not None:
            shown += [str(link), repr(link), repr(vars(link))]
            assert not hasattr(link, "request"), (
                "an error with the request's headers is in the chain"
            )
            link = link.__cause__ or link.__context__
    for text in shown:
        assert key not in text
        assert key[-8:] not in text
