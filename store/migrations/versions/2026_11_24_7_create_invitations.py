"""Keep invitations, links that change a password or an address, the letters that carry them, and who made a token."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_invitations"
down_revision = "2026_11_23_feedback"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("sign_in_links", schema=None) as batch_op:
        batch_op.add_column(sa.Column("user_id", ROW_ID, nullable=True))
        batch_op.add_column(sa.Column("role", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("created_by_id", ROW_ID, nullable=True))
        for name in ("user_id", "created_by_id"):
            batch_op.create_foreign_key(
                batch_op.f(f"fk_sign_in_links_{name}_users"), "users", [name], ["id"], ondelete="CASCADE"
            )
            batch_op.create_index(batch_op.f(f"ix_sign_in_links_{name}"), [name], unique=False)
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("created_by_id", ROW_ID, nullable=True))
        batch_op.create_foreign_key(
            batch_op.f("fk_tokens_created_by_id_users"), "users", ["created_by_id"], ["id"], ondelete="SET NULL"
        )
        batch_op.create_index(batch_op.f("ix_tokens_created_by_id"), ["created_by_id"], unique=False)
    op.create_table(
        "letters",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("team_id", ROW_ID, nullable=True),
        sa.Column("user_id", ROW_ID, nullable=True),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("notice", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('new', 'working', 'sent', 'failed')", name=op.f("ck_letters_state")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_letters_team_id_teams"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_letters_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_letters")),
    )
    waiting = sa.text("state IN ('new', 'working')")
    with op.batch_alter_table("letters", schema=None) as batch_op:
        for name in ("team_id", "user_id"):
            batch_op.create_index(batch_op.f(f"ix_letters_{name}"), [name], unique=False)
        batch_op.create_index(
            "ix_letters_due", ["next_at"], unique=False, postgresql_where=waiting, sqlite_where=waiting
        )


def downgrade() -> None:
    op.drop_table("letters")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tokens_created_by_id"))
        batch_op.drop_constraint(batch_op.f("fk_tokens_created_by_id_users"), type_="foreignkey")
        batch_op.drop_column("created_by_id")
    with op.batch_alter_table("sign_in_links", schema=None) as batch_op:
        for name in ("user_id", "created_by_id"):
            batch_op.drop_index(batch_op.f(f"ix_sign_in_links_{name}"))
            batch_op.drop_constraint(batch_op.f(f"fk_sign_in_links_{name}_users"), type_="foreignkey")
        for name in ("user_id", "role", "created_by_id"):
            batch_op.drop_column(name)
