"""Reading from Buildbot: the output of every step of a build, and the builds that ended lately.

Source: https://docs.buildbot.net/latest/developer/rest.html and runs of Buildbot 4.3. Its logs are kept by step; `raw`
gives text with the command before it and `program finished with exit code N` behind.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from cachescope.evidence import ChangedFile
from integrations.ci import _bodies as read
from integrations.ci._api import Api, NeverError, NotYetError
from integrations.ci.base import Access, CIRun
from integrations.http import HttpClient

_MOST_STEPS = 200


class BuildbotReader:
    """A Buildbot master; its API asks for no credentials unless somebody put a proxy in front."""

    cloud_url = ""
    credential_fields: Sequence[str] = ("user", "token")
    needs_credentials = False

    def connect(self, client: HttpClient, access: Access, run: CIRun | None = None) -> Api:
        """Open the API."""
        return Api(client, f"{access.base_url}/api/v2", authorization(access.credentials))

    def describe(self, api: Api, run: CIRun) -> Mapping[str, object]:
        """Nothing more is known: the event says it all."""
        return {}

    def read_log(self, api: Api, run: CIRun, cap_bytes: int, tries: int) -> Iterator[bytes]:
        """Read what the steps printed, one after another."""
        build_id = run.log_reference.get("build_id")
        if build_id is None:
            raise NeverError("The event does not say which build it is about.")
        build = api.get(f"/builds/{build_id}")
        if build is None:
            raise NeverError("There is no such build (any more).")
        if read.part(build, "builds", 0, "complete") is not True:
            raise NotYetError("The build has not ended yet.")
        steps = read.rows(read.part(api.get(f"/builds/{build_id}/steps"), "steps"))
        numbers = [number for step in steps if (number := read.number(step.get("number"), 0, 10**6)) is not None]
        places = [
            f"/logs/{log_id}/raw"
            for number in numbers[:_MOST_STEPS]
            for log in read.rows(read.part(api.get(f"/builds/{build_id}/steps/{number}/logs"), "logs"))
            if log.get("type") == "s" and (log_id := read.identity(log.get("logid"))) is not None
        ]
        if not places:
            raise NeverError("No step of this build printed anything.")
        return _join(api, places, cap_bytes)

    def fetch_changes(self, api: Api, run: CIRun, before: str, after: str) -> tuple[ChangedFile, ...] | None:
        """Nothing: Buildbot keeps no repository."""
        return None

    def fetch_file(self, api: Api, run: CIRun, path: str, commit: str) -> str | None:
        """Nothing: Buildbot keeps no repository."""
        return None

    def list_finished(self, api: Api, repositories: Sequence[str], since: datetime) -> Iterator[CIRun]:
        """The builds that ended after a time, read as its webhooks are."""
        from integrations.ci.buildbot import read_finished  # noqa: PLC0415 - that module names this one

        query: dict[str, str | int] = {"order": "-buildid", "limit": 100, "complete": "true", "property": "*"}
        for build in read.rows(read.part(api.get("/builds", query), "builds")):
            ended = read.time(build.get("complete_at"))
            if ended is None or ended < since:
                continue
            request = read.part(api.get(f"/buildrequests/{build.get('buildrequestid')}"), "buildrequests", 0)
            buildset = read.part(api.get(f"/buildsets/{read.part(request, 'buildsetid')}"), "buildsets", 0)
            told = read_finished({**build, "buildset": buildset})
            if isinstance(told, CIRun):
                yield told


def authorization(credentials: Mapping[str, str]) -> dict[str, str]:
    """Basic authentication where a user is named, else a bearer token."""
    user, token = credentials.get("user", ""), credentials.get("token", "")
    if user:
        return {"authorization": f"Basic {base64.b64encode(f'{user}:{token}'.encode()).decode()}"}
    return {"authorization": f"Bearer {token}"} if token else {}


def _join(api: Api, places: Sequence[str], cap_bytes: int) -> Iterator[bytes]:
    left = cap_bytes
    for place in places:
        for piece in api.pieces(place, left) or ():
            left -= len(piece)
            yield piece
        yield b"\n"
