"""Keep what a source reads and writes with, and what came of its deliveries."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_sources"
down_revision = "2026_11_23"
branch_labels = None
depends_on = None

COLUMNS = (
    ("scheme", sa.Text(), None),
    ("base_url", sa.Text(), ""),
    ("read_credentials", sa.Text(), None),
    ("write_credentials", sa.Text(), None),
    ("networks", sa.Text(), ""),
    ("resume_at", sa.DateTime(timezone=True), None),
    ("asked_at", sa.DateTime(timezone=True), None),
    ("asked_until", sa.DateTime(timezone=True), None),
    ("problem", sa.Text(), None),
    ("problem_at", sa.DateTime(timezone=True), None),
    ("refused", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), "0"),
    ("refused_at", sa.DateTime(timezone=True), None),
    ("refused_reason", sa.Text(), None),
)
"""Name, type, and the value of rows that are there already where it must not be empty."""


def upgrade() -> None:
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name, kind, value in COLUMNS:
            batch_op.add_column(sa.Column(name, kind, nullable=value is None, server_default=value))
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name, _, value in COLUMNS:
            if value is not None:
                batch_op.alter_column(name, server_default=None)
    op.create_table(
        "hooks",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("headers", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("body_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=True),
        sa.Column("is_found", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["delivery_id"], ["deliveries.id"], name=op.f("fk_hooks_delivery_id_deliveries"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_hooks_source_id_sources"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_hooks")),
    )
    with op.batch_alter_table("hooks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_hooks_source_id_subject"), ["source_id", "subject"], unique=False)


def downgrade() -> None:
    op.drop_table("hooks")
    with op.batch_alter_table("sources", schema=None) as batch_op:
        for name, _, _ in reversed(COLUMNS):
            batch_op.drop_column(name)
