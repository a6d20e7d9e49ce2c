"""Asking a CI system on behalf of a source: with its credentials, in the networks that it may reach, at its pace."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cachescope.errors import CachescopeError
from integrations.ci import PROVIDERS
from integrations.ci._api import Api, DeniedError, PausedError
from integrations.ci.base import Access, CIRun, Reader
from integrations.http import ForbiddenAddressError, HttpClient, IPNetwork, Reach, UnreachableError, read_networks
from store.database import transaction
from store.models.sources import Source
from store.queries import sources
from workers.settings import get_settings

PAUSE = timedelta(seconds=60)
"""How long a CI system is left alone that does not say for how long it wants to be."""


def reach_of(source: Source) -> Reach:
    """The networks that a source may reach: those that its owner named and whoever runs the server allows."""
    allowed = read_networks(get_settings().networks)
    wanted = read_networks(source.networks)
    return Reach(tuple(found for one in wanted for other in allowed if (found := _both(one, other)) is not None))


def _both(one: IPNetwork, other: IPNetwork) -> IPNetwork | None:
    """What lies in both: networks lie within each other or apart."""
    smaller, larger = sorted((one, other), key=lambda network: network.prefixlen, reverse=True)
    is_within = smaller.version == larger.version and smaller.network_address in larger
    return smaller if is_within else None


def reader_of(source: Source) -> Reader | None:
    """How the logs of a source are fetched; None where that is not possible, or its owner gave no credentials."""
    reader = PROVIDERS[source.provider].reader
    if reader is None or (reader.needs_credentials and not source.read_credentials):
        return None
    return reader if source.base_url or reader.cloud_url else None


@contextmanager
def asking(source: Source, reader: Reader, run: CIRun | None = None) -> Iterator[Api]:
    """Open the API of a source; what goes wrong is noted with it, so that its page can say so.

    Raises PausedError while it wants to be left alone.
    """
    now = datetime.now(UTC)
    if source.resume_at is not None and source.resume_at > now:
        raise PausedError("Its rate limit is used up.", (source.resume_at - now).total_seconds())
    access = Access(
        base_url=source.base_url, credentials=sources.load_credentials(source, "read"), reach=reach_of(source)
    )
    try:
        with HttpClient(access.reach) as client:
            yield reader.connect(client, access, run)
    except PausedError as error:
        pause = PAUSE if error.seconds is None else timedelta(seconds=error.seconds)
        with transaction() as session:
            sources.leave_alone(session, source.id, datetime.now(UTC) + pause)
        raise
    except (DeniedError, UnreachableError, ForbiddenAddressError) as error:
        _note(source, error)
        raise
    if source.problem is not None:
        _note(source, None)


def _note(source: Source, error: CachescopeError | None) -> None:
    with transaction() as session:
        sources.note_problem(session, source.id, None if error is None else str(error), datetime.now(UTC))
