"""Taking a log: who may send it, what is said about it, and the one transaction in which it is accepted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, CredentialsRefusedError, ForbiddenError, InvalidValueError
from cachescope.surroundings import Surroundings
from service.auth.tokens import hash_token
from store.database import after_commit
from store.models.accounts import Token
from store.models.deliveries import Delivery
from store.models.repositories import Repository
from store.queries import accounts, deliveries, evidence, logs, repositories
from workers.hints import sender
from workers.parameters import Value, read_idempotency_key, read_parameters
from workers.receiving import ReceivedLog
from workers.settings import get_settings

KEY = "idempotency_key"
_USED_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a sender may do and has said, before the log itself has come."""

    team_id: int
    token_id: str
    parameters: dict[str, Value]
    idempotency_key: str | None
    is_first_use_in_a_while: bool = False
    """Whether the time of the token's last use is worth a write."""


def find_token(session: Session, bearer: str | None) -> Token:
    """Return the token of a sender; raises CredentialsRefusedError when there is none that works."""
    if bearer is None:
        raise CredentialsRefusedError("Send an upload token in the header `Authorization: Bearer <token>`.")
    token = accounts.find_token(session, hash_token(bearer), datetime.now(UTC))
    if token is None:
        raise CredentialsRefusedError(
            "This token is unknown, revoked or past its end. Make a new one on the team's settings page."
        )
    return token


def prepare_upload(session: Session, bearer: str | None, query: Mapping[str, object]) -> Upload:
    """Check a sender and what is said about the log, before anybody reads its body.

    Raises CredentialsRefusedError, ForbiddenError, InvalidValueError or UnknownNameError.
    """
    token = find_token(session, bearer)
    if token.scope != "upload":
        raise ForbiddenError("This is a read token. Send logs with an upload token.")
    given = {name: value for name, value in query.items() if name != KEY}
    parameters = read_parameters(given)
    if token.repository_id is not None:
        name = session.get_one(Repository, token.repository_id).name
        if parameters.setdefault("repository", name) != name:
            raise ForbiddenError(
                f'This token sends logs of {name} only, not of "{parameters["repository"]}". '
                "Use a token of that repository or of the team."
            )
    if "repository" not in parameters:
        raise InvalidValueError("repository", "Say which repository the log belongs to: add `?repository=<name>`.")
    key = query.get(KEY)
    last = token.last_used_at
    return Upload(
        team_id=token.team_id,
        token_id=token.id,
        parameters=parameters,
        idempotency_key=read_idempotency_key(key if isinstance(key, str) else None),
        is_first_use_in_a_while=last is None or datetime.now(UTC) - last > _USED_EVERY,
    )


def accept_upload(
    session: Session, upload: Upload, received: ReceivedLog, surroundings: Surroundings | None = None
) -> tuple[Delivery, bool]:
    """Write the delivery of a log that lies in the store; says whether it is new or was accepted before.

    The workers hear of it once the transaction has been committed. Raises ConflictError when the key was used for
    something else.
    """
    now = datetime.now(UTC)
    delivery_id = deliveries.make_id()
    logs.save_log(session, received.written)
    name, branch = str(upload.parameters["repository"]), upload.parameters.get("default_branch")
    repository = repositories.get_or_create_repository(
        session, upload.team_id, name, default_branch=str(branch) if branch else None
    )
    key = upload.idempotency_key or delivery_id
    values = {
        "id": delivery_id,
        "team_id": upload.team_id,
        "repository_id": repository.id,
        "token_id": upload.token_id,
        "kind": "upload",
        "idempotency_key": key,
        "parameters": upload.parameters,
        "log_digest": received.written.digest,
        "log_bytes": received.written.unpacked_bytes,
        "redactions": received.redactions,
        "state": "new",
        "attempts": 0,
        "received_at": now,
        "next_at": now + timedelta(seconds=get_settings().hint_grace_seconds),
    }
    if not deliveries.insert(session, values):
        return _find_first(session, upload, key, received.written.digest), False
    if surroundings is not None and not surroundings.is_empty:
        evidence.save_evidence(session, delivery_id, repository.id, surroundings)
    if upload.is_first_use_in_a_while:
        accounts.touch_token(session, upload.token_id, now)
    after_commit(session, lambda: sender.send(delivery_id))
    return Delivery(**values), True


def _find_first(session: Session, upload: Upload, key: str, digest: str) -> Delivery:
    first = deliveries.find_by_key(session, upload.team_id, "upload", key)
    if first is None or first.parameters != upload.parameters or first.log_digest != digest:
        differing = "log" if first is not None and first.parameters == upload.parameters else "set of parameters"
        raise ConflictError(
            f'The idempotency key "{key}" was used before with another {differing}. Use a new key for each log.'
        )
    if not deliveries.is_visible(session, first):
        raise ConflictError(
            f'The log that had the idempotency key "{key}" is being deleted. Use a new key to send it again.'
        )
    return first
