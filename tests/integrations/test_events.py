"""Every CI provider reads its vendor's bodies into runs or says why it leaves them aside; none makes it raise."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.errors import UnreadableInputError
from integrations.ci import PROVIDERS, _bodies
from integrations.ci.base import CIRun, HookRequest, Ignored
from workers.parameters import read_parameters

FOLDER = Path(__file__).parent / "ci"
BODIES = sorted(
    path for path in FOLDER.glob("*/*.json") if path.parent.name != "generic" and ".expected" not in path.name
)
CAP = 1 << 20


def read_event(provider: str, event: Any, **headers: str) -> CIRun | Ignored:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return PROVIDERS[provider].read_event(HookRequest(headers=headers, body=body), CAP)


def load(case: str) -> Any:
    return json.loads((FOLDER / f"{case}.json").read_text())


def run_of(provider: str, event: Any, **headers: str) -> CIRun:
    run = read_event(provider, event, **headers)
    assert isinstance(run, CIRun), run
    return run


def as_json(event: CIRun | Ignored) -> dict[str, Any]:
    if isinstance(event, Ignored):
        return {"ignored": event.reason}
    kept = {name: value for name, value in asdict(event).items() if value}
    return {
        k: v.isoformat() if isinstance(v, datetime) else list(v) if isinstance(v, tuple) else v for k, v in kept.items()
    }


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_body_is_read_as_expected(path: Path, golden: Callable[[Path, Any], None]) -> None:
    event = read_event(path.parent.name, path.read_bytes())
    golden(path.with_suffix(".expected.json"), as_json(event))
    if isinstance(event, CIRun):
        assert dict(read_parameters(event.parameters)) == dict(event.parameters)


def test_every_provider_has_bodies_that_are_read_and_bodies_that_are_ignored() -> None:
    kinds = {(path.parent.name, type(read_event(path.parent.name, path.read_bytes()))) for path in BODIES}
    assert {name for name, kind in kinds if kind is CIRun} == set(PROVIDERS) - {"generic"}
    assert {name for name, kind in kinds if kind is Ignored} == set(PROVIDERS) - {"generic", "docker_hub"}


# -- what no body may do -----------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["completed", "success", "2026-01-01T00:00:00Z", "9999-99-99 99:99:99 UTC", "refs/pull/7/merge"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for step, inner in steps:
        found += paths_of(inner, (*path, step))
    return found


def replace(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replace(value[path[0]], path[1:], new)
    return copy


def check(provider: str, body: bytes) -> None:
    try:
        event = read_event(provider, body)
    except UnreadableInputError:
        return
    if isinstance(event, Ignored):
        assert 0 < len(event.reason) < 400
        assert event.reason.isprintable()
    else:
        assert dict(read_parameters(event.parameters)) == dict(event.parameters)
        assert all(isinstance(value, (int, str)) for value in event.log_reference.values())


def test_letters_that_python_does_not_know_stand_in_no_reason() -> None:
    check("azure", orjson.dumps({"id": "1", "eventType": "\U00012544"}))


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - {"generic"}))
def test_any_json_is_read_ignored_or_refused_with_a_sentence(provider: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(VALUES)
    def run(value: Any) -> None:
        check(provider, json.dumps(value).encode())

    run()
    for body in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b'{"a":' * 5000, b'"\\ud800"'):
        with pytest.raises(UnreadableInputError):
            read_event(provider, body)


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_any_field_may_hold_anything(path: Path) -> None:
    event = json.loads(path.read_text())
    paths = paths_of(event)

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(paths), VALUES)
    def run(where: tuple[str | int, ...], value: Any) -> None:
        check(path.parent.name, json.dumps(replace(event, where, value)).encode())

    run()


@pytest.mark.parametrize("path", BODIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_any_field_may_be_missing(path: Path) -> None:
    event = json.loads(path.read_text())
    for where in [where for where in paths_of(event) if len(where) < 4 and not str(where[-1]).endswith("_url")][:150]:
        for value in (None, [], {}, -1, 1e300, "x" * 3000):
            check(path.parent.name, orjson.dumps(replace(event, where, value)))


# -- traps of real bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conclusion", "outcome"),
    [
        ("success", "succeeded"),
        ("failure", "failed"),
        ("timed_out", "failed"),
        ("cancelled", "canceled"),
        ("neutral", None),
        (None, None),
    ],
)
def test_a_conclusion_of_github_is_an_outcome(conclusion: str | None, outcome: str | None) -> None:
    event = load("github/workflow_job_completed_success_org")
    event["workflow_job"]["conclusion"] = conclusion
    assert run_of("github", event).parameters.get("outcome") == outcome


@pytest.mark.parametrize("conclusion", ["skipped", "action_required", "stale"])
def test_a_job_of_github_that_never_ran_is_ignored(conclusion: str) -> None:
    event = load("github/workflow_job_completed_success_org")
    event["workflow_job"]["conclusion"] = conclusion
    assert isinstance(read_event("github", event), Ignored)


def test_a_deployment_is_not_taken_for_the_run_that_it_carries() -> None:
    event = load("github/workflow_run_completed_success_org") | {
        "deployment": {"id": 1},
        "deployment_status": {"id": 2},
    }
    assert isinstance(read_event("github", event), Ignored)
    assert isinstance(read_event("github", event, **{"x-github-event": "deployment_status"}), Ignored)


def test_only_a_pull_request_into_this_repository_counts() -> None:
    event = load("github/workflow_run_completed_success_org")
    here = event["repository"]["id"]
    event["workflow_run"]["pull_requests"] = [
        {"number": 5, "base": {"ref": "main", "repo": {"id": here + 1}}},
        {"number": 6, "base": {"ref": "main", "repo": {"id": here}}},
    ]
    assert run_of("github", event).parameters["pull_request"] == 6
    event["workflow_run"]["pull_requests"].pop()
    assert "pull_request" not in run_of("github", event).parameters


def test_an_unnamed_template_of_gitlab_is_refused_with_the_way_out() -> None:
    with pytest.raises(UnreadableInputError, match="custom webhook template"):
        read_event("gitlab", {"job": 1})


def test_an_event_of_a_group_of_gitlab_is_left_aside() -> None:
    assert isinstance(read_event("gitlab", {"event_name": "project_create", "path": "x"}), Ignored)


@pytest.mark.parametrize(
    "status", ["created", "pending", "running", "manual", "skipped", "waiting_for_resource", "canceling", None]
)
def test_a_job_of_gitlab_that_has_not_finished_is_ignored(status: str | None) -> None:
    assert isinstance(read_event("gitlab", load("gitlab/job_success_captured") | {"build_status": status}), Ignored)


@pytest.mark.parametrize("name", ["git_ssh_url", "git_http_url", "web_url"])
def test_a_project_of_gitlab_is_known_by_any_of_its_addresses(name: str) -> None:
    event = load("gitlab/job_success_captured")
    del event["repository"]
    address = (
        "git@git.example.org:acme/tools/shop.git"
        if name == "git_ssh_url"
        else "https://git.example.org/acme/tools/shop"
    )
    event["project"] = {"id": 7, "name": "Shop", name: address}
    assert run_of("gitlab", event).parameters["repository"] == "acme/tools/shop"


def test_the_name_of_a_project_for_people_is_never_its_path() -> None:
    event = load("gitlab/job_success_captured")
    del event["repository"]
    assert "repository" not in run_of("gitlab", event).parameters


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"state": "finished", "passed": True}, "succeeded"),
        ({"state": "finished", "passed": False}, "failed"),
        ({"state": "finished", "exit_status": 0}, "succeeded"),
        ({"state": "finished", "exit_status": 137}, "failed"),
        ({"state": "finished", "exit_status": None}, None),
        ({"state": "canceled"}, "canceled"),
        ({"state": "timed_out"}, "failed"),
    ],
)
def test_a_job_of_buildkite_ends_by_its_state_or_exit_status(change: dict[str, Any], outcome: str | None) -> None:
    event = load("buildkite/job_finished")
    event["job"] |= {"exit_status": None} | change
    assert run_of("buildkite", event).parameters.get("outcome") == outcome


@pytest.mark.parametrize("change", [{"state": "skipped"}, {"state": "broken"}, {"type": "waiter"}, {"type": "manual"}])
def test_a_job_of_buildkite_without_a_log_is_ignored(change: dict[str, Any]) -> None:
    event = load("buildkite/job_finished")
    event["job"] |= change
    assert isinstance(read_event("buildkite", event), Ignored)


def test_head_is_no_commit() -> None:
    event = load("buildkite/job_finished")
    event["build"]["commit"] = "HEAD"
    assert "commit" not in run_of("buildkite", event).parameters


@pytest.mark.parametrize(
    ("results", "outcome"),
    [(0, "succeeded"), (1, "succeeded"), (2, "failed"), (4, "failed"), (6, "canceled"), (None, None)],
)
def test_the_results_of_buildbot_are_an_outcome(results: int | None, outcome: str | None) -> None:
    event = load("buildbot/build_finished_success") | {"results": results}
    assert run_of("buildbot", event).parameters.get("outcome") == outcome


@pytest.mark.parametrize("change", [{"results": 3}, {"results": 5}, {"complete": False}, {"buildid": None}])
def test_what_buildbot_says_of_no_finished_build_is_ignored(change: dict[str, Any]) -> None:
    assert isinstance(read_event("buildbot", load("buildbot/build_finished_success") | change), Ignored)


def test_the_revision_that_buildbot_checked_out_counts() -> None:
    event = load("buildbot/build_finished_success")
    event["properties"]["got_revision"] = ["f" * 40, "Git"]
    assert run_of("buildbot", event).parameters["commit"] == "f" * 40
    event["properties"]["got_revision"] = [{"": "e" * 40, "other": "d" * 40}, "Git"]
    assert run_of("buildbot", event).parameters["commit"] == "e" * 40


def test_a_merge_of_azure_is_not_the_commit_of_a_pull_request() -> None:
    event = load("azure/build_complete_of_a_pull_request")
    del event["resource"]["triggerInfo"]
    parameters = run_of("azure", event).parameters
    assert parameters["pull_request"] == 31
    assert "commit" not in parameters
    assert "branch" not in parameters


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("acme/shop", "acme/shop"),
        ("https://git.example.org/acme/shop.git", "acme/shop"),
        ("6ce954b1-ce1f-45d1-b94d-e6bf2464ba2c", None),
        (None, None),
    ],
)
def test_a_repository_outside_of_azure_is_known_by_its_id(identity: str | None, name: str | None) -> None:
    event = load("azure/build_complete_of_github")
    event["resource"]["repository"] = {"id": identity, "type": "Git"}
    assert run_of("azure", event).parameters.get("repository") == name


@pytest.mark.parametrize(
    "media",
    [
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
    ],
)
def test_a_tagged_manifest_of_any_kind_is_an_image(media: str) -> None:
    event = load("registry/push_manifest")
    event["events"][0]["target"]["mediaType"] = media
    assert run_of("registry", event).images[0].tag == "1.4.2"


def test_one_tag_among_many_events_is_found() -> None:
    event = {"events": load("registry/push_blob")["events"] * 3 + load("registry/push_manifest")["events"]}
    assert len(run_of("registry", event).images) == 1
    del event["events"][-1]["target"]["tag"]
    assert isinstance(read_event("registry", event), Ignored)


@pytest.mark.parametrize("address", ["job/../../secret/", "job/%2e%2e/", "../job/x/", 7])
def test_no_path_of_jenkins_leaves_the_jobs(address: object) -> None:
    event = load("jenkins/finalized") | {"url": address}
    event["build"]["url"] = address
    assert "job_path" not in run_of("jenkins", event).log_reference


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2023-01-10 13:50:05 UTC", datetime(2023, 1, 10, 13, 50, 5, tzinfo=UTC)),
        ("2021-02-23T02:41:37.886Z", datetime(2021, 2, 23, 2, 41, 37, 886000, tzinfo=UTC)),
        ("2016-03-09T14:44:26.402973972-08:00", datetime(2016, 3, 9, 22, 44, 26, 402973, tzinfo=UTC)),
        ("2022-12-02T12:18:45.7367977Z", datetime(2022, 12, 2, 12, 18, 45, 736797, tzinfo=UTC)),
        ("2022-12-02T12:18:45+0100", datetime(2022, 12, 2, 11, 18, 45, tzinfo=UTC)),
        (1795451586, datetime(2026, 11, 23, 16, 33, 6, tzinfo=UTC)),
        (1417566161.5, datetime(2014, 12, 3, 0, 22, 41, 500000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("2022-13-02T12:18:45Z", None),
        ("2022-12-02T12:18:45+99:99", None),
        ("yesterday", None),
        (0, None),
        (True, None),
        (10**30, None),
        (float("inf"), None),
        (None, None),
    ],
)
def test_a_moment_is_read_in_every_way_it_is_written(value: object, moment: datetime | None) -> None:
    assert _bodies.time(value) == moment


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("acme/shop", "acme/shop"),
        ("https://git.example.test/acme/tools/shop.git", "acme/tools/shop"),
        ("git@github.com:acme/shop.git", "acme/shop"),
        ("ssh://git@git.example.test:2222/acme/shop.git", "acme/shop"),
        ("https://user:password@git.example.test/acme/shop", "acme/shop"),
        ("", None),
        ("../../etc", None),
        ("a//b", None),
        ("x" * 201, None),
        ("a\nb", None),
        (7, None),
    ],
)
def test_a_repository_is_named_by_its_address(value: object, name: str | None) -> None:
    assert _bodies.repository(value) == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://ci.example.test/1", True),
        ("javascript:alert(1)", False),
        ("https://user:password@ci.example.test/", False),
        ("https://ci.example.test/a b", False),
        ("https://[::1", False),
        ("https://" + "x" * 2000, False),
        (None, False),
    ],
)
def test_only_plain_web_addresses_are_shown(value: object, shown: bool) -> None:
    assert (_bodies.url(value) is not None) == shown


def changed(case: str, *path: str, **values: Any) -> dict[str, Any]:
    event = load(case)
    inner = event
    for step in path:
        inner = inner[step]
    inner |= values
    return event


@pytest.mark.parametrize(
    ("provider", "event"),
    [
        ("github", changed("github/workflow_run_completed_success_org", "workflow_run", conclusion="skipped")),
        ("github", changed("github/package_published_docker", action="updated")),
        ("azure", changed("azure/build_complete", "resource", status="inProgress")),
        ("buildkite", {"event": "job.started", "job": {}}),
        ("forgejo", changed("forgejo/action_run_failure", "run", status="skipped")),
        ("forgejo", changed("forgejo/action_run_failure", "run", status="running")),
        ("jenkins", changed("jenkins/finalized", "build", status="NOT_BUILT")),
    ],
)
def test_what_did_not_run_to_its_end_is_ignored(provider: str, event: dict[str, Any]) -> None:
    assert isinstance(read_event(provider, event), Ignored)


def test_a_run_of_gitea_is_read_like_one_of_github() -> None:
    run = run_of("gitea", load("github/workflow_run_completed_success_org"))
    assert (run.kind, run.parameters["ci"]) == ("run", "gitea")
