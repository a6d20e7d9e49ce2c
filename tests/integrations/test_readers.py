"""Every CI system that can be asked for a log is asked as its documentation says, and each answer means one thing."""

import base64
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from cachescope.errors import InvalidValueError, TooLargeError, UnreadableInputError
from cachescope.evidence import ChangedFile
from integrations.ci import PROVIDERS
from integrations.ci._api import Api, DeniedError, NeverError, NotYetError, PausedError, path_of
from integrations.ci._app_tokens import read_private_key
from integrations.ci._archives import read_archive
from integrations.ci.base import Access, CIRun, Reader
from integrations.http import ForbiddenAddressError, HttpClient, Reach, UnreachableError, read_networks
from tests.serving import serve

LOOPBACK = Reach(read_networks("127.0.0.0/8"))
CAP = 1 << 20
LOG = b"#1 [internal] load build definition from Dockerfile\n"
JOB = "0183d0e6-1d6c-4b3f-9d0b-0f7a6b0c9a11"


class Server:
    """Answers what a test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.api_route("/{path:path}", methods=["GET", "POST"])
        def route(request: Request, path: str) -> Response:
            raw = request.scope["raw_path"].decode()
            self.asked.append((raw, dict(request.headers)))
            answer = self.routes.get(raw, Response("nothing here", 404))
            if isinstance(answer, Response):
                return answer
            return Response(answer, media_type="text/plain") if isinstance(answer, bytes) else JSONResponse(answer)

        return app


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with serve(made.app()) as url:
        made.url = url
        yield made


def reader_of(provider: str) -> Reader:
    found = PROVIDERS[provider].reader
    assert found is not None
    return found


def fetch(server: Server, provider: str, reference: dict[str, Any], credentials: dict[str, str], **said: Any) -> bytes:
    run = CIRun(parameters=said, log_reference=reference)
    with HttpClient(LOOPBACK) as client:
        reader = reader_of(provider)
        api = reader.connect(client, Access(base_url=server.url, credentials=credentials, reach=LOOPBACK), run)
        return b"".join(reader.read_log(api, run, CAP, 0))


CASES: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, Any], str]] = {
    "buildkite": (
        {"organization": "acme", "pipeline": "shop", "build_number": 7, "job_id": JOB},
        {"token": "t"},
        {f"/v2/organizations/acme/pipelines/shop/builds/7/jobs/{JOB}/log": LOG},
        "Bearer t",
    ),
    "jenkins": (
        {"job_path": "job/a%20folder/job/shop/", "build_number": 18},
        {"user": "ada", "token": "t"},
        {"/job/a%20folder/job/shop/18/consoleText": LOG},
        "Basic " + base64.b64encode(b"ada:t").decode(),
    ),
    "azure": (
        {"project_id": JOB, "build_id": 5},
        {"token": "t"},
        {
            f"/{JOB}/_apis/build/builds/5/timeline": {
                "records": [
                    {"type": "Task", "startTime": "2", "log": {"id": 4}},
                    {"type": "Task", "startTime": "1", "log": {"id": 3}},
                    {"type": "Job", "startTime": "0", "log": {"id": 2}},
                    {"type": "Task", "log": None},
                ]
            },
            f"/{JOB}/_apis/build/builds/5/logs/3": LOG,
            f"/{JOB}/_apis/build/builds/5/logs/4": b"after\n",
        },
        "Basic " + base64.b64encode(b":t").decode(),
    ),
    "bitbucket": (
        {"workspace": "acme", "repository": "shop", "build_number": 3},
        {"token": "t"},
        {
            "/2.0/repositories/acme/shop/pipelines/3/steps/": {"values": [{"uuid": f"{{{JOB}}}"}, {"uuid": "../.."}]},
            f"/2.0/repositories/acme/shop/pipelines/3/steps/%7B{JOB}%7D/log": LOG,
        },
        "Bearer t",
    ),
    "buildbot": (
        {"build_id": 9},
        {},
        {
            "/api/v2/builds/9": {"builds": [{"complete": True}]},
            "/api/v2/builds/9/steps": {"steps": [{"number": 0}, {"number": "x"}]},
            "/api/v2/builds/9/steps/0/logs": {"logs": [{"type": "s", "logid": 4}, {"type": "h", "logid": 5}]},
            "/api/v2/logs/4/raw": LOG,
        },
        "",
    ),
    "github": (
        {"repository": "acme/shop", "job_id": 5},
        {"token": "t"},
        {"/api/v3/repos/acme/shop/actions/jobs/5/logs": LOG},
        "Bearer t",
    ),
    "gitea": (
        {"repository": "acme/shop", "job_id": 5},
        {"token": "t"},
        {"/api/v1/repos/acme/shop/actions/jobs/5/logs": LOG},
        "token t",
    ),
    "forgejo": (
        {"repository": "acme/shop", "run_id": 5},
        {"token": "t"},
        {
            "/api/v1/repos/acme/shop/actions/runs/5/jobs": [{"id": 7, "status": "failure"}, {"id": "../x"}, "x"],
            "/api/v1/repos/acme/shop/actions/jobs/7/logs": LOG,
        },
        "token t",
    ),
}


@pytest.mark.parametrize("provider", CASES)
def test_a_log_is_fetched_from_where_its_ids_say(server: Server, provider: str) -> None:
    reference, credentials, routes, authorization = CASES[provider]
    server.routes = routes
    assert fetch(server, provider, reference, credentials).startswith(LOG)
    assert {headers.get("authorization", "") for _, headers in server.asked} == {authorization}


@pytest.mark.parametrize("provider", CASES)
def test_a_log_that_is_not_there_may_still_come_or_never_will(server: Server, provider: str) -> None:
    reference, credentials, _, _ = CASES[provider]
    with pytest.raises((NotYetError, NeverError)):
        fetch(server, provider, reference, credentials)


@pytest.mark.parametrize("provider", [*CASES, "gitlab", "circleci"])
def test_an_event_without_its_ids_leads_nowhere(server: Server, provider: str) -> None:
    with pytest.raises((NotYetError, NeverError)):
        fetch(server, provider, {}, {"token": "t"})
    assert server.asked == []


def test_circleci_names_presigned_addresses_that_see_no_credentials(server: Server) -> None:
    server.routes = {
        "/api/v1.1/project/gh/acme/shop/12": {
            "steps": [{"actions": [{"output_url": f"{server.url}/out"}, {"output_url": None}]}]
        },
        "/out": [{"message": "#1 [internal]\r\n"}, {"message": 7}],
    }
    reference = {"project": "gh/acme/shop", "job_number": 12}
    assert fetch(server, "circleci", reference, {"token": "t"}) == b"#1 [internal]\n\n"
    assert [headers.get("circle-token") for _, headers in server.asked] == ["t", None]


def test_circleci_reads_no_output_without_tls_from_elsewhere(server: Server) -> None:
    server.routes = {
        "/api/v1.1/project/gh/acme/shop/12": {"steps": [{"actions": [{"output_url": "http://93.184.215.14/x"}]}]}
    }
    with pytest.raises(ForbiddenAddressError, match="without TLS"):
        fetch(server, "circleci", {"project": "gh/acme/shop", "job_number": 12}, {"token": "t"})


@pytest.mark.parametrize("url", ["http://169.254.169.254/x", "file:///etc/passwd", "http://10.0.0.1/"])
def test_circleci_leads_nowhere_it_must_not(server: Server, url: str) -> None:
    server.routes = {"/api/v1.1/project/gh/acme/shop/12": {"steps": [{"actions": [{"output_url": url}]}]}}
    with pytest.raises(ForbiddenAddressError):
        fetch(server, "circleci", {"project": "gh/acme/shop", "job_number": 12}, {"token": "t"})


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (401, {}, "", DeniedError),
        (403, {}, "Resource not accessible by integration", DeniedError),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}, "", PausedError),
        (403, {}, "You have exceeded a secondary rate limit", PausedError),
        (403, {"retry-after": "9"}, "", PausedError),
        (429, {}, "", PausedError),
        (503, {"retry-after": "9"}, "", PausedError),
        (503, {}, "", UnreachableError),
        (500, {}, "boom", UnreachableError),
        (500, {}, "file does not exist", NotYetError),
        (404, {}, "", NotYetError),
        (410, {}, "", NotYetError),
        (302, {}, "", NeverError),
        (422, {}, "", NeverError),
    ],
)
def test_what_each_kind_of_answer_means(
    server: Server, status: int, headers: dict[str, str], body: str, error: type[Exception]
) -> None:
    server.routes = {"/api/v1/repos/acme/shop/actions/jobs/5/logs": Response(body, status, headers)}
    with pytest.raises(error):
        fetch(server, "gitea", {"repository": "acme/shop", "job_id": 5}, {"token": "t"})


def test_a_log_that_is_larger_than_its_cap_is_given_up(server: Server) -> None:
    server.routes = {"/api/v1/repos/acme/shop/actions/jobs/5/logs": b"x" * (CAP + 1)}
    with pytest.raises(TooLargeError):
        fetch(server, "gitea", {"repository": "acme/shop", "job_id": 5}, {})


def test_the_logs_of_a_run_of_forgejo_share_one_cap(server: Server) -> None:
    start = "/api/v1/repos/acme/shop/actions"
    server.routes = {f"{start}/runs/5/jobs": [{"id": 1}, {"id": 2}]}
    server.routes |= {f"{start}/jobs/{number}/logs": b"x" * (CAP * 2 // 3) for number in (1, 2)}
    with pytest.raises(TooLargeError):
        fetch(server, "forgejo", {"repository": "acme/shop", "run_id": 5}, {})
    server.routes |= {f"{start}/jobs/1/logs": b"x" * CAP}
    with pytest.raises(TooLargeError, match="together"):
        fetch(server, "forgejo", {"repository": "acme/shop", "run_id": 5}, {})


def test_a_run_of_forgejo_without_a_log_may_still_get_one(server: Server) -> None:
    server.routes = {"/api/v1/repos/acme/shop/actions/runs/5/jobs": []}
    with pytest.raises(NotYetError):
        fetch(server, "forgejo", {"repository": "acme/shop", "run_id": 5}, {})


def rerun(server: Server, attempts: tuple[int, int], started: str) -> bytes:
    """Fetch a run of Forgejo of two jobs, of which the first ran at ten, the second at eleven."""
    start = "/api/v1/repos/acme/shop/actions"
    server.routes = {f"{start}/runs/5/jobs": [{"id": 1, "attempt": attempts[0]}, {"id": 2, "attempt": attempts[1]}]}
    server.routes |= {
        f"{start}/jobs/1/logs": b"2026-04-14T10:00:02.1234567Z #1 one\n",
        f"{start}/jobs/2/logs": b"2026-04-14T11:00:02.1234567Z #1 two\n",
    }
    run = CIRun(
        parameters={"ci": "forgejo"},
        log_reference={"repository": "acme/shop", "run_id": 5},
        started_at=datetime.fromisoformat(started),
    )
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("forgejo")
        api = reader.connect(client, Access(base_url=server.url, reach=LOOPBACK), run)
        return b"".join(reader.read_log(api, run, CAP, 0))


def test_of_a_run_of_forgejo_that_was_run_again_only_the_new_logs_are_read(server: Server) -> None:
    again = rerun(server, (1, 2), "2026-04-14T11:00:00+00:00")
    assert (b"one" in again, b"two" in again) == (False, True)


def test_the_logs_of_a_later_attempt_of_a_run_of_forgejo_are_not_taken_for_its_own(server: Server) -> None:
    start = "/api/v1/repos/acme/shop/actions"
    server.routes = {
        f"{start}/runs/5": {"started": "2026-04-14T13:00:00+02:00"},
        f"{start}/runs/5/jobs": [{"id": 7}],
        f"{start}/jobs/7/logs": LOG,
    }
    reference = {"repository": "acme/shop", "run_id": 5, "began": 1776164400}  # eleven o'clock
    assert fetch(server, "forgejo", reference, {}).startswith(LOG)
    with pytest.raises(NeverError, match="later attempt"):
        fetch(server, "forgejo", reference | {"began": 1776160800}, {})


def test_a_runner_whose_clock_is_behind_loses_no_log_of_forgejo(server: Server) -> None:
    assert b"one" in rerun(server, (1, 1), "2026-04-14T11:00:00+00:00")
    assert b"two" in rerun(server, (1, 2), "2026-04-14T11:00:30+00:00")


def test_forgejo_tells_how_often_the_jobs_of_a_run_were_run(server: Server) -> None:
    start = "/api/v1/repos/acme/shop/actions/runs/5"
    server.routes = {start: {"trigger_user": {"login": "ada"}}, f"{start}/jobs": [{"attempt": 1}, {"attempt": 3}, {}]}
    run = CIRun(parameters={}, log_reference={"repository": "acme/shop", "run_id": 5})
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("forgejo")
        api = reader.connect(client, Access(base_url=server.url, reach=LOOPBACK), run)
        assert reader.describe(api, run) == {"actor": "ada", "attempt": 3}
        server.routes.popitem()
        assert reader.describe(api, run) == {"actor": "ada"}


def test_the_log_of_a_later_attempt_is_not_taken_for_that_of_an_earlier_one(server: Server) -> None:
    start = "/api/v1/repos/acme/shop/actions/jobs/5"
    server.routes = {start: {"id": 5, "run_attempt": 2}, f"{start}/logs": LOG}
    reference = {"repository": "acme/shop", "job_id": 5}
    assert fetch(server, "gitea", reference, {"token": "t"}, attempt=2) == LOG
    assert fetch(server, "gitea", reference, {"token": "t"}) == LOG
    with pytest.raises(NeverError, match="attempt 2, not of 1"):
        fetch(server, "gitea", reference, {"token": "t"}, attempt=1)


@pytest.mark.parametrize(
    ("attempt", "started", "ids"), [(2, "10:00:02", [8]), (1, "10:00:02", [7, 8]), (2, "11:00:02", [7, 8])]
)
def test_jobs_that_an_attempt_took_over_from_the_one_before_are_not_told_again(
    server: Server, attempt: int, started: str, ids: list[int]
) -> None:
    start = "/api/v1/repos/acme/shop/actions/runs"
    times = {
        "created_at": "2026-04-14T10:00:00Z",
        "updated_at": "2026-04-14T11:05:00Z",
        "started_at": "2026-04-14T11:00:00Z",
    }
    job = {"status": "completed", "conclusion": "success", "run_id": 5, "run_attempt": attempt}
    server.routes = {
        start: {"workflow_runs": [{"id": 5, "status": "completed", "run_attempt": 2, **times}]},
        f"{start}/5/jobs": {
            "jobs": [
                {**job, "id": 7, "started_at": f"2026-04-14T{started}Z"},
                {**job, "id": 8, "run_attempt": 2, "started_at": "2026-04-14T11:00:05Z"},
            ]
        },
    }
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("gitea")
        api = reader.connect(client, Access(base_url=server.url, reach=LOOPBACK))
        found = list(reader.list_finished(api, ["acme/shop"], datetime(2026, 4, 14, 9, tzinfo=UTC)))
    assert [run.log_reference["job_id"] for run in found] == ids


HERE, FORK = {"id": 3, "default_branch": "main"}, {"id": 9, "owner": {"login": "mallory"}}
COMMIT = "c" * 40


def described(server: Server, told: dict[str, Any], pulls: list[dict[str, Any]]) -> dict[str, Any]:
    """What GitHub says of the run of a job, and of the pull requests of its commit."""
    start = "/api/v3/repos/acme/shop"
    server.routes = {
        f"{start}/actions/runs/5": {"head_branch": "main", "repository": HERE, **told},
        f"{start}/commits/{COMMIT}/pulls": pulls,
    }
    run = CIRun(
        parameters={"branch": "main", "commit": COMMIT, "default_branch": "main"},
        log_reference={"repository": "acme/shop", "repository_id": 3, "run_id": 5, "job_id": 7},
    )
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("github")
        api = reader.connect(client, Access(base_url=server.url, reach=LOOPBACK), run)
        return dict(reader.describe(api, run))


def pull_into(repository: int, number: int = 4, sha: str = COMMIT, ref: str = "main") -> dict[str, Any]:
    return {
        "number": number,
        "head": {"sha": sha, "ref": ref, "repo": {"id": 9}},
        "base": {"ref": "main", "repo": {"id": repository}},
    }


def test_a_pull_request_among_forks_is_none_of_ours(server: Server) -> None:
    assert described(server, {"pull_requests": [pull_into(8, 1), pull_into(3, 4)]}, [])["pull_request"] == 4
    assert described(server, {"pull_requests": [pull_into(8, 1)]}, []) == {}


def test_a_push_to_the_default_branch_is_no_pull_request_that_would_bring_it_elsewhere(server: Server) -> None:
    assert described(server, {"event": "push", "pull_requests": [pull_into(3)]}, []) == {}
    topic = {"event": "push", "head_branch": "topic", "pull_requests": [pull_into(3)]}
    assert described(server, topic, [])["pull_request"] == 4


def test_the_pull_request_of_a_fork_is_found_though_its_branch_has_moved_on(server: Server) -> None:
    told = {"event": "pull_request", "pull_requests": [], "head_repository": FORK}
    assert described(server, told, [pull_into(3)])["pull_request"] == 4
    moved = [pull_into(3, 2, "d" * 40, "other"), pull_into(3, 4, "d" * 40)]
    assert described(server, told, moved)["pull_request"] == 4
    assert "branch" not in described(server, told, moved)


@pytest.mark.parametrize(("there", "branch"), [(FORK, "mallory:main"), (None, "fork:main"), ({"id": 3}, None)])
def test_the_main_branch_of_a_fork_is_not_ours(
    server: Server, there: dict[str, Any] | None, branch: str | None
) -> None:
    told = {"event": "pull_request", "pull_requests": [], "head_repository": there}
    assert described(server, told, []).get("branch") == branch


def test_a_run_of_gitea_names_its_pull_request_in_its_path(server: Server) -> None:
    server.routes = {"/api/v1/repos/acme/shop/actions/runs/5": {"path": "ci.yml@refs/pull/7/head", "event": "push"}}
    run = CIRun(parameters={}, log_reference={"repository": "acme/shop", "run_id": 5, "job_id": 7})
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("gitea")
        api = reader.connect(client, Access(base_url=server.url, reach=LOOPBACK), run)
        assert reader.describe(api, run) == {"pull_request": 7}


@pytest.mark.parametrize("name", ["acme", "../..", "acme/..", "a/b/c", "acme/shop?x", 7])
def test_a_repository_that_is_no_name_is_not_asked_for(server: Server, name: Any) -> None:
    with pytest.raises(NeverError, match="which repository"):
        fetch(server, "github", {"repository": name, "job_id": 5}, {"token": "t"})
    assert server.asked == []


def test_a_path_cannot_lead_out_of_its_folder() -> None:
    assert path_of("../../etc/./passwd") == "etc/passwd"
    assert path_of("a b/c?d#e") == "a%20b/c%3Fd%23e"


def test_pages_are_counted_and_their_number_is_limited(server: Server) -> None:
    server.routes = {"/rows": JSONResponse([{"a": 1}], headers={"link": '<http://169.254.169.254/>; rel="next"'})}
    with HttpClient(LOOPBACK) as client:
        assert len(list(Api(client, server.url).rows("/rows"))) == 10
    assert {path for path, _ in server.asked} == {"/rows"}


# -- comparisons -------------------------------------------------------------------------------------------------------


def compared(server: Server, ahead: dict[str, Any], behind: dict[str, Any]) -> tuple[ChangedFile, ...] | None:
    server.routes = {
        "/api/v3/repos/acme/shop/compare/aaaa...bbbb": ahead,
        "/api/v3/repos/acme/shop/compare/bbbb...aaaa": behind,
    }
    run = CIRun(parameters={}, log_reference={"repository": "acme/shop"})
    with HttpClient(LOOPBACK) as client:
        reader = reader_of("github")
        api = reader.connect(client, Access(base_url=server.url, credentials={"token": "t"}), run)
        return reader.fetch_changes(api, run, "aaaa", "bbbb")


def row(name: str, status: str = "modified", sha: str = "1", **more: str) -> dict[str, str]:
    return {"filename": name, "status": status, "sha": sha} | more


def test_commits_that_parted_are_compared_both_ways(server: Server) -> None:
    mine = [row("mine"), row("both", sha="2"), row("same"), row("new", "added"), row("gone", "removed")]
    theirs = [row("theirs"), row("both", sha="3"), row("same"), row("older", "added"), row("lost", "removed")]
    found = compared(server, {"status": "diverged", "files": mine}, {"status": "diverged", "files": theirs})
    assert {change.path: change.status for change in found or ()} == {
        "mine": "M",
        "both": "M",
        "new": "A",
        "gone": "D",
        "theirs": "M",
        "older": "D",
        "lost": "A",
    }


def test_an_older_commit_is_compared_backwards(server: Server) -> None:
    found = compared(server, {"status": "behind", "files": []}, {"status": "ahead", "files": [row("a", "added")]})
    assert found == (ChangedFile("a", "D"),)


def test_the_same_tree_has_no_changes(server: Server) -> None:
    assert compared(server, {"status": "identical", "files": []}, {}) == ()


def test_a_renamed_file_is_gone_here_and_new_there(server: Server) -> None:
    files = [row("new", "renamed", previous_filename="old"), row("x", "unchanged"), {"filename": 7}]
    found = compared(server, {"status": "ahead", "files": files}, {})
    assert found == (ChangedFile("new", "A"), ChangedFile("old", "D"))


@pytest.mark.parametrize(
    "answer", [{"status": "ahead", "files": [row(str(n)) for n in range(300)]}, {"status": "ahead"}, {"status": "?"}]
)
def test_a_list_that_is_cut_or_missing_tells_nothing(server: Server, answer: dict[str, Any]) -> None:
    assert compared(server, answer, {}) is None


# -- archives and keys -------------------------------------------------------------------------------------------------


def zipped(**files: bytes) -> Iterator[bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return iter([packed.getvalue()])


def test_the_log_of_a_job_is_taken_out_of_the_archive() -> None:
    files = {"0_lint.txt": b"lint", "1_build _ image.txt": LOG, "build image/1_Set up job.txt": b"step"}
    assert b"".join(read_archive(zipped(**files), "CI / build / image", CAP)) == LOG + b"\n"
    assert b"".join(read_archive(zipped(**files), "", CAP)) == b"lint\n" + LOG + b"\n"


def test_a_job_that_the_archive_lacks_never_comes() -> None:
    with pytest.raises(NeverError):
        b"".join(read_archive(zipped(**{"0_lint.txt": b""}), "CI / image", CAP))


def test_an_archive_that_swells_is_refused() -> None:
    with pytest.raises(TooLargeError, match="200 times"):
        b"".join(read_archive(zipped(**{"0_image.txt": bytes(64 << 20)}), "image", 1 << 30))
    with pytest.raises(TooLargeError, match="larger than a log"):
        b"".join(read_archive(zipped(**{"0_image.txt": b"ab" * CAP}), "image", CAP))


def test_an_archive_of_very_many_files_is_refused() -> None:
    with pytest.raises(TooLargeError, match="5,000"):
        b"".join(read_archive(zipped(**{f"{number}_a.txt": b"" for number in range(5001)}), "a", CAP))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableInputError):
        b"".join(read_archive(iter([content]), "a", CAP))


def test_a_key_that_no_app_has_is_refused() -> None:
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for wrong in ("", "-----BEGIN", ec.generate_private_key(ec.SECP256R1()).private_bytes(*form).decode()):
        with pytest.raises(InvalidValueError):
            read_private_key(wrong)
    read_private_key(rsa.generate_private_key(65537, 2048).private_bytes(*form).decode())


# -- what means the same execution -------------------------------------------------------------------------------------


def test_a_job_is_known_by_its_id_and_a_run_by_its_attempt_too() -> None:
    job = CIRun(parameters={"attempt": 2}, log_reference={"job_id": 5, "run_id": 1, "installation_id": 9})
    run = CIRun(parameters={"attempt": 2}, log_reference={"run_id": 1}, kind="run")
    assert (job.subject, run.subject) == ("job job_id=5", "run run_id=1 2")
    # At Gitea a job keeps its id when it is run again; Forgejo's runs keep theirs and count nothing, but start anew.
    gitea = CIRun(parameters={"attempt": 2, "ci": "gitea"}, log_reference={"job_id": 5, "run_id": 1})
    forgejo = CIRun(parameters={"ci": "forgejo"}, log_reference={"run_id": 1, "began": 1776162615}, kind="run")
    assert (gitea.subject, forgejo.subject) == ("job job_id=5 2", "run run_id=1 1776162615")
    assert CIRun(parameters={}, log=b"x", log_reference={"job_id": 5}).subject is None
    assert CIRun(parameters={}, kind="image").subject is None
    assert CIRun(parameters={}).subject is None
    assert CIRun(parameters={}, log_reference={"job_path": "job/a/", "build_number": 3}).subject == (
        "job build_number=3 job_path=job/a/"
    )
