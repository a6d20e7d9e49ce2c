"""Repositories, the images built from them, their instructions, and every text that their steps print, stored once."""

from datetime import date

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from store.models.accounts import Team
from store.models.base import Base, CreatedAt, RowId


class Repository(Base):
    """One source repository of a team."""

    __tablename__ = "repositories"
    __table_args__ = (UniqueConstraint("team_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[RowId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    name: Mapped[str]
    default_branch: Mapped[str] = mapped_column(default="main")
    url: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    builds_from: Mapped[date | None]
    """Builds of days before have been forgotten: the sums of these days stand for them and stay as they are."""
    steps_from: Mapped[date | None]
    """The same of steps, and of the sums of instructions."""

    team: Mapped[Team] = relationship(lazy="raise")


class Image(Base):
    """One thing built from a repository, keyed by (Dockerfile, target, platform), "" where unknown."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("repository_id", "dockerfile", "target", "platform"),)

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    dockerfile: Mapped[str] = mapped_column(default="")
    target: Mapped[str] = mapped_column(default="")
    platform: Mapped[str] = mapped_column(default="")
    name: Mapped[str]
    """What pages show."""
    created_at: Mapped[CreatedAt]


class Instruction(Base):
    """A Dockerfile line with an identity that lasts over builds; its reference cost is kept here."""

    __tablename__ = "instructions"
    __table_args__ = (Index(None, "image_id"), Index(None, "repository_id"))

    id: Mapped[RowId]
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"))
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    stage: Mapped[str] = mapped_column(default="")
    keyword: Mapped[str]
    text: Mapped[str]
    """As last printed."""
    text_hash: Mapped[str]
    """Of its last wording."""
    first_build_id: Mapped[int | None]
    last_build_id: Mapped[int | None]
    reference_seconds: Mapped[float | None]
    """Exponentially weighted mean (weight 0.4) of the seconds of its executions; None while none was ever seen."""
    executions: Mapped[int] = mapped_column(default=0)


class Wording(Base):
    """One way in which an instruction has been written: two branches may word one instruction differently."""

    __tablename__ = "wordings"
    __table_args__ = (Index(None, "instruction_id"), {"sqlite_with_rowid": False})

    image_id: Mapped[int] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), primary_key=True)
    text_hash: Mapped[str] = mapped_column(primary_key=True)
    """Of the stage, the normalised text, and which of the equal texts of the stage it is."""
    instruction_id: Mapped[int] = mapped_column(ForeignKey("instructions.id", ondelete="CASCADE"))


class StepText(Base):
    """A text that steps of a repository print, once: fifteen steps a build repeat the same few hundred texts."""

    __tablename__ = "texts"
    __table_args__ = (UniqueConstraint("repository_id", "text_hash"),)

    id: Mapped[RowId]
    repository_id: Mapped[int] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    text_hash: Mapped[str]
    text: Mapped[str]
