"""The connection to a store's database: opening it, reading rows whole, naming what is wrong."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.dialects import postgresql, sqlite

from soma_bench.errors import ConfigError
from soma_bench.files import first_problem
from soma_bench.sweeps.store.location import make_folder, shown, tables_in_file, url_of
from soma_bench.sweeps.store.schema import State, Tables, create_tables, state_of, tables_in

Record = TypeVar("Record")

_ROWS_AT_ONCE = 1000
"""Rows that are held of a query that streams them."""


class StoreMissingError(ConfigError):
    """There is no store at a location, though there may come to be one."""


class Database:
    """A store's open database.

    Args:
        location: a database URL, or the path of an SQLite file.
        create: make the tables, and the file and its folder, when they do not exist; otherwise
            that is an error and nothing is written.

    Raises:
        StoreMissingError: there is none and it is not to be made.
        ConfigError: the store cannot be opened, is of another version, or is something else.
    """

    _takes_older = False
    """Whether a store of an earlier version is opened as well."""

    def __init__(self, location: str, *, create: bool = False) -> None:
        url = url_of(location)
        # A password in the URL is for the database alone: errors are read by others.
        self.location = shown(location)
        if url.get_backend_name() == "sqlite":
            self._look_at_file(url.database or "", create=create)
        self._engine = self._engine_of(url)
        try:
            with self._engine.begin() as connection:
                state = self._checked(connection)
                if state is State.UNMADE and create:
                    create_tables(connection)
                    state = self._checked(connection)
        except ConfigError:
            self.close()
            raise
        except sa.exc.SQLAlchemyError as error:
            self.close()
            raise self._unusable(error) from error
        if state is State.UNMADE:
            self.close()
            raise self._none_made()

    def _engine_of(self, url: sa.URL) -> sa.Engine:
        try:
            engine = sa.create_engine(url, json_deserializer=_read_json, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.location}: needs the database's driver ({error.name}); for PostgreSQL:"
                " pip install 'soma-bench[postgres]'"
            ) from error
        except (sa.exc.SQLAlchemyError, ImportError, TypeError) as error:
            raise self._unusable(error) from error
        sa.event.listen(engine, "handle_error", self._refuse)
        if url.get_backend_name() == "sqlite":
            sa.event.listen(engine, "connect", _set_pragmas)
        return engine

    def _checked(self, connection: sa.Connection) -> State:
        alone = connection.dialect.name == "sqlite"
        return self._accepted(*tables_in(connection), alone=alone)

    def _accepted(self, tables: Tables, version: str | None, *, alone: bool) -> State:
        state = state_of(self.location, tables, version, alone=alone)
        if state is State.OLDER and not self._takes_older:
            raise ConfigError(
                f"{self.location}: was made by an earlier version; bring it up to date by:"
                f" soma-bench store migrate --store {self.location}"
            )
        return state

    def _look_at_file(self, name: str, *, create: bool) -> None:
        """Refuse an SQLite file that is not there, or not ours, without changing anything.

        Opening it as a store would: the journal's mode is written into the file.
        """
        if not name or name.startswith((":", "file:")):
            raise ConfigError(f"{self.location}: keeps nothing; name the store's file by its path")
        path = Path(name)
        try:
            there = path.exists()
            tables, version = tables_in_file(path) if there else ({}, None)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        if not there and not create:
            raise StoreMissingError(
                f"{path}: no such store; run a sweep first, or name it by --store"
            )
        state = self._accepted(tables, version, alone=True)
        # A sweep that was killed while the tables were made is completed by the next one.
        if state is State.UNMADE and not create:
            raise self._none_made()
        if create:
            make_folder(path.parent)

    def _none_made(self) -> StoreMissingError:
        return StoreMissingError(
            f"{self.location}: holds no runs; run a sweep first, or name its store by --store"
        )

    def _refuse(self, context: sa.engine.ExceptionContext) -> None:
        """Say as one sentence what the database could not do: it is full, read-only, damaged, gone."""
        error = context.sqlalchemy_exception
        kinds = (sa.exc.OperationalError, sa.exc.DataError)
        if isinstance(error, kinds) or type(error) is sa.exc.DatabaseError:
            raise self._unusable(error)

    def _unusable(self, error: Exception) -> ConfigError:
        lines = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        reason = error.strerror if isinstance(error, OSError) and error.strerror else lines[0]
        return ConfigError(f"{self.location}: cannot be used as a store: {reason}")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, query: sa.Select[Any]) -> Iterator[dict[str, Any]]:
        """The rows of a query on the store's tables, by column; they are not held in memory.

        Raises:
            ConfigError: the database cannot be read, or a field that should hold JSON does not.
        """
        with self._engine.connect() as connection:
            options = {"yield_per": _ROWS_AT_ONCE}
            rows = connection.execute(query, execution_options=options).mappings()
            try:
                yield from map(dict, rows)
            except (ValueError, TypeError) as error:
                raise ConfigError(
                    f"{self.location}: is damaged: a field that should hold JSON does not: {error}"
                ) from error

    def _record(self, kind: TypeAdapter[Record], row: dict[str, Any], place: str) -> Record:
        """A row as its record; a database holds whatever was written to it, by whomever."""
        try:
            return kind.validate_python(row)
        except ValidationError as error:
            raise ConfigError(
                f"{self.location}: is damaged: {place}: {first_problem(error)}"
            ) from error

    def _insert(self, table: sa.Table) -> Any:
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)


def _read_json(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _set_pragmas(connection: Any, _: object) -> None:
    """Readers do not wait for the writer, and a killed process loses nothing that was committed."""
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "busy_timeout = 30000",
        "cache_size = -16384",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
