"""What a user may do with a recommendation: put it aside, and take it back."""

from datetime import UTC, datetime

from sqlalchemy.orm import Session

from cachescope.errors import ConflictError, NotFoundError
from service.auth.permissions import Viewer
from store.models import Repository, StoredRecommendation
from store.queries import recommendations


def find(session: Session, viewer: Viewer, recommendation_id: int) -> StoredRecommendation:
    """One recommendation that the viewer may see; raises NotFoundError otherwise."""
    row = None
    if 0 < recommendation_id < 1 << 62:
        row = recommendations.find_recommendation(session, viewer.team_ids, recommendation_id)
    if row is None:
        raise NotFoundError(f"There is no recommendation {recommendation_id} here, or you may not see it.")
    return row


def dismiss(session: Session, viewer: Viewer, recommendation_id: int) -> StoredRecommendation:
    """Put a recommendation aside; it stays aside however often it is found again."""
    row = _find_to_change(session, viewer, recommendation_id, "open")
    row.state, row.changed_at = "dismissed", datetime.now(UTC)
    session.flush()
    return row


def restore(session: Session, viewer: Viewer, recommendation_id: int) -> StoredRecommendation:
    """Take a recommendation back that was put aside."""
    row = _find_to_change(session, viewer, recommendation_id, "dismissed")
    row.state, row.changed_at = "open", datetime.now(UTC)
    session.flush()
    return row


def _find_to_change(session: Session, viewer: Viewer, recommendation_id: int, state: str) -> StoredRecommendation:
    row = find(session, viewer, recommendation_id)
    team_id = session.get_one(Repository, row.repository_id).team_id
    viewer.require(team_id, "member", "decide about recommendations")
    if row.state != state:
        raise ConflictError(f"This recommendation is {row.state}, not {state}. Reload the page.")
    return row
