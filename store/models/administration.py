"""How long teams keep their data, and who did what."""

from typing import Any

from sqlalchemy import DDL, ForeignKey, Index, Table, UniqueConstraint, event
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, RowId


class Retention(Base):
    """For how many days a team, or one of its repositories, keeps what was sent; None keeps it for ever.

    The row of a repository counts instead of that of its team.
    """

    __tablename__ = "retentions"
    __table_args__ = (UniqueConstraint("team_id", "repository_id"), Index(None, "repository_id"))

    id: Mapped[RowId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    log_days: Mapped[int | None]
    step_days: Mapped[int | None]
    build_days: Mapped[int | None]
    updated_at: Mapped[CreatedAt]


class AuditEvent(Base):
    """One thing that somebody did. Rows are added and never changed; they go only with their team."""

    __tablename__ = "audit_events"
    __table_args__ = (
        Index(None, "team_id", "id"),
        Index(None, "team_id", "action", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[RowId]
    at: Mapped[CreatedAt]
    team_id: Mapped[int | None] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    """None for what concerns the installation."""
    action: Mapped[str]
    """What was done, such as `token.made`."""
    actor: Mapped[str]
    """Who did it, as they were called then."""
    user_id: Mapped[int | None]
    """Their account; no foreign key, as a row may not change when the account goes."""
    address: Mapped[str | None]
    """The network address that the request came from."""
    target: Mapped[str] = mapped_column(default="")
    """What it was done to, by name."""
    details: Mapped[dict[str, Any]] = mapped_column(default=dict)


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

_TABLE = AuditEvent.__table__
assert isinstance(_TABLE, Table)  # noqa: S101 - what SQLAlchemy's types cannot say
for _dialect, _statements in FINAL.items():
    for _statement in _statements:
        event.listen(_TABLE, "after_create", DDL(_statement).execute_if(dialect=_dialect))  # type: ignore[no-untyped-call]  # it is
