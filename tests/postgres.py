"""A throw-away PostgreSQL server on loopback: made, started, used and removed by the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "hunter2-is-secret"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server's administrative database; skipped where there is no PostgreSQL, but in CI."""
    binaries = _binaries()
    if binaries is None:
        reason = "PostgreSQL is not installed (apt-get install postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with _running(binaries) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of an empty database of its own."""
    import psycopg

    name = f"soma_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield postgres_server.rsplit("/", 1)[0] + f"/{name}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _binaries() -> Path | None:
    """Folder of ``initdb`` and ``postgres``: the newest Debian has, else that on the path."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda p: int(p.parts[-3]),
        reverse=True,
    )
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def _running(binaries: Path) -> Iterator[str]:
    # As root the server refuses to run; the user that Debian's package makes owns it then.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="soma-pg-"))
    if as_user:
        shutil.chown(folder, "postgres")
    secret = folder / "password"
    secret.write_text(PASSWORD)
    data = folder / "data"
    try:
        secret.chmod(0o644)
        subprocess.run(
            [*as_user, binaries / "initdb", "-D", data, "-U", "soma", "-A", "scram-sha-256",
             "--pwfile", secret, "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        port = _free_port()
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
            " -c fsync=off -c shared_buffers=32MB -c max_connections=40"
        )
        control = [*as_user, binaries / "pg_ctl", "-D", data, "-w", "-t", "60"]
        log = ["-l", folder / "log"]
        subprocess.run(
            [*control, *log, "-o", options, "start"],
            check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield f"postgresql://soma:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            # pg_ctl stops the one server whose number stands in this data folder.
            subprocess.run(
                [*control, "-m", "immediate", "stop"], check=True, cwd=folder, capture_output=True
            )
    finally:
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
