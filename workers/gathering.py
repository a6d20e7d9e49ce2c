"""Evidence for the causes of misses, asked of the forge: what the commit changed, and the Dockerfile of the commit.

Asked for only where a log holds builds, once for all of them. It makes causes surer and is not waited for: a forge that
is away for longer than a few tries costs the evidence and never the build.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from cachescope.errors import CachescopeError
from cachescope.evidence import ChangedFile
from cachescope.model import LogReading
from cachescope.surroundings import MAX_DOCKERFILES, Surroundings
from integrations.ci._api import Api, NotYetError, PausedError
from integrations.ci.base import CIRun, Reader
from integrations.http import UnreachableError
from store.database import reading
from store.models import Repository
from store.models.deliveries import Delivery
from store.models.sources import Source
from store.queries import hooks
from workers.asking import asking, reader_of
from workers.runs import read_run

logger = structlog.get_logger(__name__)

MOST_TRIES = 3
_LOADS_DEFINITION = re.compile(r"load build definition from (\S{1,300})")


def gather(delivery: Delivery, log: LogReading) -> Surroundings | None:
    """Ask for what is known of the commit that was built; None where nothing is.

    Raises PausedError and UnreachableError as long as another try is worth it.
    """
    with reading() as session:
        hook = hooks.find_hook(session, delivery.id)
        source = session.get(Source, delivery.source_id) if delivery.source_id else None
        repository = session.get(Repository, delivery.repository_id) if delivery.repository_id else None
    commit = delivery.parameters.get("commit")
    reader = reader_of(source) if source is not None else None
    if hook is None or hook.run is None or source is None or repository is None or reader is None or not commit:
        return None
    run = read_run(hook.run)
    before = _commit_before(delivery, repository)
    try:
        with asking(source, reader, run) as api:
            question = _Question(reader, api, run, str(commit))
            found = question.ask(before, list(_paths(delivery, log)))
    except (NotYetError, PausedError, UnreachableError) as error:
        if delivery.attempts <= MOST_TRIES:
            raise
        logger.warning("evidence_not_fetched", reason=str(error))
        return None
    except CachescopeError as error:
        logger.warning("evidence_not_fetched", reason=str(error))
        return None
    return None if found.is_empty else found


@dataclass(frozen=True, slots=True)
class _Question:
    reader: Reader
    api: Api
    run: CIRun
    commit: str

    def ask(self, before: str | None, paths: list[str]) -> Surroundings:
        changes = self._changes(before) if before is not None else None
        dockerfiles = {path: text for path in paths if (text := self._file(path)) is not None}
        # Several Dockerfiles are of several images, and the log does not say which target reads which.
        path, text = next(iter(dockerfiles.items())) if len(dockerfiles) == 1 else ("", "")
        return Surroundings(
            dockerfiles={"": text} if path else {},
            dockerfile_path=path,
            dockerignore=(self._file(".dockerignore") or "") if path else None,
            changed_files=changes,
            changed_since=before if changes is not None else None,
        )

    def _changes(self, before: str) -> tuple[ChangedFile, ...] | None:
        return () if before == self.commit else self.reader.fetch_changes(self.api, self.run, before, self.commit)

    def _file(self, path: str) -> str | None:
        return self.reader.fetch_file(self.api, self.run, path, self.commit)


def _paths(delivery: Delivery, log: LogReading) -> Iterator[str]:
    """Where the Dockerfiles may lie: where CI said, else under the names that the builder printed."""
    if told := delivery.parameters.get("dockerfile"):
        yield posixpath.normpath(str(told))
        return
    names = {
        found[1]: None
        for build in log.builds
        for step in build.steps
        if (found := _LOADS_DEFINITION.search(step.text)) is not None
    }
    yield from list(names or {"Dockerfile": None})[:MAX_DOCKERFILES]


def _commit_before(delivery: Delivery, repository: Repository) -> str | None:
    """The commit that this one will most likely be compared with: see `readings` for how a baseline is found."""
    told = (delivery.parameters.get(name) for name in ("branch", "base_branch"))
    branches = dict.fromkeys(str(one) for one in (*told, repository.default_branch) if one)
    with reading() as session:
        return hooks.find_last_commit(session, repository.id, list(branches), delivery.received_at)
