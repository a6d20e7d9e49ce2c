"""What became of a log that was sent."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from service.actions import deliveries as actions
from service.api.models import DeliveryAnswer, to_delivery
from service.auth.permissions import Viewer
from service.dependencies import (
    OPENAPI_SECURITY,
    SessionDep,
    TeamDep,
    ViewerDep,
    base_url,
    bearer_of,
    find_bearer,
    find_viewer,
    get_viewer,
)
from service.errors import responses
from store.models.deliveries import Delivery
from store.queries.builds import load_builds_of_delivery

router = APIRouter(prefix="/api/v1", tags=["deliveries"], dependencies=OPENAPI_SECURITY)

State = Literal["new", "working", "done", "ignored", "failed"]


class DeliveriesAnswer(BaseModel):
    """The latest deliveries, newest first."""

    deliveries: list[DeliveryAnswer]


def get_sender(request: Request, session: SessionDep) -> Viewer:
    """Say who asks about a delivery: whoever may see the team, and the upload token that may have sent it."""
    if (bearer := bearer_of(request)) is not None:
        token = find_bearer(session, bearer)
        if token.scope == "upload":
            return Viewer(name=token.name, roles={token.team_id: "viewer"}, repository_id=token.repository_id)
    return get_viewer(find_viewer(request, session))


def describe(request: Request, session: SessionDep, delivery: Delivery) -> DeliveryAnswer:
    """Describe a delivery with its builds."""
    return to_delivery(
        delivery, [build.id for build in load_builds_of_delivery(session, delivery.id)], base_url(request)
    )


@router.get("/deliveries/{delivery_id}", summary="One delivery", responses=responses(401, 404))
def get_delivery(
    request: Request, delivery_id: str, session: SessionDep, sender: Annotated[Viewer, Depends(get_sender)]
) -> DeliveryAnswer:
    """Say how far a log has come, and where its builds are."""
    return describe(request, session, actions.find_delivery(session, sender, delivery_id))


@router.get("/teams/{slug}/deliveries", summary="Latest deliveries", responses=responses(401, 404, 422))
def list_deliveries(
    *,
    request: Request,
    session: SessionDep,
    viewer: ViewerDep,
    team: TeamDep,
    state: State | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> DeliveriesAnswer:
    """List what a team received last."""
    found = actions.list_deliveries(session, viewer, team, state=state, limit=limit)
    return DeliveriesAnswer(deliveries=[describe(request, session, delivery) for delivery in found])


@router.post("/deliveries/{delivery_id}/retry", summary="Try again", responses=responses(401, 403, 404, 409))
def retry_delivery(request: Request, delivery_id: str, session: SessionDep, viewer: ViewerDep) -> DeliveryAnswer:
    """Read a failed or ignored delivery once more."""
    return describe(request, session, actions.retry_delivery(session, viewer, delivery_id))
