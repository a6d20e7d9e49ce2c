"""Keep who did what, and how long teams keep their data."""

revision = "2026_11_24_audit"
down_revision = "2026_11_24_identities"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""
