"""Where a store is: a path or a database URL, and an SQLite file that is looked at untouched."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from soma_bench.errors import ConfigError
from soma_bench.sweeps.store.tables import VERSION

_HARMLESS = frozenset({"host", "port", "dbname", "user", "sslmode", "connect_timeout"})
"""Settings in a URL whose values may be read by others."""
_DRIVER = "postgresql+psycopg"


def url_of(location: str) -> sa.URL:
    """The database URL of a store's location, which may be a path.

    Raises:
        ConfigError: it looks like a URL and is none.
    """
    scheme, is_url, _ = location.partition("://")
    if not is_url:
        return sa.URL.create("sqlite", database=location)
    try:
        url = sa.make_url(location)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError(
            f"{scheme}://...: is not a database URL, e.g. postgresql://user@host/database"
        ) from error
    return url.set(drivername=_DRIVER) if url.drivername in ("postgresql", "postgres") else url


def shown(location: str) -> str:
    """A location as others may read it: without the password, and what else may be secret."""
    if "://" not in location:
        return location
    url = sa.make_url(location)
    kept = {name: value for name, value in url.query.items() if name in _HARMLESS}
    plain = url.set(query=kept).render_as_string(hide_password=True)
    return plain if len(kept) == len(url.query) else f"{plain}{'&' if kept else '?'}..."


def tables_in_file(path: Path) -> tuple[dict[str, set[str]], str | None]:
    """The columns of every table in an SQLite file, and its version, read without leaving a trace.

    Raises:
        OSError: the file cannot be read.
        sqlite3.Error: it is no database.
    """
    # Not opened here: whoever closes a file takes off it every lock that this process holds (POSIX),
    # SQLite's as well, and another process would then remove the log that this one still writes to.
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if path.stat().st_size == 0:
        return {}, None
    # Nobody writes to a file that has no log beside it, and reading it needs no lock on it.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
        rows = connection.execute(
            "SELECT tables.name, columns.name FROM sqlite_master AS tables,"
            " pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
        )
        found: dict[str, set[str]] = {}
        for table, column in rows:
            found.setdefault(table, set()).add(column)
        if "version_num" not in found.get(VERSION.name, ()):
            return found, None
        row = connection.execute(f"SELECT version_num FROM {VERSION.name}").fetchone()  # noqa: S608
        return found, str(row[0]) if row else None


def make_folder(folder: Path) -> None:
    """Make the folder that a store's file is to be in.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        # Resolved first, so that ``new/..`` does not make ``new``.
        folder.resolve().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made for the store: {error.strerror}") from error
