"""Alembic's entry: runs the migrations in the transaction that was begun for them."""

from alembic import context

from soma_bench.sweeps.store.tables import METADATA, VERSION

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION.name,
)
with context.begin_transaction():
    context.run_migrations()
