"""A webhook of a pull request → the forecast that is to be made for it."""

from integrations.feedback import FORGES
from integrations.feedback._events import read_pull_request_event
from store.database import transaction
from store.models.repositories import Repository
from store.models.sources import Source
from store.queries import repositories
from workers.feedback import ask_for_forecast


def forecast(team_id: int, source: Source, scope: Repository | None, body: bytes) -> str | None:
    """Ask for the forecast of a pull request and say so; None where an event is no such thing or nobody can be told.

    A repository that has never sent a build has no image to forecast: it is not made for this.
    """
    if source.provider not in FORGES or not source.write_credentials:
        return None
    event = read_pull_request_event(source.provider, body)
    if event is None or (scope is not None and scope.name != event.repository):
        return None
    with transaction() as session:
        repository = repositories.find_repository(session, team_id, event.repository)
        if repository is None or not ask_for_forecast(session, repository, source, event.number):
            return None
    return f"Pull request {event.number} is told what it will do to the cache."
