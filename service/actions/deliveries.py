"""What became of a log that was sent, and trying it again."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, NotFoundError
from service.auditing import note
from service.auth.permissions import Viewer
from store.database import after_commit
from store.models.accounts import Team
from store.models.deliveries import Delivery
from store.queries import deliveries, hooks
from workers.hints import sender


def list_deliveries(
    session: Session,
    viewer: Viewer,
    team: Team,
    *,
    state: str | None = None,
    before: Delivery | None = None,
    limit: int = 50,
) -> Sequence[Delivery]:
    """A page of a team's deliveries, newest first: the latest ones, or those older than `before`."""
    if team.id not in viewer.roles:
        raise NotFoundError("There is no such team here, or you do not belong to it.")
    return deliveries.load_latest(
        session,
        team.id,
        repository_id=viewer.repository_id,
        state=state,
        before=(before.received_at, before.id) if before is not None else None,
        limit=min(limit, 200),
    )


def find_delivery(session: Session, viewer: Viewer, delivery_id: str) -> Delivery:
    """One delivery that the viewer may see; raises NotFoundError otherwise."""
    delivery = session.get(Delivery, delivery_id)
    is_there = delivery is not None and deliveries.is_visible(session, delivery)
    if delivery is None or not is_there or not viewer.may_see(delivery.team_id, delivery.repository_id):
        raise NotFoundError(f"There is no delivery {delivery_id[:40]} here, or you may not see it.")
    return delivery


def retry_delivery(session: Session, viewer: Viewer, delivery_id: str) -> Delivery:
    """Put a failed or ignored delivery back to the start of its way."""
    delivery = find_delivery(session, viewer, delivery_id)
    viewer.require(delivery.team_id, "member", "try a delivery again")
    hook = hooks.find_hook(session, delivery.id)
    is_kept = hook is not None and (hook.body is not None or hook.run is not None)
    if delivery.log_digest is None and delivery.body_digest is None and not is_kept:
        raise ConflictError("Nothing of this delivery has been kept, so it cannot be read again. Send it again.")
    if not deliveries.requeue(session, delivery.id, datetime.now(UTC), "failed", "ignored"):
        raise ConflictError(f"This delivery is {delivery.state}: only a failed or ignored one can be tried again.")
    note(session, viewer, "delivery.retried", team_id=delivery.team_id, target=delivery_id)
    after_commit(session, lambda: sender.send(delivery_id))
    session.refresh(delivery)
    return delivery
