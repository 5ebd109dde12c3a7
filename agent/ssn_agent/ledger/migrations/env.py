"""Alembic's entry: migrations run on the connection that `ledger.database.migrate` hands over."""

from alembic import context

from ssn_agent.ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
