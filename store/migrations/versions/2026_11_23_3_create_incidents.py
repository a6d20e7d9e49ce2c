"""Keep incidents, their history, channels and messages."""

revision = "2026_11_23_incidents"
down_revision = "2026_11_23_sources"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
