"""Keep who people are at their company's sign-in."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_24_identities"
down_revision = "2026_11_24_invitations"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "identities",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("user_id", ROW_ID, nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_identities_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_identities_issuer_subject")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("identities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_identities_user_id"), ["user_id"], unique=False)

    op.create_table(
        "group_roles",
        sa.Column("identity_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("team_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("hand_role", sa.Text(), nullable=True),
        sa.CheckConstraint("role IN ('owner', 'member', 'viewer')", name=op.f("ck_group_roles_role")),
        sa.CheckConstraint("hand_role IN ('owner', 'member', 'viewer')", name=op.f("ck_group_roles_hand_role")),
        sa.ForeignKeyConstraint(
            ["identity_id"], ["identities.id"], name=op.f("fk_group_roles_identity_id_identities"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name=op.f("fk_group_roles_team_id_teams"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("identity_id", "team_id", name=op.f("pk_group_roles")),
    )
    with op.batch_alter_table("group_roles", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_group_roles_team_id"), ["team_id"], unique=False)

    op.create_table(
        "session_identities",
        sa.Column("session_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("identity_id", ROW_ID, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("id_token", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.id"], name=op.f("fk_session_identities_session_id_sessions"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["identity_id"],
            ["identities.id"],
            name=op.f("fk_session_identities_identity_id_identities"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_session_identities")),
    )
    with op.batch_alter_table("session_identities", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_session_identities_identity_id"), ["identity_id"], unique=False)

    op.create_table(
        "used_states",
        sa.Column("state_hash", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_used_states")),
    )
    with op.batch_alter_table("used_states", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_used_states_expires_at"), ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_table("used_states")
    op.drop_table("session_identities")
    op.drop_table("group_roles")
    op.drop_table("identities")
