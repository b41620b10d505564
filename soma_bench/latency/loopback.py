"""A loopback server whose timing is known, by which the harness measures its own error.

It runs in a process of its own (``python -m soma_bench.latency.loopback``), speaks the part of the
Chat Completions API that a streamed answer takes, and sends its first token and each further one
when they are due, counted from when the request has arrived. Since a busy machine delays a server
too, every token says when it was truly sent: by the monotonic clock, which all processes of a
machine share. Its address is the first line on standard output; it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

MODEL = "known-timing"
_CHUNK_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
_PROMPT_TOKENS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the server sends what, in seconds from the arrival of a request."""

    first_token_s: float = 0.2
    gap_s: float = 0.02
    """From one token to the next."""
    tokens: int = 16

    @property
    def total_s(self) -> float:
        """When the last token is due."""
        return self.first_token_s + (self.tokens - 1) * self.gap_s

    def due(self) -> Iterator[float]:
        """When each token is due."""
        return (self.first_token_s + number * self.gap_s for number in range(self.tokens))


@dataclass(frozen=True, slots=True)
class Truth:
    """What the server says of one answer, in seconds."""

    first_token_s: float
    inter_token_s: float
    total_s: float
    """Until its last token was sent."""


def read_truth(text: str) -> Truth:
    """What an answer's text says of when its tokens were sent.

    Raises:
        ValueError: the text is no answer of this server.
    """
    arrived, *sent = (int(stamp) / 1e9 for stamp in text.split())
    return Truth(
        sent[0] - arrived,
        (sent[-1] - sent[0]) / (len(sent) - 1) if len(sent) > 1 else 0.0,
        sent[-1] - arrived,
    )


class LoopbackServer:
    """Answers every chat on the same schedule.

    Args:
        schedule: when tokens are due.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    async def serve(self) -> asyncio.Server:
        """Listen on a free port of 127.0.0.1."""
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                await reader.readexactly(_content_length(head))
                if head.startswith("post "):
                    await self._answer(writer, time.monotonic_ns())
                else:
                    listed = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
                    _write_whole(writer, json.dumps(listed).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone, which is how every connection ends
        except asyncio.CancelledError:
            pass  # the server stops; asyncio of Python 3.11 would print what is raised here
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, arrived: int) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number, due in enumerate(self._schedule.due()):
            await asyncio.sleep(max(0.0, due - (time.monotonic_ns() - arrived) / 1e9))
            stamps = f"{time.monotonic_ns()} "
            _write_event(writer, {"content": stamps if number else f"{arrived} {stamps}"})
            await writer.drain()
        _write_event(writer, {}, finish="stop")
        tokens = self._schedule.tokens
        usage = {
            "prompt_tokens": _PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": _PROMPT_TOKENS + tokens,
        }
        _write_piece(writer, json.dumps({**_CHUNK_HEAD, "choices": [], "usage": usage}))
        _write_piece(writer, "[DONE]")
        writer.write(b"0\r\n\r\n")


def _content_length(head: str) -> int:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name == "content-length":
            return int(value)
    return 0


def _write_whole(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(body), body)
    )


def _write_event(
    writer: asyncio.StreamWriter, delta: dict[str, str], finish: str | None = None
) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    _write_piece(writer, json.dumps({**_CHUNK_HEAD, "choices": [choice]}))


def _write_piece(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


async def _serve_until_stdin_ends(schedule: Schedule) -> None:
    server = await LoopbackServer(schedule).serve()
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}/v1\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Serve: first token's time, gap (seconds) and number of tokens are the arguments."""
    first_token_s, gap_s, tokens = sys.argv[1:]
    schedule = Schedule(first_token_s=float(first_token_s), gap_s=float(gap_s), tokens=int(tokens))
    asyncio.run(_serve_until_stdin_ends(schedule))


if __name__ == "__main__":
    main()
