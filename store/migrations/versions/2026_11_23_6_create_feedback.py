"""Keep what repositories want to be told at their forge, what is still to be told, and what was."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_feedback"
down_revision = "2026_11_23_recommendations"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "feedback_policies",
        sa.Column("repository_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("comments", sa.Boolean(), nullable=False),
        sa.Column("preflight", sa.Boolean(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Float(precision=53), nullable=False),
        sa.Column("least_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("badge_token", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('off', 'inform', 'fail')", name=op.f("ck_feedback_policies_mode")),
        sa.CheckConstraint("measure IN ('efficiency', 'hit_rate')", name=op.f("ck_feedback_policies_measure")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_feedback_policies_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["sources.id"],
            name=op.f("fk_feedback_policies_source_id_sources"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("repository_id", name=op.f("pk_feedback_policies")),
        sa.UniqueConstraint("badge_token", name=op.f("uq_feedback_policies_badge_token")),
    )
    with op.batch_alter_table("feedback_policies", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_feedback_policies_source_id"), ["source_id"], unique=False)

    op.create_table(
        "feedback_tasks",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", ROW_ID, nullable=False),
        sa.Column("fence", ROW_ID, nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('build', 'pull_request')", name=op.f("ck_feedback_tasks_kind")),
        sa.CheckConstraint("state IN ('new', 'working', 'done', 'failed')", name=op.f("ck_feedback_tasks_state")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_feedback_tasks_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_feedback_tasks_source_id_sources"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback_tasks")),
        sa.UniqueConstraint("repository_id", "kind", "key", name=op.f("uq_feedback_tasks_repository_id_kind_key")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("feedback_tasks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_feedback_tasks_source_id"), ["source_id"], unique=False)
        batch_op.create_index(
            "ix_feedback_tasks_due",
            ["next_at"],
            unique=False,
            postgresql_where=sa.text("state IN ('new', 'working')"),
            sqlite_where=sa.text("state IN ('new', 'working')"),
        )

    op.create_table(
        "feedback_posts",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=False),
        sa.Column("image_id", ROW_ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("build_id", ROW_ID, nullable=True),
        sa.Column("remote_id", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('comment', 'check', 'status')", name=op.f("ck_feedback_posts_kind")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_feedback_posts_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_feedback_posts_image_id_images"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_feedback_posts_build_id_builds"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback_posts")),
        sa.UniqueConstraint("image_id", "kind", "subject", name=op.f("uq_feedback_posts_image_id_kind_subject")),
    )
    with op.batch_alter_table("feedback_posts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_feedback_posts_repository_id_posted_at"), ["repository_id", "posted_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_feedback_posts_build_id"), ["build_id"], unique=False)


def downgrade() -> None:
    op.drop_table("feedback_posts")
    op.drop_table("feedback_tasks")
    op.drop_table("feedback_policies")
