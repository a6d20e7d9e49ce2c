"""Keep who people are at their company's sign-in."""

revision = "2026_11_24_identities"
down_revision = "2026_11_24_invitations"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""
