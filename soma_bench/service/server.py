"""uvicorn around the API, and how it stops: open requests may end, then they are told."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from soma_bench.errors import ConfigError
from soma_bench.service.access import CAME_WHOLE
from soma_bench.service.app import create_api, with_door
from soma_bench.service.core import Service, open_service
from soma_bench.service.rehearsal import rehearse
from soma_bench.service.rush import Rush
from soma_bench.service.settings import ServiceSettings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS_S = 5
"""After the grace, for writing out what cancelled streams say last."""


def _protocol(rush: Rush) -> type[HttpToolsProtocol]:
    """HTTP that notes when a request has come whole; until its turn it may wait for others."""

    class Protocol(HttpToolsProtocol):
        def on_message_complete(self) -> None:
            state = self.scope["state"]
            state[CAME_WHOLE] = time.perf_counter()
            if self.scope["method"] == "POST":
                rush.came(state)
            super().on_message_complete()

    return Protocol


class Server(uvicorn.Server):
    """Stops on SIGINT and SIGTERM, with the service's work.

    Args:
        service: what is served.
        api: its API, of `soma_bench.service.app.create_api`.
    """

    def __init__(self, service: Service, api: ASGIApp) -> None:
        self._service = service
        grace_s = service.settings.grace_s
        super().__init__(
            uvicorn.Config(
                with_door(api, service),
                http=_protocol(service.rush),
                access_log=False,  # it would write down paths with the ids of sessions
                log_config=None,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=int(grace_s) + LAST_WORDS_S,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, and end those that are open."""
        ending = asyncio.create_task(self._service.jobs.stop(self._service.settings.grace_s))
        await super().shutdown(sockets)
        await ending

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals while it runs; a clean stop is no failure, so none is raised again."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals come to the main thread; whoever serves in another one stops it there
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: the address is none of this machine's, or taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"--host {host} --port {port}: cannot be listened at: {reason}; name another port,"
            " or 0 for any free one"
        ) from error
    listener.setblocking(False)
    # asyncio sends small pieces at once only where the protocol is named, and it passes to every
    # connection. Otherwise an event waits for the acknowledgement of what was sent before it: 40 ms.
    return socket.socket(
        listener.family, listener.type, socket.IPPROTO_TCP, fileno=listener.detach()
    )


async def serve(
    path: Path,
    settings: ServiceSettings,
    listener: socket.socket,
    *,
    on_ready: Callable[[str, str], None] = lambda *_: None,
) -> None:
    """Serve until a signal says to stop.

    Args:
        path: the profile's file, which is followed.
        settings: limits and doors.
        listener: a socket that listens, of `bind`.
        on_ready: told of the service's address and the profile's name.

    Raises:
        ConfigError: the profile, the environment or the table of prices is wrong.
        PrivacyError: the environment asks for what an agent's privacy level forbids.
    """
    host, port = listener.getsockname()[:2]
    async with open_service(path, settings) as service:
        api = create_api(service)
        await rehearse(api)
        server = Server(service, api)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        on_ready(url, service.router.profile.name)
        await server.serve(sockets=[listener])
