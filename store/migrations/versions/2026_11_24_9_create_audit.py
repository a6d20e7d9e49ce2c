"""Keep who did what, and how long teams keep their data."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_24_audit"
down_revision = "2026_11_24_identities"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
FINAL = {
    "sqlite": (
        (
            "CREATE TRIGGER audit_events_final BEFORE UPDATE ON audit_events BEGIN "
            "SELECT RAISE(ABORT, 'The audit log is added to, never changed.'); END"
        ),
    ),
    "postgresql": (
        (
            "CREATE OR REPLACE FUNCTION audit_events_final() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'The audit log is added to, never changed.'; END $$"
        ),
        (
            "CREATE TRIGGER audit_events_final BEFORE UPDATE ON audit_events "
            "FOR EACH ROW EXECUTE FUNCTION audit_events_final()"
        ),
    ),
}
"""What makes each database refuse to change a row of the audit log."""


def upgrade() -> None:
    with op.batch_alter_table("teams") as batch_op:
        batch_op.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("repositories") as batch_op:
        batch_op.add_column(sa.Column("builds_from", sa.Date(), nullable=True))
        batch_op.add_column(sa.Column("steps_from", sa.Date(), nullable=True))
    # Added without a batch, which on SQLite would copy the table and lose its AUTOINCREMENT.
    op.add_column("users", sa.Column("is_administrator", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Somebody has to be: whoever owned a team first.
    op.execute(
        "UPDATE users SET is_administrator = true "
        "WHERE id = (SELECT min(user_id) FROM memberships WHERE role = 'owner')"
    )

    op.create_table(
        "retentions",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("team_id", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=True),
        sa.Column("log_days", ROW_ID, nullable=True),
        sa.Column("step_days", ROW_ID, nullable=True),
        sa.Column("build_days", ROW_ID, nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name=op.f("fk_retentions_team_id_teams"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_retentions_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retentions")),
        sa.UniqueConstraint("team_id", "repository_id", name=op.f("uq_retentions_team_id_repository_id")),
    )
    with op.batch_alter_table("retentions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_retentions_repository_id"), ["repository_id"], unique=False)

    op.create_table(
        "audit_events",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("team_id", ROW_ID, nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("user_id", ROW_ID, nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name=op.f("fk_audit_events_team_id_teams"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_events_team_id_id"), ["team_id", "id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_audit_events_team_id_action_id"), ["team_id", "action", "id"], unique=False
        )
    for statement in FINAL[op.get_context().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit_events")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_events_final()")
    op.drop_table("retentions")
    for table, names in (
        ("users", ["is_administrator"]),
        ("repositories", ["steps_from", "builds_from"]),
        ("teams", ["deleted_at"]),
    ):
        with op.batch_alter_table(table, schema=None) as batch_op:
            for name in names:
                batch_op.drop_column(name)
