"""Keep what is sent with a log besides it, and recommendations with their state."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_recommendations"
down_revision = "2026_11_23_image_sizes"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_TIME = sa.DateTime(timezone=True)


def _owned_by(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")


def upgrade() -> None:
    op.create_table(
        "evidence_texts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        _owned_by("evidence_texts", "repository_id", "repositories"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_texts")),
        sa.UniqueConstraint("repository_id", "text_hash", name=op.f("uq_evidence_texts_repository_id_text_hash")),
    )
    op.create_table(
        "evidence",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("document", _JSON, nullable=False),
        sa.Column("files", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        _owned_by("evidence", "delivery_id", "deliveries"),
        _owned_by("evidence", "repository_id", "repositories"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_repository_id_created_at"), "evidence", ["repository_id", "created_at"])
    op.create_table(
        "advice_turns",
        sa.Column("image_id", _ID, nullable=False, autoincrement=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("due_at", _TIME, nullable=True),
        sa.Column("computed_at", _TIME, nullable=True),
        sa.Column("builds", _ID, nullable=False),
        _owned_by("advice_turns", "image_id", "images"),
        _owned_by("advice_turns", "repository_id", "repositories"),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_advice_turns")),
    )
    op.create_index(op.f("ix_advice_turns_repository_id"), "advice_turns", ["repository_id"])
    op.create_index(op.f("ix_advice_turns_due_at"), "advice_turns", ["due_at"])
    op.create_table(
        "recommendations",
        sa.Column("id", _ID, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("evidence", _JSON, nullable=False),
        sa.Column("patch", sa.Text(), nullable=True),
        sa.Column("order_safe", sa.Boolean(), nullable=False),
        sa.Column("saving_seconds", sa.Float(53), nullable=True),
        sa.Column("saving_low", sa.Float(53), nullable=True),
        sa.Column("saving_high", sa.Float(53), nullable=True),
        sa.Column("builds_per_week", sa.Float(53), nullable=True),
        sa.Column("builds", _ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("changed_at", _TIME, nullable=False),
        sa.Column("applied_build_id", _ID, nullable=True),
        sa.CheckConstraint("state IN ('open', 'dismissed', 'applied', 'gone')", name=op.f("ck_recommendations_state")),
        _owned_by("recommendations", "repository_id", "repositories"),
        _owned_by("recommendations", "image_id", "images"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recommendations")),
        sa.UniqueConstraint("image_id", "name", "key", name=op.f("uq_recommendations_image_id_name_key")),
    )
    op.create_index(op.f("ix_recommendations_repository_id_state"), "recommendations", ["repository_id", "state"])


def downgrade() -> None:
    for table in ("recommendations", "advice_turns", "evidence", "evidence_texts"):
        op.drop_table(table)
