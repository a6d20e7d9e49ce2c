"""Keep invitations, sign-in providers, retention and the audit log."""

revision = "2026_11_23_administration"
down_revision = "2026_11_23_image_sizes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""


def downgrade() -> None:
    """Nothing yet."""
