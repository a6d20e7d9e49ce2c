"""Keep what images weigh, layer by layer."""

revision = "2026_11_23_image_sizes"
down_revision = "2026_11_23_incidents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
