"""``soma-bench serve``: a profile behind the API that SOMA's front end speaks."""

from __future__ import annotations

import asyncio
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import click
from pydantic import SecretStr

from soma_bench.cli.options import profile_option
from soma_bench.cli.output import json_option, print_json
from soma_bench.errors import ConfigError
from soma_bench.providers.places import is_loopback
from soma_bench.service.settings import MIN_TOKEN_CHARACTERS, TOKEN_VARIABLE, ServiceSettings

_PORT = 3000
"""Where the front end looks for its backend unless it is told otherwise."""


@click.command(
    epilog="Example: soma-bench serve --profile routing_profiles/demo.json"
    " --cors-origin http://localhost:5173"
)
@profile_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help=f"Address to listen at. Any but this machine's own demands a token in ${TOKEN_VARIABLE}.",
)
@click.option(
    "--port",
    default=_PORT,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port to listen at; 0 for any free one.",
)
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    help="Bearer token that every request must carry. Better by the variable: others on this"
    " machine can read a command's options.",
)
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    metavar="ORIGIN",
    help="Origin whose pages may read answers, e.g. http://localhost:5173; repeat for more."
    " None by default.",
)
@click.option(
    "--max-body-mib",
    default=32,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Per request.",
)
@click.option(
    "--session-minutes",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=10_080),
    help="A session that is not used for so long is forgotten.",
)
@click.option(
    "--max-sessions",
    default=256,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Above it, the session that was not used for longest is forgotten.",
)
@click.option(
    "--deadline",
    "deadline_s",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    help="Seconds that one analysis or revision may take; no limit by default.",
)
@click.option(
    "--local-parallel",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Stages that one machine of one's own works on at the same time.",
)
@click.option(
    "--grace",
    "grace_s",
    default=10.0,
    show_default=True,
    type=click.FloatRange(min=0, max=3600),
    help="Seconds that open requests may go on after a signal to stop.",
)
@json_option
def serve(
    profile_path: Path,
    host: str,
    port: int,
    token: str | None,
    cors_origins: tuple[str, ...],
    max_body_mib: int,
    session_minutes: float,
    max_sessions: int,
    deadline_s: float | None,
    local_parallel: int,
    grace_s: float,
    as_json: bool,
) -> None:
    """Serve reports by a profile, under /api and at the root, until SIGINT or SIGTERM.

    A profile that is replaced in its file is taken by the next analysis. The address is printed as
    soon as it can be asked; the log goes to stderr and holds no patient's
    data. docs/service.md has the API.
    """
    settings = ServiceSettings(
        token=_checked_token(token, host),
        on_loopback=_is_this_machine(host),
        cors_origins=tuple(map(_checked_origin, cors_origins)),
        max_body_bytes=max_body_mib << 20,
        session_ttl_s=session_minutes * 60,
        max_sessions=max_sessions,
        deadline_s=deadline_s,
        local_parallel=local_parallel,
        grace_s=grace_s,
    )
    if missing := [
        name
        for name in ("fastapi", "httptools", "uvicorn", "prometheus_client")
        if not find_spec(name)
    ]:
        raise ConfigError(
            f"the service needs {', '.join(missing)}; run: pip install 'soma-bench[serve]'"
        )
    from soma_bench.service.server import bind
    from soma_bench.service.server import serve as run

    def on_ready(url: str, name: str) -> None:
        if as_json:
            print_json({"url": url, "profile": name})
        else:
            click.echo(f"{name} at {url}")
        sys.stdout.flush()

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("soma_bench").setLevel(logging.INFO)
    # Its lines name sessions, and whoever knows a session's id may read its report.
    logging.getLogger("soma_bench.pipeline.sessions").setLevel(logging.WARNING)
    # It warns of every write to a client that has left, which is no news.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with bind(host, port) as listener:
        asyncio.run(run(profile_path, settings, listener, on_ready=on_ready))


def _is_this_machine(host: str) -> bool:
    return is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}")


def _checked_token(token: str | None, host: str) -> SecretStr | None:
    if token is None and not _is_this_machine(host):
        raise ConfigError(
            f"--host {host}: others can connect there, so a bearer token is needed; set"
            f" {TOKEN_VARIABLE}, e.g. to the output of: openssl rand -hex 32"
        )
    if token is not None and (len(token) < MIN_TOKEN_CHARACTERS or not token.isascii()):
        raise ConfigError(
            f"{TOKEN_VARIABLE}: needs at least {MIN_TOKEN_CHARACTERS} ASCII characters, e.g. the"
            " output of: openssl rand -hex 32"
        )
    return None if token is None else SecretStr(token)


def _checked_origin(origin: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(origin)
    plain = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.hostname or origin.rstrip("/") != plain:
        raise ConfigError(
            f"--cors-origin {origin}: is no origin; give scheme, host and port, as"
            " http://localhost:5173"
        )
    return plain
