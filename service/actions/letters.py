"""E-mails to people about their accounts: written into the outbox, sent by a worker once the work is committed."""

import json
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from integrations.channels.base import Notice
from integrations.settings import get_settings
from store.database import after_commit
from store.queries import letters
from store.queries.deliveries import make_id
from workers.tasks.mailing import hand_on


def is_mail_set_up() -> bool:
    """Whether this installation can send e-mail."""
    return get_settings().mail is not None


def send_letter(
    session: Session,
    kind: str,
    recipient: str,
    title: str,
    lines: tuple[str, ...],
    *,
    url: str,
    link: str,
    team_id: int | None = None,
    user_id: int | None = None,
) -> None:
    """Write a letter, which a worker sends once the transaction is over; nothing happens without a mail server."""
    if not is_mail_set_up():
        return
    now, letter_id = datetime.now(UTC), make_id()
    notice = Notice(id=letter_id, kind=kind, title=title, lines=lines, url=url, link=link, at=now.isoformat())
    letters.write(
        session,
        letter_id=letter_id,
        kind=kind,
        recipient=recipient,
        notice=json.dumps(notice.as_document()),
        next_at=now,
        team_id=team_id,
        user_id=user_id,
    )
    after_commit(session, hand_on)
