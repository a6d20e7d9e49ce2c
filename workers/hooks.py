"""A stored webhook → the run that it tells of → its log, fetched where the event does not carry it."""

from collections.abc import Mapping
from dataclasses import dataclass

from backports import zstd
from sqlalchemy.orm import Session

from cachescope.errors import InvalidValueError
from integrations.ci import PROVIDERS
from integrations.ci.base import CIRun, HookRequest, Ignored, Reader
from store.database import reading, transaction
from store.logs import open_logs, read_log
from store.models.deliveries import Delivery
from store.models.repositories import Repository
from store.models.sources import Source
from store.queries import deliveries, hooks, logs, repositories
from store.queries.deliveries import Claim
from store.types import seal, unseal
from workers.asking import asking, reader_of
from workers.forecasts import forecast
from workers.parameters import Value, read_parameters
from workers.receiving import LogReceiver, ReceivedLog, receive_log
from workers.runs import read_run, write_run
from workers.tasks.measuring import request_pushed

CAP_BYTES = 256 * 1024 * 1024
BODY_CAP = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Noted:
    """An event that was of use without a log."""

    what: str


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What a webhook said, and its log, which is in the store."""

    team_id: int
    parameters: dict[str, Value]
    received: ReceivedLog
    carried_log: bool
    """Whether the body held the log: then it holds secrets too, and goes."""

    def save(self, session: Session, held: Claim) -> Delivery:
        """Make the delivery one with a log."""
        logs.save_log(session, self.received.written)
        branch = self.parameters.get("default_branch")
        repository = repositories.get_or_create_repository(
            session,
            self.team_id,
            str(self.parameters["repository"]),
            default_branch=str(branch) if branch else None,
        )
        values = {"body_digest": None} if self.carried_log else {}
        deliveries.amend(
            session,
            held,
            repository_id=repository.id,
            parameters=self.parameters,
            log_digest=self.received.written.digest,
            log_bytes=self.received.written.unpacked_bytes,
            redactions=self.received.redactions,
            **values,
        )
        if self.carried_log:
            hooks.forget_body(session, held.delivery_id)
        return session.get_one(Delivery, held.delivery_id, populate_existing=True)


def pack_body(body: bytes) -> bytes:
    """Pack and encrypt the body of a webhook: it may hold what a log must never show."""
    return seal(zstd.compress(body, 3))


def unpack_body(kept: bytes) -> bytes:
    """Return the body of a webhook as it came."""
    unpacker = zstd.ZstdDecompressor()
    return unpacker.decompress(unseal(kept), BODY_CAP)


def read_hook(delivery: Delivery, headers: Mapping[str, str], body: bytes | None) -> CIRun | Ignored:
    """Read the event of a webhook as its provider documents it. Raises UnreadableInputError."""
    if body is None and delivery.body_digest is not None:
        body = unseal(b"".join(read_log(open_logs(), delivery.body_digest)))
    if body is None:
        return Ignored("This webhook's body has not been kept.")
    provider = PROVIDERS[delivery.parameters["provider"]]
    return provider.read_event(HookRequest(headers=dict(headers), body=body), CAP_BYTES)


def unwrap_hook(delivery: Delivery, scope: Repository | None) -> Unwrapped | Ignored | Noted:
    """Find the log of a stored webhook; `scope` is the repository that its source is for, if it is for one.

    Raises UnreadableInputError and InvalidValueError for an event that is not as documented, and the errors of
    `integrations.ci._api` and `integrations.http` where its log cannot be fetched (now).
    """
    with reading() as session:
        hook = hooks.find_hook(session, delivery.id)
        source = session.get(Source, delivery.source_id) if delivery.source_id else None
    if hook is None or source is None:
        return Ignored("The source of this webhook was deleted.")
    if hook.run is not None:
        run: CIRun | Ignored = read_run(hook.run)
    else:
        body = unpack_body(hook.body) if hook.body is not None else None
        if body is not None and (told := forecast(delivery.team_id, source, scope, body)):
            return Noted(told)
        run = read_hook(delivery, hook.headers, body)
        if isinstance(run, CIRun) and run.log is None:
            with transaction() as session:
                hooks.save_run(session, delivery.id, run.subject, write_run(run))
    if isinstance(run, Ignored):
        return run
    if run.kind == "image":
        return _link_images(delivery.team_id, run)
    parameters = _parameters(run, scope)
    if run.log is not None:
        received = receive_log(open_logs(), run.log, cap_bytes=CAP_BYTES)
        return Unwrapped(delivery.team_id, parameters, received, carried_log=True)
    reader = reader_of(source)
    if reader is None:
        return Ignored(_why_not_fetched(source))
    if run.kind == "run" and source.provider in _JOBS_ARE_TOLD:
        return Ignored("Each of its jobs has an event of its own, which carries the log.")
    if run.subject is not None:
        with reading() as session:
            if same := hooks.find_same(session, source.id, run.subject, delivery.id):
                return Ignored(f"Delivery {same} is about the same job.")
    return _fetch(delivery, source, reader, run, parameters, hook.tries)


_JOBS_ARE_TOLD = frozenset({"github", "gitea", "gitlab", "circleci"})
"""Where runs and pipelines are told besides their jobs."""


_SAID_BETTER = frozenset({"branch"})
"""What an API corrects: an event of a fork's run names its branch as if it were ours."""


def _parameters(run: CIRun, scope: Repository | None) -> dict[str, Value]:
    said = dict(run.parameters)
    if run.started_at is not None:
        said.setdefault("started_at", run.started_at.isoformat())
    parameters = read_parameters(said, allow_unknown=True)
    if scope is not None and parameters.setdefault("repository", scope.name) != scope.name:
        raise InvalidValueError("repository", f"This source takes logs of {scope.name} only. Change data.repository.")
    if "repository" not in parameters:
        raise InvalidValueError("repository", "The event names no repository: give data.repository.")
    return parameters


def _fetch(  # noqa: PLR0917 - what a log is fetched with
    delivery: Delivery, source: Source, reader: Reader, run: CIRun, parameters: dict[str, Value], tries: int
) -> Unwrapped:
    with asking(source, reader, run) as api:
        pieces = reader.read_log(api, run, CAP_BYTES, tries)
        with LogReceiver(open_logs(), encoding="identity", cap_bytes=CAP_BYTES) as receiver:
            for piece in pieces:
                receiver.feed(piece)
            received = receiver.finish()
        more = reader.describe(api, run)
    told = {
        name: value
        for name, value in more.items()
        if value is not None and (name not in parameters or name in _SAID_BETTER)
    }
    return Unwrapped(delivery.team_id, parameters | read_parameters(told), received, carried_log=False)


def _why_not_fetched(source: Source) -> str:
    reader = PROVIDERS[source.provider].reader
    if reader is None:
        return "This event carries no log, and none can be fetched from this system: send it with `cachescope push`."
    if not source.base_url and not reader.cloud_url:
        return "This event carries no log: name the server of this source, so that the log can be fetched."
    return "This event carries no log: give this source a token to read logs with, then send the event again."


def _link_images(team_id: int, run: CIRun) -> Noted | Ignored:
    with transaction() as session:
        linked = [hooks.link_push(session, team_id, pushed.digest, pushed.name, pushed.tag) for pushed in run.images]
        measured = request_pushed(session, team_id, run.images)
    builds = sorted({build_id for found in linked for build_id in found})
    if not builds and measured:
        return Noted("The image that was pushed is followed: it will be measured.")
    if not builds:
        return Ignored("No build of this team has made the image that was pushed.")
    return Noted(f"The image that was pushed is that of build {', '.join(map(str, builds[:5]))}.")
