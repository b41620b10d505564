"""Bringing a store of an earlier version up to date, whole or not at all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from soma_bench.errors import ConfigError
from soma_bench.sweeps.store.database import Database
from soma_bench.sweeps.store.schema import State, lock, tables_in, version_of
from soma_bench.sweeps.store.tables import HEAD, VERSION

MIGRATIONS = Path(__file__).parent / "migrations"
"""Alembic's folder of scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What a migration did."""

    location: str
    before: str
    """The version that the store had; equal to ``after`` where there was nothing to do."""
    after: str
    backup: Path | None
    """An SQLite store as it was before; the backups of a server are its owner's. None where there
    was nothing to do."""


def migrate(location: str) -> Migration:
    """Bring a store up to this version, in one transaction; writers wait for its end.

    An SQLite file is copied first, to ``FILE.VERSION.bak`` beside it.

    Raises:
        StoreMissingError: there is no store.
        ConfigError: it cannot be opened or copied, is of a later version, or is something else.
    """
    with _AnyVersion(location) as database:
        return database.migrate()


class _AnyVersion(Database):
    """A store that is open although its tables may be of an earlier version."""

    _takes_older = True

    def migrate(self) -> Migration:
        with self._engine.begin() as connection:
            lock(connection)
            tables, version = tables_in(connection)
            before = version_of(tables, version)
            if before is None:
                raise self._none_made()
            if before == HEAD:
                return Migration(location=self.location, before=before, after=before, backup=None)
            backup = self._copied(before)
            if version is None:
                VERSION.create(connection, checkfirst=True)
                connection.execute(sa.insert(VERSION).values(version_num=before))
            _upgrade(connection)
            if self._checked(connection) is not State.READY:
                raise ConfigError(f"{self.location}: could not be migrated; it is as it was")
        return Migration(location=self.location, before=before, after=HEAD, backup=backup)

    def _copied(self, version: str) -> Path | None:
        """The copy of an SQLite file, made while nobody else can write to it."""
        if self._engine.dialect.name != "sqlite":
            return None
        path = Path(self._engine.url.database or "")
        copy = path.with_name(f"{path.name}.{version}.bak")
        if copy.exists():
            raise ConfigError(f"{copy}: is in the way of the store's copy; move it elsewhere")
        partial = copy.with_name(f"{copy.name}.partial")
        try:
            partial.unlink(missing_ok=True)
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(partial)) as target,
            ):
                source.backup(target)
            partial.rename(copy)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"{copy}: the store cannot be copied: {error}") from error
        return copy


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    # Alembic reads a percent sign in a path as the start of a variable.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
