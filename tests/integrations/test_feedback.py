"""Comments, checks and statuses at a forge that behaves as its documentation says."""

import base64
import ipaddress
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from cachescope.feedback import Conclusion, Verdict, marker_of
from integrations.feedback import FORGES
from integrations.feedback.base import Api, Check, FeedbackRefusedError, ForgeBusyError
from integrations.http import HttpClient, Reach
from tests.forge.feedback import OUR_ID, add_comment, bodies, open_pull_request
from tests.forge.serving import forge
from tests.forge.state import CIRun, Forge, Repository

LOOPBACK = Reach((ipaddress.ip_network("127.0.0.0/8"),))
ONE, TWO = "1" * 40, "2" * 40
MARKER = marker_of("acme/api", 1)
GOOD = Verdict(conclusion=Conclusion.SUCCESS, title="5 of 8 cacheable steps from cache", summary="All is well.")
BAD = Verdict(conclusion=Conclusion.FAILURE, title="Cache efficiency 31 %, below 50 %", summary="It broke.")
ROOTS = {"github": "", "gitea": "/api/v1", "forgejo": "/api/v1", "gitlab": "/api/v4", "bitbucket": "", "azure": ""}
KINDS = sorted(ROOTS)


def marker(kind: str) -> str:
    """The hidden line as it stands in a comment: where HTML is shown as text, a reference that nothing refers to."""
    return f"[//]: # ({MARKER[5:-4]})" if kind == "bitbucket" else MARKER


Connect = Callable[..., SimpleNamespace]


@pytest.fixture(scope="module")
def served() -> Iterator[Forge]:
    """One server for all of these tests: its state is made anew for each."""
    with forge() as made:
        yield made


@pytest.fixture
def there(served: Forge) -> Forge:
    repository = Repository(
        name="acme/api",
        id=5,
        commits={
            ONE: {"Dockerfile": "FROM a\n", "src/a.py": "1"},
            TWO: {"Dockerfile": "FROM a\n", "src/a.py": "2", "src/ü.py": "3"},
        },
        runs=[CIRun(id=77, commit=TWO)],
    )
    open_pull_request(repository, 12, TWO)
    served.repositories = {"acme/api": repository}
    served.is_down, served.limit, served.page_size = False, None, 30
    served.requests.clear()
    return served


@pytest.fixture
def connect(there: Forge) -> Iterator[Connect]:
    """Open the forge of one kind, with a token, as an App or with credentials of one's own."""
    with HttpClient(LOOPBACK) as client:

        def opened(kind: str, *, token: str | None = None, app: bool = False) -> SimpleNamespace:
            if app:
                there.installation_tokens.add("ghs_of-the-app")
                token = "ghs_of-the-app"
            token = token or there.write_token
            header = {"private-token": token} if kind == "gitlab" else {"authorization": f"Bearer {token}"}
            api = Api(client, there.url + ROOTS[kind], header)
            made = FORGES[kind](api, "acme/api", app_id=str(there.app_id) if app else None)
            return SimpleNamespace(forge=made, repository=there.repositories["acme/api"])

        yield opened


def test_there_is_a_forge_for_each_kind() -> None:
    assert sorted(FORGES) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_a_pull_request_is_found_by_number_and_by_commit(connect: Connect, kind: str) -> None:
    at = connect(kind).forge
    by_number, by_commit = at.read_pull_request(12), at.find_pull_request(TWO)
    assert by_number == by_commit
    assert (by_number.number, by_number.head, by_number.base) == (12, TWO, "main")
    assert by_number.is_open
    assert not by_number.is_foreign
    assert at.read_pull_request(13) is None
    assert at.find_pull_request(ONE) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_pull_request_from_a_fork_is_foreign_and_a_closed_one_not_open(connect: Connect, kind: str) -> None:
    at = connect(kind)
    open_pull_request(at.repository, 12, TWO, fork=True, state="closed")
    found = at.forge.read_pull_request(12)
    assert found.is_foreign
    assert not found.is_open
    assert at.forge.find_pull_request(TWO) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_comment_is_written_found_and_edited(connect: Connect, kind: str) -> None:
    at = connect(kind)
    assert at.forge.find_comment(12, MARKER) is None
    written = at.forge.write_comment(12, f"{MARKER}\n\nfirst")
    assert at.forge.find_comment(12, MARKER) == written
    assert at.forge.edit_comment(12, written, f"{MARKER}\n\nsecond")
    assert bodies(at.repository, 12) == [f"{marker(kind)}\n\nsecond"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_comment_that_others_wrote_with_our_marker_is_left_alone(connect: Connect, kind: str) -> None:
    at = connect(kind)
    theirs = add_comment(at.repository, 12, f"{marker(kind)}\n\nmine", author=OUR_ID + 1)
    add_comment(at.repository, 12, f"> {marker(kind)}\n\nquoted", author=OUR_ID)
    assert at.forge.find_comment(12, MARKER) is None
    assert not at.forge.edit_comment(12, str(theirs["id"]), "ours")
    assert bodies(at.repository, 12)[0] == f"{marker(kind)}\n\nmine"


@pytest.mark.parametrize("kind", KINDS)
def test_our_comment_is_found_behind_many_others(connect: Connect, there: Forge, kind: str) -> None:
    at = connect(kind)
    there.page_size = 10
    for number in range(35):
        add_comment(at.repository, 12, f"comment {number}")
    written = at.forge.write_comment(12, MARKER)
    assert at.forge.find_comment(12, MARKER) == written


@pytest.mark.parametrize("kind", KINDS)
def test_a_comment_that_was_deleted_cannot_be_edited(connect: Connect, kind: str) -> None:
    at = connect(kind)
    written = at.forge.write_comment(12, MARKER)
    at.repository.written["comments"].clear()
    assert not at.forge.edit_comment(12, written, "again")


def test_an_app_knows_its_comments_by_its_number(connect: Connect) -> None:
    at = connect("github", app=True)
    add_comment(at.repository, 12, f"{MARKER}\n\nmine", author=0)
    written = at.forge.write_comment(12, MARKER)
    assert at.forge.find_comment(12, MARKER) == written
    assert at.forge.edit_comment(12, written, f"{MARKER} again")


def test_a_token_of_a_repository_of_bitbucket_edits_what_it_wrote_and_nothing_else(
    connect: Connect, there: Forge
) -> None:
    there.installation_tokens.add("of-the-repository")
    at = connect("bitbucket", token="of-the-repository")
    written = at.forge.write_comment(12, f"{MARKER}\n\nfirst\n\n<sub>the end</sub>")
    assert at.forge.edit_comment(12, written, f"{MARKER}\n\n`<sub>x</sub>`\n\n<sub>the end</sub>")
    assert bodies(at.repository, 12) == [f"{marker('bitbucket')}\n\n`<sub>x</sub>`\n\nthe end"]
    theirs = add_comment(at.repository, 12, marker("bitbucket"), author=OUR_ID + 1)
    assert not at.forge.edit_comment(12, str(theirs["id"]), "ours")
    add_comment(at.repository, 12, marker("bitbucket"), author=None)  # their account was closed
    assert at.forge.find_comment(12, MARKER) is None  # it cannot say which are its own


@pytest.mark.parametrize("kind", ["azure", "bitbucket"])
def test_a_comment_that_was_deleted_may_still_have_a_number(connect: Connect, kind: str) -> None:
    at = connect(kind)
    written = at.forge.write_comment(12, MARKER)
    at.repository.written["comments"][0]["deleted"] = True
    assert at.forge.find_comment(12, MARKER) is None
    assert not at.forge.edit_comment(12, written, MARKER)


def test_a_status_of_bitbucket_is_overwritten_and_has_an_address(connect: Connect) -> None:
    at = connect("bitbucket")
    for verdict in (BAD, GOOD):
        at.forge.write_check(TWO, Check(name="cachescope/" + "x" * 60, verdict=verdict), None)
    (told,) = at.repository.written["statuses"]
    assert (told["state"], told["url"]) == ("SUCCESSFUL", f"https://bitbucket.org/acme/api/commits/{TWO}")


def test_a_commit_of_a_fork_that_bitbucket_does_not_have_is_named_by_its_first_digits(connect: Connect) -> None:
    at = connect("bitbucket")
    open_pull_request(at.repository, 12, "3" * 40, fork=True)
    assert at.forge.read_pull_request(12).head == "3" * 12
    assert at.forge.find_pull_request("3" * 40).head == "3" * 40


@pytest.mark.parametrize("kind", ["azure", "bitbucket"])
def test_more_files_than_a_page_holds_are_not_all(connect: Connect, there: Forge, kind: str) -> None:
    there.page_size = 1
    assert not connect(kind).forge.list_changed_files(12).is_complete


def test_azure_is_asked_for_every_open_pull_request(connect: Connect) -> None:
    at = connect("azure")
    for number in range(100, 230):
        open_pull_request(at.repository, number, f"{number:040x}")
    assert at.forge.find_pull_request(f"{229:040x}").number == 229
    assert at.forge.find_pull_request("f" * 40) is None


def test_azure_shows_a_page_to_whoever_has_no_valid_token(connect: Connect) -> None:
    at = connect("azure", token="expired").forge
    for asked in (lambda: at.read_pull_request(12), lambda: at.write_comment(12, MARKER)):
        with pytest.raises(FeedbackRefusedError, match="credentials for writing do not hold"):
            asked()


@pytest.mark.parametrize("kind", KINDS)
def test_no_path_leads_out_of_the_repository(connect: Connect, there: Forge, kind: str) -> None:
    at = connect(kind).forge
    there.requests.clear()
    at.read_file("../../src/./a.py", TWO)
    (asked,) = there.requests
    # At GitLab a path is one part of the address, and so a name that no file has.
    assert kind == "gitlab" or ".." not in asked.path + asked.query


def test_azure_keeps_the_threads_of_others(connect: Connect, there: Forge) -> None:
    at = connect("azure")
    at.repository.written["comments"] = []
    add_comment(at.repository, 12, MARKER, author=None)
    assert at.forge.find_comment(12, MARKER) is None


def test_a_repository_of_azure_lies_in_a_project(there: Forge) -> None:
    with HttpClient(LOOPBACK) as client, pytest.raises(FeedbackRefusedError, match="project/name"):
        FORGES["azure"](Api(client, there.url, {}), "acme/tools/api", app_id=None)


def test_a_user_and_a_password_open_bitbucket_as_well(there: Forge) -> None:
    header = "Basic " + base64.b64encode(f"ada@example.org:{there.write_token}".encode()).decode()
    with HttpClient(LOOPBACK) as client:
        at = FORGES["bitbucket"](Api(client, there.url, {"authorization": header}), "acme/api", app_id=None)
        assert at.find_comment(12, MARKER) is None
        assert at.find_comment(12, MARKER) != at.write_comment(12, MARKER)


def test_an_app_writes_a_check_run_and_edits_it(connect: Connect) -> None:
    at = connect("github", app=True)
    assert at.forge.check_kind == "check"
    check = Check(name="cachescope/api", verdict=BAD, url="https://cache.example.org/builds/1")
    written = at.forge.write_check(TWO, check, None)
    assert at.forge.write_check(TWO, Check(name="cachescope/api", verdict=GOOD), written) == written
    (there,) = at.repository.written["checks"]
    assert (there["head_sha"], there["conclusion"], there["status"]) == (TWO, "success", "completed")
    assert there["output"] == {"title": GOOD.title, "summary": GOOD.summary}
    assert there["details_url"] == "https://cache.example.org/builds/1"


def test_a_check_run_that_is_gone_is_written_anew(connect: Connect) -> None:
    at = connect("github", app=True)
    assert at.forge.write_check(TWO, Check(name="c", verdict=GOOD), "9999") == "700"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("verdict", "states"), [(GOOD, {"success"}), (BAD, {"failure", "failed"})])
def test_a_token_writes_a_status(connect: Connect, kind: str, verdict: Verdict, states: set[str]) -> None:
    at = connect(kind)
    assert at.forge.check_kind == "status"
    assert at.forge.write_check(TWO, Check(name="cachescope/api", verdict=verdict, url="https://c/1"), None) is None
    (told,) = at.repository.written["statuses"]
    assert (told["sha"], told["description"], told["target_url"]) == (TWO, verdict.title, "https://c/1")
    assert told["state"].lower().replace("successful", "success").replace("succeeded", "success") in states


def test_gitlab_takes_the_same_status_twice_and_a_pipeline_that_it_knows(connect: Connect) -> None:
    at = connect("gitlab")
    at.forge.write_check(TWO, Check(name="c", verdict=GOOD, pipeline_id=77), None)
    at.forge.write_check(TWO, Check(name="c", verdict=GOOD, pipeline_id=77), None)
    at.forge.write_check(TWO, Check(name="d", verdict=GOOD, pipeline_id=78), None)
    assert [(told["name"], told.get("pipeline_id")) for told in at.repository.written["statuses"]] == [
        ("c", 77),
        ("d", None),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_listed(connect: Connect, there: Forge, kind: str) -> None:
    there.page_size = 2 if kind in {"bitbucket", "azure"} else 1
    found = connect(kind).forge.list_changed_files(12)
    assert sorted(found.paths) == ["src/a.py", "src/ü.py"]
    assert found.is_complete


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_at_a_commit(connect: Connect, kind: str) -> None:
    at = connect(kind).forge
    assert at.read_file("src/a.py", TWO) == "2"
    assert at.read_file("src/ü.py", TWO) == "3"
    assert at.read_file("src/b.py", TWO) is None
    assert at.read_file("src/a.py", TWO, cap_bytes=0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_may_only_read_is_refused_for_good(connect: Connect, there: Forge, kind: str) -> None:
    with pytest.raises(FeedbackRefusedError, match=r"403 to POST .*right to write comments"):
        connect(kind, token=there.token).forge.write_comment(12, MARKER)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_does_not_hold_is_refused_for_good(connect: Connect, kind: str) -> None:
    with pytest.raises(FeedbackRefusedError, match=r"401 .*Renew them"):
        connect(kind, token="wrong").forge.find_pull_request(TWO)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forge_that_is_down_or_counts_is_asked_later(connect: Connect, there: Forge, kind: str) -> None:
    at = connect(kind).forge
    there.is_down = True
    with pytest.raises(ForgeBusyError, match="503"):
        at.find_comment(12, MARKER)
    there.is_down, there.limit = False, 0
    with pytest.raises(ForgeBusyError) as caught:
        at.find_comment(12, MARKER)
    assert 50 <= (caught.value.seconds or 0) <= 60


def test_a_second_limit_that_is_told_in_words_alone_is_waited_for_too(
    connect: Connect, there: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(there, "forbidden", "/comments")
    monkeypatch.setattr(there, "forbidden_because", "You have exceeded a secondary rate limit. Please wait.")
    with pytest.raises(ForgeBusyError) as caught:
        connect("github").forge.write_comment(12, MARKER)
    assert caught.value.seconds is None


def test_a_forge_that_is_not_there_is_asked_later() -> None:
    with HttpClient(LOOPBACK) as client:
        api = Api(client, "http://127.0.0.1:9", {})
        with pytest.raises(ForgeBusyError, match="cannot be reached"):
            FORGES["github"](api, "acme/api", app_id=None).read_pull_request(1)


@pytest.mark.parametrize("name", ["acme", "../api", "acme/..", "acme//api", ""])
def test_a_name_that_leads_elsewhere_is_no_repository(name: str) -> None:
    with HttpClient(LOOPBACK) as client, pytest.raises(FeedbackRefusedError, match="owner/name"):
        FORGES["gitlab"](Api(client, "http://127.0.0.1:9", {}), name, app_id=None)


@pytest.mark.parametrize("commit", ["main", "../../x", "a" * 80, "HEAD?x=1", "A" * 40, "1" * 40 + "\n"])
def test_a_commit_that_leads_elsewhere_is_none(commit: str) -> None:
    with HttpClient(LOOPBACK) as client, pytest.raises(FeedbackRefusedError, match="no commit"):
        FORGES["github"](Api(client, "http://127.0.0.1:9", {}), "acme/api", app_id=None).find_pull_request(commit)


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_stand_in_a_header_and_nowhere_else(connect: Connect, there: Forge, kind: str) -> None:
    connect(kind).forge.write_comment(12, MARKER)
    for asked in there.requests:
        assert there.write_token not in asked.path + asked.query
        assert there.write_token.encode() not in asked.body
