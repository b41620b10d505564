"""Which version of the tables a database holds, and whether it can be opened as a store."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum

import sqlalchemy as sa

from soma_bench.errors import ConfigError
from soma_bench.sweeps.store.tables import HEAD, METADATA, REVISIONS, VERSION

_ADDED: Mapping[str, Mapping[str, frozenset[str]]] = {
    "0002": {
        "trials": frozenset(
            {
                "cache_write_tokens",
                "start",
                "other_cpu_share",
                "busy",
                "power_mode",
                "cost_basis",
                "cost_source",
            }
        )
    },
    "0003": {"looks": frozenset(METADATA.tables["looks"].columns.keys())},
    "0005": {"trials": frozenset({"concurrency"})},
}
"""The columns that versions brought. Those up to 0003 did not write their number into the store."""

LOCK = 0x50_4D_41
"""PostgreSQL's advisory lock of everybody who makes or migrates a store in one database."""

Tables = Mapping[str, AbstractSet[str]]


class State(Enum):
    """What a database is to this version."""

    READY = "ready"
    UNMADE = "holds none of the tables, or not all of them"
    OLDER = "older"


def state_of(location: str, tables: Tables, version: str | None, *, alone: bool) -> State:
    """What a database is, by its tables' columns and the version that it states.

    Args:
        location: the store, as errors name it.
        tables: the columns of each table.
        version: the version written in it, if any.
        alone: whether all tables there are must be the store's: a file of something else is not to
            be written to, while a database server's may be shared.

    Raises:
        ConfigError: it is a database of something else, of a later version, or damaged.
    """
    wanted = {name: set(table.columns.keys()) for name, table in METADATA.tables.items()}
    ours = wanted.keys() & tables.keys()
    if version is None:
        first = all(tables[name] >= _first_columns(name, wanted[name]) for name in ours)
        if not first or (alone and tables and not ours):
            raise ConfigError(
                f"{location}: is a database of something else; name another file by --store"
            )
        return State.OLDER if _unnumbered(tables) else State.UNMADE
    if version not in REVISIONS:
        raise ConfigError(
            f"{location}: was made by a later version of soma-bench (store version {version}, this "
            f"one knows {HEAD}); update soma-bench"
        )
    if version != HEAD:
        return State.OLDER
    for name in sorted(ours):
        if lacking := wanted[name] - tables[name]:
            raise ConfigError(
                f"{location}: is damaged: table {name} lacks {', '.join(sorted(lacking))}"
            )
    return State.READY if ours == wanted.keys() else State.UNMADE


def version_of(tables: Tables, version: str | None) -> str | None:
    """The version of a store's tables; None where it is not whole."""
    return version if version is not None else _unnumbered(tables)


def _unnumbered(tables: Tables) -> str | None:
    """The version of a store that was made before versions were written into stores."""
    at_first = METADATA.tables.keys() - _ADDED["0003"].keys()
    if not tables.keys() >= at_first:
        return None
    found = REVISIONS[0]
    for revision, added in _ADDED.items():
        if not all(tables.get(name, set()) >= columns for name, columns in added.items()):
            break
        found = revision
    return found


def _first_columns(table: str, columns: AbstractSet[str]) -> AbstractSet[str]:
    """The columns that a table has had from the first version with it."""
    if table in _ADDED["0003"]:
        return columns
    return columns - frozenset().union(*(added.get(table, ()) for added in _ADDED.values()))


def tables_in(connection: sa.Connection) -> tuple[dict[str, set[str]], str | None]:
    """The columns of every table in a database, and the version that it states."""
    inspector = sa.inspect(connection)
    columns = inspector.get_multi_columns()
    tables = {name: {column["name"] for column in found} for (_, name), found in columns.items()}
    if "version_num" not in tables.get(VERSION.name, ()):
        return tables, None
    version = connection.execute(sa.select(VERSION.c.version_num)).scalar()
    return tables, version


def create_tables(connection: sa.Connection) -> None:
    """Make the tables that are missing, in the connection's transaction, and write their version."""
    lock(connection)
    METADATA.create_all(connection)
    VERSION.create(connection, checkfirst=True)
    if connection.execute(sa.select(VERSION.c.version_num)).scalar() is None:
        connection.execute(sa.insert(VERSION).values(version_num=HEAD))


def lock(connection: sa.Connection) -> None:
    """Wait for whoever else is making or migrating the tables, until the transaction's end."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
