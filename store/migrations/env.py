"""How Alembic runs a migration: on the connection it is given, else on the database of the settings."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON, Connection
from sqlalchemy.types import TypeDecorator

from store.database import get_engine
from store.models import Base


def render_plain_type(kind: str, item: object, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write the database's own type: a migration must not change its meaning when our types do."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    if kind == "type" and isinstance(item, JSON) and not item._variant_mapping:  # noqa: SLF001 - no other way to tell
        return "sa.JSON()"
    if kind == "type" and isinstance(item, JSON):
        autogen_context.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


def run(connection: Connection) -> None:
    """Run the migrations of one command in the transaction of the connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        render_item=render_plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with get_engine().connect() as opened, opened.begin():
        run(opened)
