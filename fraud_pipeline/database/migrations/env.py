"""Runs the revisions on the connection that `Database.upgrade` opened."""

from alembic import context

from fraud_pipeline.database.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
