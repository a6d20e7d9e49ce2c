"""Keep what a source reads and writes with, and what came of its deliveries."""

revision = "2026_11_23_sources"
down_revision = "2026_11_23"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
