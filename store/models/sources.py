"""Webhook sources: each has its own address, its own secrets, and what is needed to ask its CI system."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from store.models.base import Base, CreatedAt, PublicId
from store.types import EncryptedText


class Source(Base):
    """A CI provider that sends webhooks to `/hooks/{id}`."""

    __tablename__ = "sources"
    __table_args__ = (Index(None, "team_id"), Index(None, "repository_id"))

    id: Mapped[PublicId]
    team_id: Mapped[int] = mapped_column(ForeignKey("teams.id", ondelete="CASCADE"))
    repository_id: Mapped[int | None] = mapped_column(ForeignKey("repositories.id", ondelete="CASCADE"))
    name: Mapped[str]
    provider: Mapped[str]
    secrets: Mapped[str] = mapped_column(EncryptedText)
    """JSON, encrypted: a list of {"secret", "ends_at"}; a rotated secret still works until its end."""
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[datetime | None]
    scheme: Mapped[str | None]
    """How webhooks prove who sends them; None takes the provider's first scheme."""
    base_url: Mapped[str] = mapped_column(default="")
    """The server whose API is asked; empty means the vendor's own."""
    read_credentials: Mapped[str | None] = mapped_column(EncryptedText)
    """JSON, encrypted: an object of texts such as `token`, or `app_id` and `private_key`; for logs and files."""
    write_credentials: Mapped[str | None] = mapped_column(EncryptedText)
    """The same for comments and checks; None where nothing may be written."""
    networks: Mapped[str] = mapped_column(default="")
    """Networks besides the public internet that this source may reach, such as 10.1.0.0/16."""
    resume_at: Mapped[datetime | None]
    """Until then the CI system is left alone: its rate limit was used up."""
    asked_at: Mapped[datetime | None]
    """When it was last asked for runs of which no webhook came."""
    asked_until: Mapped[datetime | None]
    """Everything that ended before was seen by such a question that went well."""
    problem: Mapped[str | None]
    """Why the last request to it failed; None when it went well."""
    problem_at: Mapped[datetime | None]
    refused: Mapped[int] = mapped_column(default=0)
    """How many requests to its address were refused, counted in steps; the last of them below."""
    refused_at: Mapped[datetime | None]
    refused_reason: Mapped[str | None]


class Hook(Base):
    """What a delivery by webhook has besides others: the request itself, and the run that it tells of."""

    __tablename__ = "hooks"
    __table_args__ = (Index(None, "source_id", "subject"),)

    delivery_id: Mapped[str] = mapped_column(ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True)
    source_id: Mapped[str] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    subject: Mapped[str | None]
    """The CI execution that it tells of; two webhooks with one subject mean the same."""
    headers: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Without signatures and tokens."""
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    """As it came, packed and encrypted; None for a large one, which lies with the logs, or when it is forgotten."""
    body_bytes: Mapped[int] = mapped_column(default=0)
    run: Mapped[dict[str, Any] | None]
    """What a run that was found by asking is, or what the webhook said: see `workers.hooks`."""
    is_found: Mapped[bool] = mapped_column(default=False)
    """No webhook told of it: it was found by asking."""
    tries: Mapped[int] = mapped_column(default=0)
    """How often its log was asked for and was not there."""
