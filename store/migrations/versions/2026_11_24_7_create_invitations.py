"""Keep invitations, roles and what throttles sign-ins."""

revision = "2026_11_24_invitations"
down_revision = "2026_11_23_feedback"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing yet."""
