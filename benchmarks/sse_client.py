"""A client of server-sent events that costs little, so that a measurement is not one of itself.

It speaks as much of HTTP/1.1 as a service's answers need: connections that stay open, answers of a
given length or in chunks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any


class RefusedError(Exception):
    """There is no answer: the service cannot be connected to, or closed an idle connection."""


class BrokenError(Exception):
    """The connection ended in the middle of an answer."""


class StatusError(Exception):
    """The answer is no stream.

    Args:
        status: its status.
        body: its body.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}: {body[:200].decode()}")
        self.status = status


class Client:
    """One client with one connection, as a page has it.

    Args:
        host: the service's.
        port: the service's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def events(self, path: str, body: bytes) -> AsyncIterator[dict[str, Any]]:
        """Post ``body`` and give the answer's events as they come.

        Raises:
            RefusedError: there was no answer.
            BrokenError: the answer broke off.
            StatusError: the answer is none of events.
        """
        reader, status, headers = await self._ask("POST", path, body)
        if status != 200:
            raise StatusError(status, await self._whole(reader, headers))
        rest = b""
        async for piece in self._chunks(reader):
            *events, rest = (rest + piece).split(b"\n\n")
            for event in events:
                if event.startswith(b"data: "):
                    yield json.loads(event[6:])

    async def get(self, path: str) -> bytes:
        """The body of an answer of status 200.

        Raises:
            RefusedError: there was no answer.
            StatusError: the answer has another status.
        """
        reader, status, headers = await self._ask("GET", path, b"")
        body = await self._whole(reader, headers)
        if status != 200:
            raise StatusError(status, body)
        return body

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(
        self, method: str, path: str, body: bytes
    ) -> tuple[asyncio.StreamReader, int, dict[bytes, bytes]]:
        host, port = self._address
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(host, port)
            reader, writer = self._streams
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise RefusedError(type(error).__name__) from error
        first, *lines = answer.rstrip().split(b"\r\n")
        pairs = (line.split(b": ", 1) for line in lines)
        return reader, int(first.split()[1]), {name.lower(): value for name, value in pairs}

    async def _whole(self, reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
        body = await reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"connection") == b"close":
            self.close()
        return body

    async def _chunks(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        try:
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.close()
            raise BrokenError(type(error).__name__) from error
