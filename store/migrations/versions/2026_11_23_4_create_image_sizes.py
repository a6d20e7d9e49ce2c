"""Keep what images weigh, layer by layer."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "2026_11_23_image_sizes"
down_revision = "2026_11_23_incidents"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
OPEN = sa.text("state IN ('new', 'working')")


def upgrade() -> None:
    op.create_table(
        "sized_images",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("team_id", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("from_registry", sa.Boolean(), nullable=False),
        sa.Column("insecure", sa.Boolean(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("every_minutes", ROW_ID, nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("budget_bytes", ROW_ID, nullable=True),
        sa.Column("budget_growth", sa.Float(precision=53), nullable=True),
        sa.Column("budget_pull_request_bytes", ROW_ID, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_sized_images_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["team_id"], ["teams.id"], name=op.f("fk_sized_images_team_id_teams"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sized_images")),
        sa.UniqueConstraint("repository_id", "name", name=op.f("uq_sized_images_repository_id_name")),
    )
    with op.batch_alter_table("sized_images", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sized_images_team_id"), ["team_id"], unique=False)

    op.create_table(
        "image_sizes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("sized_image_id", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("version_key", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("manifest_digest", sa.Text(), nullable=True),
        sa.Column("build_id", ROW_ID, nullable=True),
        sa.Column("commit_id", sa.Text(), nullable=True),
        sa.Column("branch", sa.Text(), nullable=False),
        sa.Column("branch_class", sa.Text(), nullable=False),
        sa.Column("pull_request", sa.Text(), nullable=True),
        sa.Column("base_image", sa.Text(), nullable=True),
        sa.Column("compressed_bytes", ROW_ID, nullable=True),
        sa.Column("unpacked_bytes", ROW_ID, nullable=True),
        sa.Column("own_compressed_bytes", ROW_ID, nullable=True),
        sa.Column("own_unpacked_bytes", ROW_ID, nullable=True),
        sa.Column("layer_count", ROW_ID, nullable=False),
        sa.Column("ways", JSON, nullable=False),
        sa.Column("contents", JSON, nullable=True),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_image_sizes_build_id_builds"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repositories.id"],
            name=op.f("fk_image_sizes_repository_id_repositories"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["sized_image_id"],
            ["sized_images.id"],
            name=op.f("fk_image_sizes_sized_image_id_sized_images"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image_sizes")),
        sa.UniqueConstraint(
            "sized_image_id", "platform", "version_key", name=op.f("uq_image_sizes_sized_image_id_platform_version_key")
        ),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("image_sizes", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_sizes_build_id"), ["build_id"], unique=False)
        batch_op.create_index(
            "ix_image_sizes_newest", ["sized_image_id", "platform", "released_at", "id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_image_sizes_repository_id_released_at"), ["repository_id", "released_at"], unique=False
        )

    op.create_table(
        "measurings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sized_image_id", ROW_ID, nullable=False),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("build_id", ROW_ID, nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", ROW_ID, nullable=False),
        sa.Column("fence", ROW_ID, nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("reason IN ('push', 'build', 'schedule', 'asked')", name=op.f("ck_measurings_reason")),
        sa.CheckConstraint("state IN ('new', 'working', 'done', 'failed')", name=op.f("ck_measurings_state")),
        sa.ForeignKeyConstraint(
            ["build_id"], ["builds.id"], name=op.f("fk_measurings_build_id_builds"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["sized_image_id"],
            ["sized_images.id"],
            name=op.f("fk_measurings_sized_image_id_sized_images"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurings")),
    )
    with op.batch_alter_table("measurings", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_measurings_build_id"), ["build_id"], unique=False)
        batch_op.create_index("ix_measurings_due", ["next_at"], unique=False, postgresql_where=OPEN, sqlite_where=OPEN)
        batch_op.create_index(
            batch_op.f("ix_measurings_sized_image_id_created_at"), ["sized_image_id", "created_at"], unique=False
        )
        batch_op.create_index(
            "uq_measurings_open", ["sized_image_id", "wanted"], unique=True, postgresql_where=OPEN, sqlite_where=OPEN
        )

    op.create_table(
        "image_layers",
        sa.Column("image_size_id", ROW_ID, nullable=False),
        sa.Column("position", ROW_ID, nullable=False),
        sa.Column("repository_id", ROW_ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("diff_id", sa.Text(), nullable=True),
        sa.Column("instruction", sa.Text(), nullable=True),
        sa.Column("step_position", ROW_ID, nullable=True),
        sa.Column("compressed_bytes", ROW_ID, nullable=True),
        sa.Column("unpacked_bytes", ROW_ID, nullable=True),
        sa.Column("base", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(
            ["image_size_id"],
            ["image_sizes.id"],
            name=op.f("fk_image_layers_image_size_id_image_sizes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("image_size_id", "position", name=op.f("pk_image_layers")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("image_layers", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_image_layers_repository_id_diff_id"), ["repository_id", "diff_id"], unique=False
        )


def downgrade() -> None:
    with op.batch_alter_table("image_layers", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_layers_repository_id_diff_id"))

    op.drop_table("image_layers")
    with op.batch_alter_table("measurings", schema=None) as batch_op:
        batch_op.drop_index("uq_measurings_open", postgresql_where=OPEN, sqlite_where=OPEN)
        batch_op.drop_index(batch_op.f("ix_measurings_sized_image_id_created_at"))
        batch_op.drop_index("ix_measurings_due", postgresql_where=OPEN, sqlite_where=OPEN)
        batch_op.drop_index(batch_op.f("ix_measurings_build_id"))

    op.drop_table("measurings")
    with op.batch_alter_table("image_sizes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_image_sizes_repository_id_released_at"))
        batch_op.drop_index("ix_image_sizes_newest")
        batch_op.drop_index(batch_op.f("ix_image_sizes_build_id"))

    op.drop_table("image_sizes")
    with op.batch_alter_table("sized_images", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sized_images_team_id"))

    op.drop_table("sized_images")
