"""Every recommendation fires on its case, is silent on well-made Dockerfiles, and its patch applies with git."""

import importlib
import json
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from cachescope.dockerfile import Dockerfile
from cachescope.evidence import ChangedFile
from cachescope.history import History, PastBuild, mean_and_interval
from cachescope.model import Build, CacheTransfer
from cachescope.reading import read_builds
from cachescope.recommendations import RECOMMENDATIONS
from cachescope.recommendations._packages import manager_of, needs_more
from cachescope.recommendations.base import Recommendation, make_patch
from cachescope.recommendations.system_packages_first import _split as split_run
from cachescope.replaying import replay
from tests.factories import make_build, make_step

FOLDER = Path(__file__).parent / "recommendations"
CASES = sorted(path.parent for path in FOLDER.glob("*/*/Dockerfile") if path.parent.parent.name != "well_made")
WELL_MADE = sorted(path.parent for path in FOLDER.glob("well_made/*/Dockerfile"))
DAY = 86_400.0


@cache
def read_build(path: Path) -> Build:
    return read_builds([path.read_bytes()]).builds[0]


def read_history(case: Path, dockerfile: str | None = None) -> History:
    """A history from a folder; `history.json` holds what no log tells: files, changes, times."""
    known = json.loads((case / "history.json").read_text())
    builds = [read_build(path) for path in sorted(case.glob("*.log"))]
    if times := known.get("times"):
        builds = [replace(build, started_at=at) for build, at in zip(builds, times, strict=True)]
    changes = known.get("changes") or [None] * len(builds)
    ignore = case / "dockerignore"
    return History(
        dockerfile=Dockerfile(dockerfile if dockerfile is not None else (case / "Dockerfile").read_text()),
        builds=tuple(
            PastBuild(
                build=build,
                changed_files=tuple(ChangedFile(path, status) for status, path in changed)
                if changed is not None
                else None,
            )
            for build, changed in zip(builds, changes, strict=True)
        ),
        dockerignore=ignore.read_text() if ignore.exists() else None,
        files=known.get("files"),
        texts=known.get("texts", {}),
    )


def with_builds(history: History, **fields: list) -> History:
    """The same history with other times, contexts or transfers, one value a build."""
    builds = [
        replace(past, build=replace(past.build, **{name: values[n] for name, values in fields.items()}))
        for n, past in enumerate(history.builds)
    ]
    return replace(history, builds=tuple(builds))


def advise(name: str, history: History) -> list[Recommendation]:
    return list(RECOMMENDATIONS[name].advise(history))


def case_of(name: str, case: str) -> History:
    return read_history(FOLDER / name / case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_it_fires_on_its_case(case: Path, golden) -> None:
    found = [
        {
            "title": r.title,
            "evidence": list(r.evidence),
            "order_safe": r.order_safe,
            "saving_seconds_per_build": round(r.saving_seconds_per_build or 0.0, 3),
            "interval": [round(x, 3) for x in r.interval] if r.interval else None,
            "patch": r.patch,
        }
        for r in advise(case.parent.name, read_history(case))
    ]
    assert found
    golden(case / "expected.json", found)


@pytest.mark.parametrize("name", sorted(RECOMMENDATIONS))
@pytest.mark.parametrize("case", WELL_MADE, ids=lambda case: case.name)
def test_it_is_silent_on_a_well_made_dockerfile(name: str, case: Path) -> None:
    # Whether a cache mount pays depends on the builder: an install that really ran again may still be offered one.
    if name != "missing_cache_mount":
        assert advise(name, read_history(case)) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_its_patch_applies_with_git(case: Path, tmp_path: Path) -> None:
    history = read_history(case)
    (tmp_path / "Dockerfile").write_text(history.dockerfile.text)
    if history.dockerignore is not None:
        (tmp_path / ".dockerignore").write_text(history.dockerignore)
    for found in advise(case.parent.name, history):
        if found.patch:
            subprocess.run(["git", "apply", "--check", "-"], input=found.patch, text=True, cwd=tmp_path, check=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_it_says_nothing_twice(case: Path, tmp_path: Path) -> None:
    history = read_history(case)
    for found in advise(case.parent.name, history):
        if found.patch and "b/Dockerfile" in found.patch:
            (tmp_path / "Dockerfile").write_text(history.dockerfile.text)
            subprocess.run(["git", "apply", "-"], input=found.patch, text=True, cwd=tmp_path, check=True)
            edited = read_history(case, (tmp_path / "Dockerfile").read_text())
            assert found.title not in [again.title for again in advise(case.parent.name, edited)]


def test_every_recommendation_has_a_help_page() -> None:
    for name in RECOMMENDATIONS:
        page = importlib.import_module(f"cachescope.recommendations.{name}").__doc__ or ""
        assert len(page) > 200, name
        assert "Fires " in page, name


# -- copy before install ----------------------------------------------------------------------------------------------


def test_an_install_is_order_safe_only_where_the_files_prove_it() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    assert advise("copy_before_install", history)[0].order_safe
    assert not advise("copy_before_install", replace(history, files=None, texts={}))[0].order_safe
    assert not advise("copy_before_install", case_of("copy_before_install", "node_files_unknown"))[0].order_safe


def test_requirements_that_name_a_local_package_are_left_alone() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    for line in ("-e .\n", "./vendored\n", "mine @ file:///app/mine\n"):
        texts = {"requirements.txt": f"click\n{line}"}
        assert advise("copy_before_install", replace(history, texts=texts)) == []


def test_requirements_that_are_included_are_copied_too() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    files = {**(history.files or {}), "base.txt": 10}
    texts = {"requirements.txt": "-r base.txt\nclick\n", "base.txt": "jinja2\n"}
    (found,) = advise("copy_before_install", replace(history, files=files, texts=texts))
    assert "+COPY requirements.txt base.txt ./" in (found.patch or "")


NODE = ("copy_before_install", "node_install_and_build_in_one_run")


@pytest.mark.parametrize(
    "document",
    [
        '{"scripts": {"postinstall": "prisma generate"}}',
        '{"scripts": {"prepare": "husky && node build.js"}}',
        '{"scripts": {"install": 1}}',
        '{"workspaces": ["a"]}',
        '{"dependencies": {"a": "file:a"}}',
        '{"pnpm": {"patchedDependencies": {"a@1": "a.patch"}}}',
    ],
)
def test_an_install_that_needs_more_than_its_manifests_stays_where_it_is(document: str) -> None:
    assert advise("copy_before_install", replace(case_of(*NODE), texts={"package.json": document})) == []


@pytest.mark.parametrize("document", ['{"scripts": {"prepare": "is-ci || husky install"}}', "[", "[1]"])
def test_a_package_that_may_do_more_is_not_order_safe(document: str) -> None:
    (found,) = advise("copy_before_install", replace(case_of(*NODE), texts={"package.json": document}))
    assert not found.order_safe


@pytest.mark.parametrize(
    "name", [".yarnrc.yml", ".yarn/releases/yarn-4.5.0.cjs", "patches/a.patch", "pnpm-workspace.yaml"]
)
def test_files_that_an_install_reads_besides_keep_it_where_it_is(name: str) -> None:
    history = case_of(*NODE)
    assert advise("copy_before_install", replace(history, files={**(history.files or {}), name: 1})) == []


@pytest.mark.parametrize(
    ("command", "files", "texts", "expected"),
    [
        ("composer install --no-dev", {}, {"composer.json": "{}"}, False),
        ("composer install -o", {}, {"composer.json": "{}"}, True),
        ("composer install", {}, {"composer.json": '{"scripts": {"post-autoload-dump": "@php artisan"}}'}, True),
        ("composer install --no-scripts", {}, {"composer.json": '{"scripts": {"post-install-cmd": "x"}}'}, False),
        ("composer install", {}, {"composer.json": '{"config": {"optimize-autoloader": true}}'}, True),
        ("composer install", {}, {"composer.json": '{"autoload": {"classmap": ["src"]}}'}, True),
        ("go mod download", {}, {"go.mod": "module a\nreplace b => ../b\n"}, True),
        ("go mod download", {}, {"go.mod": "module a\nreplace b => c v1.0.0\n"}, False),
        ("go mod download", {"go.work": 1}, {}, True),
        ("bundle install", {}, {"Gemfile": 'gem "a", path: "vendored/a"'}, True),
        ("bundle install", {}, {"Gemfile": 'gem "rails", "~> 8.0"'}, False),
        ("pip install -r requirements.txt", {}, {}, False),
        ("pnpm install", {"pnpm-workspace.yaml": 1}, {"pnpm-workspace.yaml": "onlyBuiltDependencies:\n- a\n"}, False),
    ],
    ids=str,
)
def test_what_an_install_reads_is_asked_of_its_manager(
    command: str, files: dict[str, int], texts: dict[str, str], expected: bool
) -> None:
    manager = manager_of(command)
    assert manager is not None
    assert needs_more(manager, command, files, texts) is expected


@pytest.mark.parametrize(
    "command",
    [
        "npm ci --prefix=web",
        "yarn install --cwd=web",
        "composer install --working-dir=api",
        "bundle install --gemfile api/Gemfile",
        "pip install --find-links=wheels -r requirements.txt",
        "PIP_CONSTRAINT=c.txt pip install -r requirements.txt",
        "npm ci -w",
        "pnpm install --offline",
    ],
)
def test_an_install_that_works_elsewhere_is_left_alone(command: str) -> None:
    assert manager_of(command) is None


def test_an_install_into_a_folder_of_its_own_is_one() -> None:
    assert manager_of("pip install --prefix=/install -r requirements.txt") is not None


@pytest.mark.parametrize(
    "line", ["-f wheels\n", "wheels/a.whl\n", "mine[x] @ file:///a\n", "-rbase.txt\n", "libs/mine\n"]
)
def test_requirements_that_name_files_are_left_alone(line: str) -> None:
    history = case_of("copy_before_install", "python_whole_context")
    assert advise("copy_before_install", replace(history, texts={"requirements.txt": f"click\n{line}"})) == []


@pytest.mark.parametrize(
    ("target", "run", "fires"),
    [
        ("/app", "pip install -q -r requirements.txt", True),
        ("./", "pip install -q -r requirements.txt", True),
        ("./app/", "pip install -q -r app/requirements.txt", False),
        ("/elsewhere", "pip install -q -r requirements.txt", False),
        (".", "pip install -q -r /app/requirements.txt", False),
        (".", "pip install -q -r https://example.org/requirements.txt", False),
    ],
)
def test_paths_must_mean_the_same_to_the_copy_and_the_install(target: str, run: str, fires: bool) -> None:
    text = f"FROM toolbox:1\nWORKDIR /app\nCOPY . {target}\nRUN {run}\n"
    steps = [("WORKDIR /app", True), (f"COPY . {target}", False), (f"RUN {run}", False)]
    assert bool(advise("copy_before_install", written(text, steps))) is fires


def written(text: str, steps: list[tuple[str, bool]], builds: int = 6, **fields: object) -> History:
    """A history of equal builds after a cold one: each step with whether it hits."""

    def build(number: int) -> Build:
        made = [
            make_step(step, cached=number > 0 and is_hit, **({} if number and is_hit else {"seconds": 10.0}))
            for step, is_hit in steps
        ]
        return make_build(*made, **{"builder": "buildkit", "format": "buildkit-plain"} | fields)

    return History(dockerfile=Dockerfile(text), builds=tuple(PastBuild(build=build(n)) for n in range(builds)))


def test_cleaning_up_stays_with_the_install() -> None:
    run = "npm ci && npm cache clean --force && npm run build"
    text = f"FROM node:22\nWORKDIR /app\nCOPY . .\nRUN {run}\n"
    (found,) = advise(
        "copy_before_install", written(text, [("WORKDIR /app", True), ("COPY . .", False), (f"RUN {run}", False)])
    )
    assert "+RUN npm ci && npm cache clean --force\n" in (found.patch or "")
    assert "+RUN npm run build\n" in (found.patch or "")


@pytest.mark.parametrize(
    ("head", "run", "fields", "fires"),
    [
        ("FROM node:22", "npm ci", {}, True),
        ("FROM docker.io/library/node:22", "npm ci", {}, True),
        ("FROM node:22 AS base\nFROM base", "npm ci", {}, True),
        ("FROM node:22", "npm ci", {"builder": "docker", "format": "classic"}, False),
        ("FROM node:22\nUSER node", "npm ci", {}, False),
        ("FROM node:22 AS base\nUSER node\nFROM base", "npm ci", {}, False),
        ("FROM cgr.dev/chainguard/node", "npm ci", {}, False),
        ("FROM cgr.dev/chainguard/node\nUSER root", "npm ci", {}, True),
        ("FROM node:22\nENV npm_config_cache=/cache", "npm ci", {}, False),
        ("FROM golang:1.23", "go mod download", {}, False),
        ("FROM php:8", "composer install", {}, False),
        ("FROM node:22", "yarn install --frozen-lockfile", {}, True),
        ("FROM node:22", "yarn install --immutable", {}, False),
    ],
    ids=str,
)
def test_a_cache_mount_is_offered_only_where_the_cache_surely_lies(
    head: str, run: str, fields: dict[str, str], fires: bool
) -> None:
    text = f"{head}\nCOPY package.json ./\nRUN {run}\n"
    history = written(text, [("COPY package.json ./", False), (f"RUN {run}", False)], **fields)
    assert bool(advise("missing_cache_mount", history)) is fires


@pytest.mark.parametrize("start", ['["cargo", "watch"]', '["dotnet", "run"]', "go run .", '["mvn", "spring-boot:run"]'])
def test_an_image_that_runs_its_tools_keeps_them(start: str) -> None:
    text = f"FROM rust:1.80\nWORKDIR /app\nCOPY . .\nRUN cargo build\nCMD {start}\n"
    assert advise("shipped_build_tools", written(text, [("RUN cargo build", False)])) == []
    plain = text.replace(start, '["./target/debug/app"]')
    assert advise("shipped_build_tools", written(plain, [("RUN cargo build", False)]))


def test_caches_of_other_builders_are_not_advised_in_the_words_of_buildkit() -> None:
    history = case_of("no_cache_export", "empty_builders")
    builders = ["docker"] * len(history.builds)
    assert advise("no_cache_export", with_builds(history, builder=builders)) == []


def test_installed_packages_in_the_context_are_not_order_safe() -> None:
    history = case_of("copy_before_install", "node_install_and_build_in_one_run")
    files = {**(history.files or {}), "node_modules/a/index.js": 3}
    (found,) = advise("copy_before_install", replace(history, files=files, dockerignore=None))
    assert not found.order_safe


def test_an_install_that_a_lost_cache_repeats_is_no_reason_to_reorder() -> None:
    history = case_of("no_cache_export", "empty_builders")
    assert advise("copy_before_install", history) == []


# -- what-if replay ---------------------------------------------------------------------------------------------------


def test_the_same_dockerfile_replays_to_the_same_seconds() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    found = replay(history, history.dockerfile)
    assert found.savings == [0.0] * 8
    assert found.hits_before == found.hits_after
    assert found.steps_before == found.steps_after == 8 * 4


def test_a_replay_is_near_what_the_builds_really_spent() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    real = [sum(s.duration_seconds or 0 for s in p.build.steps if s.cacheable and not s.cached) for p in history.builds]
    found = replay(history, history.dockerfile)
    assert sum(found.seconds_before) == pytest.approx(sum(real[1:]), rel=0.1)


def test_without_the_changed_files_the_interval_is_wide() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    blind = replace(history, builds=tuple(replace(past, changed_files=None) for past in history.builds))
    (found,) = advise("copy_before_install", blind)
    (sharp,) = advise("copy_before_install", history)
    assert found.interval is not None
    assert found.interval[0] < (found.saving_seconds_per_build or 0) < found.interval[1]
    assert (sharp.saving_seconds_per_build or 0) != found.saving_seconds_per_build


def test_an_edited_dockerignore_spares_the_builds_that_only_it_would_have_spared() -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    found = replay(history, history.dockerfile, dockerignore=".git\nCONTRIBUTING.md\n")
    assert [saving > 0 for saving in found.savings] == [False, True] * 4 + [False]


# -- the others -------------------------------------------------------------------------------------------------------


def test_a_file_that_the_build_names_is_not_proposed_for_dockerignore() -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    texts = {"setup.py": "open('CONTRIBUTING.md')"}
    assert not any("CONTRIBUTING" in r.title for r in advise("ignored_files", replace(history, texts=texts)))


def test_nothing_is_proposed_for_dockerignore_without_the_files() -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    assert advise("ignored_files", replace(history, files=None)) == []


def test_a_cache_mount_is_not_offered_where_builders_begin_empty() -> None:
    history = case_of("no_cache_export", "empty_builders")
    assert advise("missing_cache_mount", history) == []


@pytest.mark.parametrize(
    "line",
    [
        "RUN pip install --no-cache-dir -q -r requirements.txt",
        "RUN --mount=type=cache,target=/root/.cache/pip pip install -q -r requirements.txt",
        "USER app\nRUN pip install -q -r requirements.txt",
    ],
)
def test_a_cache_mount_is_not_offered_where_it_would_not_help(line: str) -> None:
    case = FOLDER / "missing_cache_mount" / "python_whole_context"
    text = (case / "Dockerfile").read_text().replace("RUN pip install -q -r requirements.txt", line)
    assert advise("missing_cache_mount", read_history(case, text)) == []


def test_a_pinned_base_is_left_alone() -> None:
    case = FOLDER / "unpinned_base_image" / "one_of_three_bases_moved"
    text = (case / "Dockerfile").read_text().replace("node:20-slim", "node:20-slim@sha256:" + "0" * 64)
    assert advise("unpinned_base_image", read_history(case, text)) == []


def test_a_base_that_never_moved_is_left_alone() -> None:
    assert advise("unpinned_base_image", case_of("no_cache_export", "empty_builders")) == []


def test_a_lonely_apt_update_is_joined_with_its_install(tmp_path: Path) -> None:
    text = "FROM debian\nRUN apt-get update\nRUN apt-get install -y \\\n    curl\nCMD x\n"
    history = replace(case_of("no_cache_export", "empty_builders"), dockerfile=Dockerfile(text))
    (found,) = advise("lonely_apt_update", history)
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["git", "apply", "-"], input=found.patch, text=True, cwd=tmp_path, check=True)
    edited = (tmp_path / "Dockerfile").read_text()
    assert edited == "FROM debian\nRUN apt-get update && apt-get install -y \\\n    curl\nCMD x\n"


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN apt-get update && apt-get install -y x\n",
        "FROM a\nRUN apt-get update\nCOPY x x\nRUN apt-get install y\n",
        "FROM a\nRUN apt-get update\nRUN make\n",
        "FROM a\nRUN --mount=type=cache,target=/x apt-get update\nRUN apt-get install y\n",
    ],
)
def test_other_updates_are_left_alone(text: str) -> None:
    history = replace(case_of("no_cache_export", "empty_builders"), dockerfile=Dockerfile(text))
    assert advise("lonely_apt_update", history) == []


def test_a_cache_that_costs_more_than_it_saves_is_named() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    slow = (CacheTransfer(ref="r", succeeded=True, seconds=60.0),)
    quick = (CacheTransfer(ref="r", succeeded=True, seconds=0.01),)
    count = len(history.builds)
    (found,) = advise("costly_cache", with_builds(history, cache_exports=[slow] * count))
    assert (found.saving_seconds_per_build or 0) > 50
    assert advise("costly_cache", with_builds(history, cache_exports=[quick] * count)) == []


def test_an_update_that_has_hit_for_weeks_is_stale() -> None:
    case = FOLDER / "well_made" / "python_web"
    text = (case / "Dockerfile").read_text()
    history = read_history(case)
    install = next(i for i in history.dockerfile.instructions if "pip install" in i.text)
    days = [DAY * 10 * n for n in range(len(history.builds))]
    apt = replace(
        history, dockerfile=Dockerfile(text.replace(install.text, "RUN apt-get update && apt-get upgrade -y"))
    )
    lines = {i.position: seen for i, seen in zip(apt.dockerfile.instructions, history.lines.values(), strict=True)}
    for times, wanted in ((days, True), ([at / 100 for at in days], False)):
        known = with_builds(apt, started_at=times)
        hits = {p: [replace(o, missed=False) for o in seen] for p, seen in lines.items()}
        known.__dict__["lines"] = hits
        assert bool(advise("stale_hit", known)) is wanted


def test_a_context_that_grows_is_named_with_its_largest_folders() -> None:
    history = case_of("copy_before_install", "python_whole_context")
    count = len(history.builds)
    builds = tuple(replace(past, build=replace(past.build, builder="docker")) for past in history.builds)
    files = {"data/big.bin": 80_000_000, "app/x.py": 10}
    grown = with_builds(
        replace(history, builds=builds, files=files), context_bytes=[10_000_000 * (n + 1) for n in range(count)]
    )
    (found,) = advise("growing_context", grown)
    assert "data (80 MB)" in found.evidence[0]
    assert advise("growing_context", with_builds(grown, context_bytes=[30_000_000] * count)) == []


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ('FROM golang:1.23\nCOPY . .\nRUN go build -o /app .\nCMD ["/app"]\n', True),
        ('FROM mcr.microsoft.com/dotnet/sdk:8.0\nRUN dotnet publish\nENTRYPOINT ["x"]\n', True),
        ("FROM golang:1.23\nRUN go build\n", False),
        ('FROM golang:1.23 AS b\nRUN go build\nFROM scratch\nCOPY --from=b /app /app\nCMD ["/app"]\n', False),
        ('FROM python:3.12\nRUN make\nCMD ["x"]\n', False),
    ],
)
def test_build_tools_that_ship_are_named(text: str, fires: bool) -> None:
    history = replace(case_of("no_cache_export", "empty_builders"), dockerfile=Dockerfile(text))
    assert bool(advise("shipped_build_tools", history)) is fires


def test_a_go_program_of_nothing_but_sources_gets_a_stage_of_its_own(tmp_path: Path) -> None:
    text = (
        "FROM golang:1.23-alpine3.20\nWORKDIR /src\nENV CGO_ENABLED=0\nCOPY . .\nRUN go build -trimpath -o /app .\n"
        'USER 1000\nEXPOSE 80\nENTRYPOINT ["/app"]\n'
    )
    files = {"main.go": 1, "go.mod": 1, "Dockerfile": 1, ".github/workflows/ci.yml": 1}
    history = replace(case_of("no_cache_export", "empty_builders"), dockerfile=Dockerfile(text), files=files)
    (found,) = advise("shipped_build_tools", history)
    (tmp_path / "Dockerfile").write_text(text)
    subprocess.run(["git", "apply", "-"], input=found.patch, text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "Dockerfile").read_text() == (
        "FROM golang:1.23-alpine3.20 AS build\nWORKDIR /src\nENV CGO_ENABLED=0\nCOPY . .\n"
        "RUN go build -trimpath -o /app .\n\nFROM alpine:3.20\n"
        "COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/\nWORKDIR /src\n"
        'COPY --from=build /app /app\nENV CGO_ENABLED=0\nUSER 1000\nEXPOSE 80\nENTRYPOINT ["/app"]\n'
    )


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ('FROM golang:1.23\nRUN go build -o /app .\nCMD ["/app"]\n', None),
        ('FROM golang:1.23\nRUN go build -o /app .\nCMD ["/app"]\n', {"main.go": 1, "templates/a.html": 1}),
        ('FROM golang:1.23\nRUN go build -o /app .\nCMD ["/other"]\n', {"main.go": 1}),
        ('FROM golang:1.23\nRUN go build .\nCMD ["/app"]\n', {"main.go": 1}),
        ('FROM golang:1.23 AS all\nRUN go build -o /app .\nCMD ["/app"]\n', {"main.go": 1}),
        ('FROM golang:1.23\nRUN go build -o /app .\nUSER app\nCMD ["/app"]\n', {"main.go": 1}),
        ('FROM golang:1.23\nRUN go build -o /app .\nRUN rm -r /x\nCMD ["/app"]\n', {"main.go": 1}),
        ('FROM golang:1.23\nWORKDIR $X\nRUN go build -o /app .\nCMD ["/app"]\n', {"main.go": 1}),
        ('FROM rust:1\nRUN cargo build\nCMD ["/app"]\n', {"main.rs": 1}),
    ],
)
def test_a_program_that_may_need_more_than_itself_gets_no_patch(text: str, files: dict[str, int] | None) -> None:
    history = replace(case_of("no_cache_export", "empty_builders"), dockerfile=Dockerfile(text), files=files)
    (found,) = advise("shipped_build_tools", history)
    assert found.patch is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("COPY . .", "COPY . /etc/gauges/"),
        ("COPY . .", "COPY . /"),
        ("COPY . .", "COPY . $PLACE"),
        ("COPY . .", "COPY . .\nUSER app"),
        ("COPY . .", "COPY . .\nENV DEBIAN_FRONTEND=noninteractive"),
        ("COPY . .", "COPY --from=x . ."),
        ("--no-install-recommends jq", "./local.deb"),
        ("--no-install-recommends jq", '"jq"'),
        ("&& sh render.sh", "&& sh render.sh && apt-get purge -y jq"),
        ("RUN apt-get", "RUN --network=none apt-get"),
        ("RUN apt-get", "RUN --mount=type=bind,target=/x apt-get"),
        ("apt-get update", "make && apt-get update"),
    ],
)
def test_packages_stay_where_they_may_need_what_is_above_them(old: str, new: str) -> None:
    case = FOLDER / "system_packages_first" / "packages_below_the_files"
    text = (case / "Dockerfile").read_text()
    assert old in text
    assert advise("system_packages_first", read_history(case, text.replace(old, new, 1))) == []


@pytest.mark.parametrize(
    ("command", "packages", "rest"),
    [
        ("apk add --no-cache git && make", ["apk add --no-cache git"], ["make"]),
        ("DEBIAN_FRONTEND=noninteractive apt install -y git", None, []),
        ("dnf install -y git && make && dnf clean all", ["dnf install -y git", "dnf clean all"], ["make"]),
        ("apt-get update && make", [], []),
        ("apt-get install -y git && rm -rf /src", ["apt-get install -y git"], ["rm -rf /src"]),
        ("apt-get install -y git && (make && apt-get clean)", ["apt-get install -y git"], ["(make", "apt-get clean)"]),
        ("apt-get list", [], []),
    ],
)
def test_a_run_is_split_behind_its_packages(command: str, packages: list[str] | None, rest: list[str]) -> None:
    (run,) = Dockerfile(f"FROM a\nRUN {command}\n").stages[0].instructions[1:]
    wanted = [command] if packages is None else packages
    assert split_run(run) == (wanted, rest)


def test_packages_alone_move_as_they_are_written() -> None:
    case = FOLDER / "system_packages_first" / "packages_below_the_files"
    text = (case / "Dockerfile").read_text().replace(" \\\n    && sh render.sh", "")
    (found,) = advise("system_packages_first", read_history(case, text))
    assert "RUN apt-get update \\" in (found.patch or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": None},
        {"files": {"api/app.py": 1}},
        {"files": {"api/app.py": 1, "web/index.html": 1}},
        {"files": {f"api{n}/x": 1 for n in range(20)} | {"tests/x": 1}},
        {"texts": {"Makefile": "web: tests deploy"}},
        {"dockerignore": "", "texts": {"setup.py": "use_scm_version=True"}},
    ],
)
def test_a_copy_is_not_narrowed_in_doubt(changes: dict) -> None:
    history = case_of("narrow_copy", "three_programs_in_one_repository")
    assert advise("narrow_copy", history)
    assert advise("narrow_copy", replace(history, **changes)) == []


@pytest.mark.parametrize("line", ["COPY api tests /x/", "COPY --exclude=*.md . .", 'COPY [".", "."]'])
def test_another_copy_is_not_narrowed(line: str) -> None:
    case = FOLDER / "narrow_copy" / "three_programs_in_one_repository"
    text = (case / "Dockerfile").read_text().replace("COPY . .", line)
    assert advise("narrow_copy", read_history(case, text)) == []


def test_tests_that_the_build_runs_are_copied() -> None:
    case = FOLDER / "narrow_copy" / "three_programs_in_one_repository"
    text = (case / "Dockerfile").read_text().replace("RUN wc", "RUN make check || wc")
    (found,) = advise("narrow_copy", read_history(case, text))
    assert "+COPY tests/ ./tests/" in (found.patch or "")


def test_a_label_whose_value_stays_is_left_where_it_is() -> None:
    history = case_of("volatile_label_or_env", "version_label_classic")
    same = replace(history, builds=history.builds[:1] * 4)
    assert advise("volatile_label_or_env", same) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RUN gcc --version", "RUN echo $REVISION; gcc --version"),
        ("LABEL org.opencontainers.image.revision=$REVISION\n", ""),
        ("WORKDIR /src", "ARG REVISION\nWORKDIR /src"),
    ],
)
def test_an_argument_that_is_needed_at_the_top_stays(old: str, new: str) -> None:
    case = FOLDER / "volatile_label_or_env" / "revision_label_at_the_top"
    text = (case / "Dockerfile").read_text()
    assert old in text
    assert advise("volatile_label_or_env", read_history(case, text.replace(old, new, 1))) == []


def test_an_env_moves_to_the_line_that_names_it() -> None:
    case = FOLDER / "volatile_label_or_env" / "revision_label_at_the_top"
    text = (case / "Dockerfile").read_text()
    text = text.replace("LABEL org.opencontainers.image.revision=", "ENV REV=").replace("-O2", "-O2 -DREV=$REV")
    (found,) = advise("volatile_label_or_env", read_history(case, text))
    assert " COPY badge.c .\n+ARG REVISION\n+ENV REV=$REVISION\n RUN gcc -O2" in (found.patch or "")


def test_an_argument_that_broke_once_is_no_habit() -> None:
    history = case_of("volatile_label_or_env", "revision_label_at_the_top")
    assert advise("volatile_label_or_env", replace(history, builds=history.builds[:2])) == []


def test_caches_are_named_as_the_command_spells_them() -> None:
    history = case_of("cache_mode_max", "build_stage_not_exported")
    for option, spelled in (
        ("type=gha,scope=x,mode=min", "type=gha,scope=x,mode=max"),
        ("reg.example.org/app:cache", "type=registry,ref=reg.example.org/app:cache,mode=max"),
    ):
        builds = tuple(replace(past, command=("build", "--cache-to", option, ".")) for past in history.builds)
        (found,) = advise("cache_mode_max", replace(history, builds=builds))
        assert found.evidence[-1] == f"Export with: --cache-to {spelled}"
    history = case_of("missing_cache_import", "exported_only")
    builds = tuple(
        replace(past, command=("build", "--cache-to=type=local,dest=/tmp/c,mode=max")) for past in history.builds
    )
    (found,) = advise("missing_cache_import", replace(history, builds=builds))
    assert found.evidence[-1] == "Add to the command: --cache-from type=local,src=/tmp/c"


def test_a_command_that_says_mode_max_is_believed() -> None:
    history = case_of("cache_mode_max", "build_stage_not_exported")
    words = ("build", "--cache-to", "type=registry,ref=r.example.org/a,mode=max", ".")
    assert (
        advise("cache_mode_max", replace(history, builds=tuple(replace(p, command=words) for p in history.builds)))
        == []
    )


def test_an_import_that_always_fails_is_missing_too() -> None:
    history = case_of("missing_cache_import", "exported_only")
    failed = (CacheTransfer(ref="reg.example.org/other", succeeded=False, seconds=0.1),)
    (found,) = advise("missing_cache_import", with_builds(history, cache_imports=[failed] * len(history.builds)))
    assert "Every import failed: reg.example.org/other." in found.evidence


def test_each_advice_about_caches_speaks_of_its_own_case_only() -> None:
    cases = {
        "no_cache_export": "empty_builders",
        "missing_cache_import": "exported_only",
        "cache_mode_max": "build_stage_not_exported",
    }
    for name, case in cases.items():
        for other in cases:
            assert bool(advise(other, case_of(name, case))) is (name == other), (name, other)


def test_nothing_is_recommended_from_nothing() -> None:
    empty = History(dockerfile=Dockerfile("FROM a\nCOPY . .\nRUN npm ci\nARG X\nRUN $X\n"), builds=())
    for name in RECOMMENDATIONS:
        assert advise(name, empty) == []


def test_builds_per_week_come_from_the_times_of_the_logs() -> None:
    history = case_of("no_cache_export", "empty_builders")
    assert history.per_week() is None
    assert with_builds(history, started_at=[DAY * n for n in range(4)]).per_week() == pytest.approx(7)


def test_few_values_make_a_wide_interval() -> None:
    assert mean_and_interval([]) == (0.0, (0.0, 0.0))
    assert mean_and_interval([2.0]) == (2.0, (0.0, 4.0))
    few, many = mean_and_interval([1.0, 3.0])[1], mean_and_interval([1.0, 3.0] * 20)[1]
    assert few[1] - few[0] > many[1] - many[0]


def test_a_patch_of_a_file_without_a_final_newline_applies(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\nRUN b")
    patch = make_patch("Dockerfile", "FROM a\nRUN b", "FROM a\nRUN c")
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "Dockerfile").read_text() == "FROM a\nRUN c"


def test_a_patch_may_make_a_new_file(tmp_path: Path) -> None:
    subprocess.run(
        ["git", "apply", "-"], input=make_patch(".dockerignore", None, ".git\n"), text=True, cwd=tmp_path, check=True
    )
    assert (tmp_path / ".dockerignore").read_text() == ".git\n"


# -- what a build may read besides -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["prisma", "patches", "vendor/mine", "setup.py", "scripts"])
def test_schemas_and_patches_above_an_install_stay_there(source: str) -> None:
    copy = f"COPY {source} {source}"
    text = f"FROM a:1\nWORKDIR /app\n{copy}\nCOPY package.json ./\nRUN npm ci\n"
    steps = [("WORKDIR /app", True), (copy, False), ("COPY package.json ./", False), ("RUN npm ci", False)]
    assert advise("copy_below_install", written(text, steps)) == []


@pytest.mark.parametrize("source", ["COPY src src", "COPY main.py ."])
def test_plain_code_above_an_install_moves_without_proof(source: str) -> None:
    text = f"FROM a:1\nWORKDIR /app\n{source}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\n"
    steps = [
        ("WORKDIR /app", True),
        (source, False),
        ("COPY requirements.txt .", False),
        ("RUN pip install -r requirements.txt", False),
    ]
    (found,) = advise("copy_below_install", written(text, steps))
    assert not found.order_safe
    composer = text.replace("requirements.txt", "composer.json").replace(
        "pip install -r composer.json", "composer install"
    )
    steps = [(step.replace("requirements.txt", "composer.json"), hit) for step, hit in steps[:3]]
    assert advise("copy_below_install", written(composer, [*steps, ("RUN composer install", False)])) == []


def test_an_ignore_file_that_is_not_there_is_made_by_the_patch(tmp_path: Path) -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    files = {path: size for path, size in (history.files or {}).items() if path != ".dockerignore"}
    (found,) = advise("ignored_files", replace(history, dockerignore="", files=files))
    subprocess.run(["git", "apply", "-"], input=found.patch, text=True, cwd=tmp_path, check=True)
    assert "CONTRIBUTING.md" in (tmp_path / ".dockerignore").read_text()


def test_an_ignore_file_of_its_own_is_not_passed_over() -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    files = {**(history.files or {}), "Dockerfile.dockerignore": 3}
    assert advise("ignored_files", replace(history, files=files)) == []


@pytest.mark.parametrize(
    ("name", "entry", "more"),
    [
        ("docs/guide.md", "docs", {"docs/docs.go": 1}),
        ("README.md", "README.md", {"Cargo.toml": 1}),
        (".gitignore", ".gitignore", {"package.json": 1}),
    ],
)
def test_files_that_tools_may_read_are_not_ignored(name: str, entry: str, more: dict[str, int]) -> None:
    history = case_of("ignored_files", "documentation_beside_the_pages")
    builds = tuple(replace(past, changed_files=(ChangedFile(name),)) for past in history.builds)
    plain = replace(history, builds=builds, files={**(history.files or {}), name: 1})
    (found,) = advise("ignored_files", plain)
    assert f"+{entry}\n" in (found.patch or "")
    assert advise("ignored_files", replace(plain, files={**(plain.files or {}), **more})) == []


@pytest.mark.parametrize("name", ["pom.xml", "app.sln", "settings.gradle.kts", "CMakeLists.txt", "web/BUILD.bazel"])
def test_a_build_file_that_may_name_any_folder_keeps_them_all(name: str) -> None:
    history = case_of("narrow_copy", "three_programs_in_one_repository")
    assert advise("narrow_copy", history)
    assert advise("narrow_copy", replace(history, files={**(history.files or {}), name: 9})) == []


def test_a_folder_with_a_name_like_a_pattern_is_not_copied_by_it() -> None:
    history = case_of("narrow_copy", "three_programs_in_one_repository")
    assert advise("narrow_copy", replace(history, files={**(history.files or {}), "[id]/page.js": 9})) == []


@pytest.mark.parametrize(
    ("run", "fires"),
    [
        ("apt-get install -y make python3", True),
        ("python3 -m pip install flask", True),
        ("npm run build", False),
        ("cd web && make", False),
        ("CI=1 ./build.sh", False),
    ],
)
def test_a_variable_never_moves_below_what_may_bake_it_in(run: str, fires: bool) -> None:
    text = f"FROM a:1\nARG REVISION\nENV REVISION=$REVISION\nRUN {run}\nRUN mkdir /x\n"
    found = advise("volatile_label_or_env", written(text, [(f"RUN {run}", False), ("RUN mkdir /x", False)], builds=8))
    assert bool(found) is fires


@pytest.mark.parametrize(
    ("run", "proven"), [("npm ci", True), ("npm install", False), ("npm install --no-save", True), ("yarn", False)]
)
def test_a_lock_file_that_may_be_written_anew_is_no_proof(run: str, proven: bool) -> None:
    lock = "yarn.lock" if run == "yarn" else "package-lock.json"
    text = f"FROM node:22\nWORKDIR /app\nCOPY . .\nRUN {run}\n"
    history = written(text, [("WORKDIR /app", True), ("COPY . .", False), (f"RUN {run}", False)])
    known = {"package.json": "{}", "package-lock.json": "{}"}
    (found,) = advise("copy_before_install", replace(history, files={"package.json": 2, lock: 9}, texts=known))
    assert found.order_safe is proven


def test_comments_between_two_lines_are_kept_when_they_are_joined() -> None:
    text = "FROM debian:12\nRUN apt-get update\n# tools\nRUN apt-get install -y \\\n    curl\n"
    (found,) = advise("lonely_apt_update", written(text, [("RUN apt-get update", True)]))
    assert " # tools\n" in (found.patch or "")
    assert "+RUN apt-get update && apt-get install -y \\\n" in (found.patch or "")
