"""What was sent with a log besides it: Dockerfiles, the files of the commit, the command line of the build."""

from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, RowId


class EvidenceText(Base):
    """A Dockerfile or another text of a repository, once however many builds came with it."""

    __tablename__ = "evidence_texts"
    __table_args__ = (UniqueConstraint("repository_id", "text_hash"),)

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    text_hash: Mapped[str]
    text: Mapped[str]


class BuildEvidence(Base):
    """The evidence that belongs to the log of one delivery."""

    __tablename__ = "evidence"
    __table_args__ = (Index(None, "repository_id", "created_at"),)

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    document: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """As `store.queries.evidence` writes it: texts by the ids of their rows, the rest as it was sent."""
    files: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The files of the commit with their hashes and sizes, packed; kept for the newest logs of a repository."""
    created_at: Mapped[CreatedAt]
