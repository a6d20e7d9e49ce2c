"""What routes of pages ask for: the reader, their team, and what every page of it shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from cachescope.errors import SignInRequiredError
from dashboards.rendering import render
from service.auth.forms import FORM_FIELD, check_form, form_token
from service.auth.permissions import Viewer
from service.dependencies import SessionDep, ViewerDep
from store.models import Repository, Team
from store.queries import incidents, teams

Crumbs = Sequence[tuple[str, str | None]]


@dataclass(frozen=True, slots=True)
class Page:
    """A request by somebody who is signed in."""

    request: Request
    session: Session
    viewer: Viewer

    def show(
        self, template: str, team: Team, *, crumbs: Crumbs = (), status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Render a page of a team."""
        return render(
            self.request,
            template,
            status=status,
            team=team,
            teams=teams.list_teams(self.session, self.viewer.team_ids),
            viewer=self.viewer,
            zone=team.time_zone,
            open_alerts=incidents.count_active(self.session, team.id),
            form_token=form_token(self.request),
            crumbs=[(team.name, f"/teams/{team.slug}"), *crumbs],
            **context,
        )

    def team_of(self, repository: Repository) -> Team:
        """The team that owns a repository the reader may see."""
        return self.session.get_one(Team, repository.team_id)


def get_page(request: Request, session: SessionDep, viewer: ViewerDep) -> Page:
    """Bring together what every page needs; raises SignInRequiredError for a token: pages are for people."""
    if viewer.user_id is None:
        raise SignInRequiredError("Pages are for people: sign in. A read token reads the same under /api/v1.")
    return Page(request, session, viewer)


PageDep = Annotated[Page, Depends(get_page)]


async def get_form(request: Request) -> dict[str, str]:
    """The fields of a form that came from one of our pages; raises ForbiddenError for any other.

    Fields are texts, the last of several with one name counts, and files are left out. Routes name it first: the form
    has then come as a whole before a transaction begins that other writers wait for.
    """
    async with request.form(max_files=0, max_fields=40, max_part_size=64 * 1024) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
    check_form(request, fields.get(FORM_FIELD))
    return fields


FormDep = Annotated[dict[str, str], Depends(get_form)]
