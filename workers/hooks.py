"""A stored webhook → the log that it carries, or the reason why there is none."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError
from integrations.ci import PROVIDERS
from integrations.ci.base import HookRequest, Ignored
from store.logs import open_logs, read_log
from store.models.deliveries import Delivery
from store.models.repositories import Repository
from store.queries import deliveries, logs, repositories
from store.queries.deliveries import Claim
from store.types import unseal
from workers.parameters import Value, read_parameters
from workers.receiving import ReceivedLog, receive_log

CAP_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What a webhook said and carried; its log is in the store."""

    team_id: int
    parameters: dict[str, Value]
    received: ReceivedLog

    def save(self, session: Session, held: Claim) -> Delivery:
        """Make the delivery one with a log and forget the body of the webhook."""
        logs.save_log(session, self.received.written)
        repository = repositories.get_or_create_repository(session, self.team_id, str(self.parameters["repository"]))
        deliveries.amend(
            session,
            held,
            repository_id=repository.id,
            parameters=self.parameters,
            log_digest=self.received.written.digest,
            log_bytes=self.received.written.unpacked_bytes,
            redactions=self.received.redactions,
            body_digest=None,
        )
        return session.get_one(Delivery, held.delivery_id, populate_existing=True)


def unwrap_hook(delivery: Delivery, scope: Repository | None) -> Unwrapped | Ignored:
    """Read the event of a stored webhook; `scope` is the repository that its source is for, if it is for one.

    Raises UnreadableInputError and InvalidValueError for an event that is not as documented.
    """
    if delivery.body_digest is None:
        return Ignored("This webhook's body has not been kept.")
    body = unseal(b"".join(read_log(open_logs(), delivery.body_digest)))
    headers = delivery.parameters.get("headers", {})
    event = PROVIDERS[delivery.parameters["provider"]].read_event(HookRequest(headers=headers, body=body), CAP_BYTES)
    if isinstance(event, Ignored):
        return event
    parameters = read_parameters(event.parameters, allow_unknown=True)
    if scope is not None and parameters.setdefault("repository", scope.name) != scope.name:
        raise InvalidValueError("repository", f"This source takes logs of {scope.name} only. Change data.repository.")
    if "repository" not in parameters:
        raise InvalidValueError("repository", "The event names no repository: give data.repository.")
    if event.log is None:
        return Ignored("This event carries no log.")
    return Unwrapped(delivery.team_id, parameters, receive_log(open_logs(), event.log, cap_bytes=CAP_BYTES))
