"""What the loopback servers share: HTTP/1.1 in a thread, a record of requests, and faults.

A server is a subclass of `Server` whose ``answer`` reads a `Recorded` request and writes to a
`Reply`. It copies HTTP as RFC 9112 has it, as far as the clients use it: keep-alive connections,
bodies by ``Content-Length`` or chunked, and chunked answers written piece by piece.

    class Echo(Server):
        async def answer(self, request: Recorded, reply: Reply) -> None:
            await reply.json({"you": request.json()}, fault=self.fault)

    with Echo() as server:
        server.fault = Fault(then="reset")
        ...  # talk to server.url; then look at server.requests
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

GARBAGE = b'{"this is not JSON\n\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with an answer. `Reply` does the parts that are HTTP's; a server may do more.

    An answer of several pieces (a stream) comes whole up to ``after`` pieces, then ``then`` happens.
    A body in one piece counts as none: with ``then`` it hangs, is reset halfway, or is garbage.
    """

    after: int = 0
    """Pieces that still come."""
    then: Literal["hang", "reset", "end", "garbage", "error"] | None = None
    """``hang``: nothing more comes, the connection stays; ``reset``: the connection breaks off;
    ``end``: the answer ends in good order without its last part; ``garbage``: what comes next
    cannot be read; ``error``: an error in the backend's own form comes inside the answer."""
    delay_s: float = 0.0
    """Wait before the first byte of the answer."""
    drip_s: float = 0.0
    """Wait before each piece of a stream."""
    status: int | None = None
    """Answer with this status instead."""
    body: bytes | None = None
    """Body that goes with ``status``, or text of the error."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that go with ``status``."""


@dataclass(slots=True)
class Recorded:
    """A request as it came, and how its answer ended."""

    method: str
    path: str
    """Path without the query."""
    query: str
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes
    left_early: threading.Event = field(default_factory=threading.Event)
    """Set when the client closed the connection before the answer's end."""

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class ClientLeft(Exception):  # noqa: N818 - no error: a client may leave
    """The client closed the connection while its answer was being written."""


class _ResetByFault(Exception):  # noqa: N818 - ends a handler, never seen outside
    """The connection was broken off on purpose."""


class Reply:
    """Writes one answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.keep_open = True

    async def body(
        self,
        data: bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        fault: Fault | None = None,
    ) -> None:
        """Write a whole answer with a ``Content-Length``."""
        if fault:
            await self.pause(fault.delay_s)
            if fault.status is not None:
                status, headers = fault.status, fault.headers
                data = data if fault.body is None else fault.body
            elif fault.then == "hang":
                await self.hang()
            elif fault.then == "garbage":
                data = GARBAGE
        self._head(
            status,
            {"content-type": content_type, "content-length": str(len(data)), **(headers or {})},
        )
        if fault and fault.status is None and fault.then == "reset":
            self._writer.write(data[: len(data) // 2])
            await self._flush()
            await self.reset()
        self._writer.write(data)
        await self._flush()

    async def json(
        self,
        value: Any,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        fault: Fault | None = None,
    ) -> None:
        """Write a whole answer as JSON."""
        data = json.dumps(value).encode()
        await self.body(data, status=status, headers=headers, fault=fault)

    async def pieces(
        self,
        pieces: Sequence[bytes],
        *,
        content_type: str,
        fault: Fault | None = None,
        error: bytes = b"",
    ) -> None:
        """Write a chunked answer, one HTTP chunk a piece.

        Args:
            pieces: the answer in order.
            content_type: what it is.
            fault: what goes wrong; ``status`` and ``body`` make it a whole answer.
            error: the piece that the fault ``error`` sends, in the backend's own form.
        """
        if fault and fault.status is not None:
            await self.body(fault.body or b"", fault=fault)
            return
        fault = fault or Fault()
        await self.pause(fault.delay_s)
        if fault.then == "hang" and fault.after == 0:
            await self.hang()
        self._head(200, {"content-type": content_type, "transfer-encoding": "chunked"})
        for piece in pieces[: fault.after] if fault.then else pieces:
            await self.pause(fault.drip_s)
            await self.chunk(piece)
        if fault.then == "hang":
            await self._flush()
            await self.hang()
        if fault.then == "reset":
            await self._flush()
            # Time for the client to read what came whole: a reset may overtake it.
            await self.pause(0.05)
            await self.reset()
        if fault.then == "garbage":
            await self.chunk(GARBAGE)
        if fault.then == "error":
            await self.chunk(error)
        await self.end()

    async def start(self, content_type: str) -> None:
        """Open a chunked answer by hand; `chunk` and `end` follow."""
        self._head(200, {"content-type": content_type, "transfer-encoding": "chunked"})
        await self._flush()

    async def chunk(self, data: bytes) -> None:
        """Write one HTTP chunk.

        Raises:
            ClientLeft: nobody is there to read it.
        """
        if self.client_left:
            raise ClientLeft
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._flush()

    async def end(self) -> None:
        """End a chunked answer in good order."""
        self._writer.write(b"0\r\n\r\n")
        await self._flush()

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the client does.

        Raises:
            ClientLeft: the client closed the connection meanwhile.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.client_left:
                raise ClientLeft
            await asyncio.sleep(min(left, 0.01))

    async def hang(self) -> None:
        """Send nothing more for as long as the client stays.

        Raises:
            ClientLeft: always, in the end.
        """
        await self.pause(3600.0)

    async def reset(self) -> None:
        """Break the connection off with a TCP reset.

        Raises:
            _ResetByFault: always; it ends the handler.
        """
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise _ResetByFault

    @property
    def client_left(self) -> bool:
        """Whether the client has closed the connection."""
        return (
            self._reader.at_eof()
            or self._reader.exception() is not None
            or self._writer.transport.is_closing()
        )

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._writer.write(f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode("latin-1"))

    async def _flush(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise ClientLeft from error


class Server:
    """An HTTP server on a free port of 127.0.0.1, in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        """Every request, in order of arrival."""
        self.fault: Fault | None = None
        """What goes wrong with the answers from now on."""
        self.failures: list[BaseException] = []
        """What a handler raised by mistake; leaving the context raises the first."""
        self.record = True
        """Whether requests are kept."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def answer(self, request: Recorded, reply: Reply) -> None:
        """Answer one request; what a subclass is for."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[Recorded]:
        """The requests that went to ``path``."""
        return [request for request in self.requests if request.path == path]

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        assert self.port, "the test server did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if self.failures and error is None:
            raise self.failures[0]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**26)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                if self.record:
                    self.requests.append(request)
                if not await self._handle(request, Reply(reader, writer)):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # A client that goes away between two requests does no harm.
        except asyncio.CancelledError:
            pass  # The server stops; asyncio of Python 3.11 would print what is raised here.
        except Exception as error:  # noqa: BLE001 - shown where the context ends
            self.failures.append(error)
        finally:
            writer.close()

    async def _handle(self, request: Recorded, reply: Reply) -> bool:
        """Answer; whether the connection can be used again."""
        try:
            await self.answer(request, reply)
        except ClientLeft:
            request.left_early.set()
            return False
        except _ResetByFault:
            return False
        return reply.keep_open


async def _read(reader: asyncio.StreamReader) -> Recorded | None:
    """The next request; None when the client has closed the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    path, _, query = target.partition("?")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Recorded(method, path, query, headers, body)


def closed_port() -> int:
    """A port of 127.0.0.1 at which nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], seconds: float = 2.0) -> bool:
    """Whether ``condition`` holds within ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.005)
    return condition()
