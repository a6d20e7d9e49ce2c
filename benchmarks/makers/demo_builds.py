"""Makes the logs of `cachescope demo`: five weeks of two repositories, built for real by Docker 20.10 with BuildKit.

Needs root, dockerd, the docker client of the same version, docker-registry, debootstrap, git, and the network. Two
private daemons play two CI runners, each with a build cache of its own; a private registry keeps the cache that one of
the repositories shares. Commits, dates and the story (a COPY moved above the install, a volatile build argument, new
base images, pruned caches, failures) are made up and seeded; every line of every log is the builder's own.

    python3 benchmarks/makers/demo_builds.py /tmp/demo service/demo/builds.jsonl.zst
"""

import contextlib
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from backports import zstd

DOCKER = os.environ.get("DEMO_DOCKER", "/usr/bin/docker")
REGISTRY = "localhost:5000"
START = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday; `cachescope demo` moves all dates up to today
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


# -- builders -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Runner:
    """One CI runner: a private Docker daemon with its own build cache."""

    name: str
    folder: Path

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the daemon and stop it again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [f"--data-root={self.folder}/data", f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/pid"]
        network = ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        with (self.folder / "daemon.log").open("wb") as log:
            command = ["dockerd", *network, *paths, "-H", self.host]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: self.docker("info", check=False).returncode == 0)
            yield
        finally:
            daemon.terminate()
            daemon.wait()

    @property
    def host(self) -> str:
        """Return the address of the daemon's socket."""
        return f"unix://{self.folder}/socket"

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run the docker client against this daemon."""
        command = [DOCKER, "-H", self.host, *arguments]
        return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def stamped(self, command: list[str], folder: Path, moment: datetime) -> tuple[bytes, bool]:
        """Run the docker client as a CI job does that stamps each line when it comes, as if it began at a moment.

        Returns the log and whether the client succeeded.
        """
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        log, began = [], time.monotonic()
        with subprocess.Popen(
            [DOCKER, "-H", self.host, *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client:
            for line in client.stdout or ():
                now = moment + timedelta(seconds=time.monotonic() - began)
                log.append(now.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode() + line)
        return b"".join(log), client.returncode == 0


def wait_for(is_ready: Callable[[], bool]) -> None:
    """Wait up to a minute until something answers."""
    for _ in range(120):
        if is_ready():
            return
        time.sleep(0.5)
    sys.exit("A daemon did not start; see its daemon.log.")


def make_base(folder: Path, name: str, packages: str, finish: str, note: str) -> Path:
    """Make a root file system that stands in for an official image, and pack it; kept for the next run."""
    root, packed = folder / name, folder / f"{name}-{note}.tar"
    if packed.exists():
        return packed
    if not root.exists():
        subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root], check=True)
        shutil.copy(CERTIFICATES, root / CERTIFICATES[1:])
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        subprocess.run(["sh", "-ec", finish], cwd=root, check=True)
    (root / "etc/image-release").write_text(f"{name} {note}\n")
    subprocess.run(["tar", "--sort=name", "--mtime=@0", "--numeric-owner", "-cf", packed, "-C", root, "."], check=True)
    return packed


PYTHON = (
    "python",
    "python3,python3-pip,python3-venv,ca-certificates",
    "ln -sf python3 usr/bin/python; rm -f usr/lib/python3.11/EXTERNALLY-MANAGED",
)
NODE = (
    "node",
    "ca-certificates,libstdc++6",
    (
        "cp /usr/bin/node usr/local/bin/; cp -a /usr/lib/node_modules usr/local/lib/; "
        "ln -sf ../lib/node_modules/npm/bin/npm-cli.js usr/local/bin/npm"
    ),
)


def import_base(runner: Runner, tag: str, packed: Path) -> None:
    """Give a runner a base image under the name that the Dockerfiles use."""
    environment = [
        f"ENV PIP_CERT={CERTIFICATES}",
        f"ENV NODE_EXTRA_CA_CERTS={CERTIFICATES}",
        "ENV npm_config_update_notifier=false",
    ]
    changes = [word for line in [*environment, 'CMD ["/bin/sh"]'] for word in ("--change", line)]
    runner.docker("import", *changes, str(packed), tag)


# -- the two repositories -------------------------------------------------------------------------------------------

ORDERS = {
    "Dockerfile": """\
FROM python:3.11-slim AS build
WORKDIR /app
RUN apt-get update -qq \\
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev libpq-dev python3-dev \\
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir -r requirements.txt
COPY . .
RUN /venv/bin/python -m compileall -q orders && /venv/bin/python -m pytest -q tests

FROM python:3.11-slim
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libpq5 && rm -rf /var/lib/apt/lists/*
RUN useradd --system orders
COPY --from=build /venv /venv
COPY --from=build /app/orders /app/orders
USER orders
WORKDIR /app
CMD ["/venv/bin/uvicorn", "orders.main:app", "--host", "0.0.0.0"]
""",
    "requirements.txt": "fastapi==0.115.6\nuvicorn==0.34.0\nsqlalchemy==2.0.36\nhttpx==0.28.1\npytest==8.3.4\n",
    ".dockerignore": ".git\n",
    "README.md": "# orders\n\nTakes orders and keeps them.\n",
    "orders/__init__.py": "",
    "orders/main.py": """\
from fastapi import FastAPI

from orders.pricing import total

app = FastAPI()


@app.get("/total")
def read_total(price: float, amount: int) -> float:
    return total(price, amount)
""",
    "orders/pricing.py": """\
RATES = {1: 1.0}


def total(price: float, amount: int) -> float:
    return price * amount * RATES.get(amount, 1.0)
""",
    "tests/test_pricing.py": """\
from orders.pricing import total


def test_total() -> None:
    assert total(2.0, 3) == 6.0
""",
}

STOREFRONT = {
    "Dockerfile": """\
FROM node:20-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund

FROM dependencies AS build
COPY . .
RUN npm run typecheck
RUN npm run bundle

FROM node:20-slim AS runtime
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --no-audit --no-fund
COPY --from=build /app/dist dist
USER nobody
CMD ["node", "dist/server.js"]
""",
    "package.json": json.dumps(
        {
            "name": "storefront",
            "version": "1.0.0",
            "private": True,
            "scripts": {
                "typecheck": "tsc --noEmit",
                "bundle": "esbuild src/server.tsx --bundle --platform=node --outfile=dist/server.js",
            },
            "dependencies": {"react": "18.3.1", "react-dom": "18.3.1", "zod": "3.23.8"},
            "devDependencies": {
                "@types/react": "18.3.12",
                "@types/react-dom": "18.3.1",
                "@types/node": "20.17.9",
                "esbuild": "0.24.0",
                "typescript": "5.7.2",
            },
        },
        indent=2,
    )
    + "\n",
    "tsconfig.json": """\
{
  "compilerOptions": {
    "jsx": "react-jsx", "strict": true, "module": "esnext", "moduleResolution": "bundler", "target": "es2022"
  },
  "include": ["src"]
}
""",
    ".dockerignore": ".git\nnode_modules\n",
    "README.md": "# storefront\n\nThe shop window.\n",
    "src/server.tsx": """\
import { createServer } from 'node:http';
import { renderToString } from 'react-dom/server';
import { Page } from './page';

createServer((_, answer) => answer.end(renderToString(<Page title="Shop" />))).listen(8080);
""",
    "src/page.tsx": """\
import { z } from 'zod';

const Title = z.string().min(1);

export function Page({ title }: { title: string }) {
  return <main><h1>{Title.parse(title)}</h1></main>;
}
""",
}

ORDERS_PACKAGES = [
    "pydantic-settings==2.7.0",
    "structlog==24.4.0",
    "tenacity==9.0.0",
    "orjson==3.10.12",
    "python-multipart==0.0.20",
    "redis==5.2.1",
]
STOREFRONT_PACKAGES = ["date-fns@4.1.0", "clsx@2.1.1", "swr@2.2.5", "nanoid@5.0.9", "zustand@5.0.2"]


@dataclasses.dataclass
class Repository:
    """One repository: its working tree, how it is built, and the story of its five weeks."""

    name: str
    folder: Path
    files: dict[str, str]
    random: random.Random
    packages: list[str]
    shares_cache: bool = False
    edits: int = 0

    def git(self, *arguments: str, moment: datetime = START) -> str:
        """Run git at a moment of the story, so that commit ids come out the same every time."""
        stamp = moment.isoformat()
        who = {
            f"GIT_{role}_{part}": value
            for role in ("AUTHOR", "COMMITTER")
            for part, value in (("NAME", "Kim"), ("EMAIL", "kim@example.com"), ("DATE", stamp))
        }
        command = ["git", "-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, **who}, check=True, capture_output=True, text=True
        ).stdout.strip()

    def create(self) -> None:
        """Write the first commit."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name, text in self.files.items():
            self.write(name, text)
        self.git("init", "-q", "-b", "main")
        if self.shares_cache:
            subprocess.run(["npm", "install", "--package-lock-only", "--silent"], cwd=self.folder, check=True)

    def write(self, name: str, text: str) -> None:
        """Write one file of the working tree."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        """Change one passage of one file; the passage must be there."""
        text = (self.folder / name).read_text()
        if old not in text:
            sys.exit(f"{self.name}/{name} holds no {old!r}")
        self.write(name, text.replace(old, new))

    # The changes of the story, each named as its commit.

    def edit_source(self) -> None:
        """Change what the program does."""
        self.edits += 1
        if self.shares_cache:
            self.write(f"src/part{self.edits % 7}.tsx", f"export const part{self.edits % 7} = {self.edits};\n")
        else:
            self.replace("orders/pricing.py", "RATES = {", f"RATES = {{{100 + self.edits}: 0.{self.edits + 10}, ")

    def edit_tests(self) -> None:
        """Add a test."""
        self.edits += 1
        name = "src/page.check.ts" if self.shares_cache else "tests/test_more.py"
        text = (
            f"export const check = {self.edits};\n"
            if self.shares_cache
            else f"def test_edit() -> None:\n    assert {self.edits} > 0\n"
        )
        self.write(name, text)

    def edit_docs(self) -> None:
        """Change a page of the documentation."""
        self.edits += 1
        self.write("README.md", f"# {self.name}\n\nEdition {self.edits}.\n")

    def add_dependency(self) -> None:
        """Depend on one package more."""
        package = self.packages.pop(0)
        if self.shares_cache:
            subprocess.run(
                ["npm", "install", "--package-lock-only", "--silent", "--save-exact", package],
                cwd=self.folder,
                check=True,
            )
        else:
            self.write("requirements.txt", (self.folder / "requirements.txt").read_text() + package + "\n")

    def break_the_build(self) -> None:
        """Commit what does not pass its own checks."""
        if self.shares_cache:
            self.write("src/broken.ts", "export const price: number = 'free';\n")
        else:
            self.write("tests/test_broken.py", "def test_rounding() -> None:\n    assert round(2.5) == 3\n")

    def mend_the_build(self) -> None:
        """Take the broken check back."""
        (self.folder / ("src/broken.ts" if self.shares_cache else "tests/test_broken.py")).unlink()

    def copy_before_install(self) -> None:
        """Copy everything before the install, so that every edit pays for it."""
        if self.shares_cache:
            self.replace(
                "Dockerfile",
                "COPY package.json package-lock.json ./\nRUN npm ci --no-audit",
                "COPY . .\nRUN npm ci --no-audit",
            )
        else:
            self.replace("Dockerfile", "COPY requirements.txt .\nRUN /venv", "COPY . .\nRUN /venv")

    def copy_after_install(self) -> None:
        """Put the install back above the copy."""
        if self.shares_cache:
            self.replace(
                "Dockerfile",
                "COPY . .\nRUN npm ci --no-audit",
                "COPY package.json package-lock.json ./\nRUN npm ci --no-audit",
            )
        else:
            self.replace("Dockerfile", "COPY . .\nRUN /venv/bin/pip", "COPY requirements.txt .\nRUN /venv/bin/pip")

    def stamp_early(self) -> None:
        """Put the build's number into the image, above everything that costs."""
        self.replace(
            "Dockerfile",
            "WORKDIR /app\n" if self.shares_cache else "WORKDIR /app\nRUN apt",
            "WORKDIR /app\nARG BUILD_NUMBER\nENV BUILD_NUMBER=$BUILD_NUMBER\n"
            + ("" if self.shares_cache else "RUN apt"),
        )

    def stamp_late(self) -> None:
        """Move the build's number out of the way again."""
        self.replace("Dockerfile", "ARG BUILD_NUMBER\nENV BUILD_NUMBER=$BUILD_NUMBER\n", "")

    def ignore_docs(self) -> None:
        """Keep documentation and tests out of the build context."""
        self.write(".dockerignore", (self.folder / ".dockerignore").read_text() + "*.md\n")


@dataclasses.dataclass
class Event:
    """One commit and the build that CI ran for it; without a change, CI ran again."""

    moment: datetime
    change: str | None = None
    branch: str = "main"
    pull_request: int | None = None
    before: str | None = None  # what happened to the runner: "prune", "new base"
    no_cache: bool = False


def story(chance: random.Random, landmarks: dict[int, list[Event]]) -> list[Event]:
    """Return five weeks of working days: edits on main, short branches with a pull request, and the landmarks."""
    events: list[Event] = []
    number = 40
    for day in range(36):
        date = START + timedelta(days=day)
        morning = date + timedelta(hours=6, minutes=chance.randrange(60))
        for turn, event in enumerate(landmarks.get(day, [])):
            events.append(dataclasses.replace(event, moment=morning + timedelta(minutes=25 * turn)))
        if date.weekday() >= 5:
            continue
        for _ in range(chance.choice((1, 1, 2))):
            moment = date + timedelta(hours=8 + chance.random() * 9)
            change = chance.choices(("edit_source", "edit_tests", "edit_docs"), (6, 2, 2))[0]
            events.append(Event(moment, change))
        if chance.random() < 0.35:
            number += 1
            branch, hour = f"{chance.choice(('feature', 'fix', 'chore'))}/{number}", 9 + chance.random() * 3
            for turn in range(chance.choice((1, 2, 2))):
                moment = date + timedelta(hours=hour + turn * 1.3)
                events.append(
                    Event(
                        moment, "edit_source" if turn else chance.choice(("edit_source", "edit_tests")), branch, number
                    )
                )
    return sorted(events, key=lambda event: event.moment)


def landmarks(*plan: tuple[int, str | None, dict[str, object]]) -> dict[int, list[Event]]:
    """Return the turning points of a story by day."""
    days: dict[int, list[Event]] = {}
    for day, change, options in plan:
        days.setdefault(day, []).append(Event(START, change, **options))  # type: ignore[arg-type]
    return days


# -- making the logs ------------------------------------------------------------------------------------------------


def build_command(repository: Repository, event: Event, number: int) -> list[str]:
    """Return the command line with which CI builds what is checked out."""
    image = f"{REGISTRY}/{repository.name}"
    options = ["--network", "host", "-t", f"{image}:{number}"]
    if "ARG BUILD_NUMBER" in (repository.folder / "Dockerfile").read_text():
        options += ["--build-arg", f"BUILD_NUMBER={number}"]
    if event.no_cache:
        options += ["--no-cache"]
    if repository.shares_cache:
        options += ["--build-arg", "BUILDKIT_INLINE_CACHE=1", "--cache-from", f"{image}:cache"]
    return ["build", *options, "."]


def build(repository: Repository, event: Event, runner: Runner, number: int) -> tuple[bytes, bool]:
    """Build what is checked out and return the builder's log and whether it succeeded."""
    image = f"{REGISTRY}/{repository.name}"
    command = build_command(repository, event, number)
    log, succeeded = runner.stamped(command, repository.folder, event.moment)
    if succeeded and repository.shares_cache and event.branch == "main":
        runner.docker("tag", f"{image}:{number}", f"{image}:cache")
        runner.docker("push", "-q", f"{image}:cache")
    return log, succeeded


def describe_commit(repository: Repository, commit: str) -> dict[str, object]:
    """Return what a CI provider could tell about a commit: its files by content, and the two that steer the build."""
    listed = (line.split(maxsplit=3) for line in repository.git("ls-tree", "-r", commit).split("\n"))
    return {
        "commit": repository.git("rev-parse", commit),
        "files": {name: blob[:12] for _, _, blob, name in listed},
        "dockerfile": repository.git("show", f"{commit}:Dockerfile") + "\n",
        "dockerignore": repository.git("show", f"{commit}:.dockerignore") + "\n",
    }


def play(
    repository: Repository, events: list[Event], runners: list[Runner], bases: dict[str, list[Path]], tag: str
) -> Iterator[dict[str, object]]:
    """Live through the story and yield one record for each build."""
    repository.create()
    worn = 0  # how often the base image was renewed
    for number, event in enumerate(events, 1):
        runner = runners[0] if repository.random.random() < 0.8 else runners[1]
        if event.before == "prune":
            runner = runners[0]
            runner.docker("builder", "prune", "-af")
        if event.before == "new base":
            worn += 1
            for each in runners:
                import_base(each, tag, bases[tag][worn])
        if event.branch != "main":
            known = event.branch in repository.git("branch", "--format=%(refname:short)").split("\n")
            repository.git("checkout", "-q", *([event.branch] if known else ["-b", event.branch, "main"]))
        elif number > 1:
            repository.git("checkout", "-q", "main")
        if event.change:
            getattr(repository, event.change)()
        repository.git("add", "-A", moment=event.moment)
        message = (getattr(Repository, event.change).__doc__ if event.change else "Begin").rstrip(".")
        if number == 1 or event.change:
            repository.git("commit", "-q", "--allow-empty", "-m", message, moment=event.moment)
        log, succeeded = build(repository, event, runner, number)
        outcome = "succeeded" if succeeded else "failed"
        print(f"{repository.name} {number}/{len(events)} {event.change} {event.branch}: {outcome}", flush=True)
        if succeeded != (event.change != "break_the_build"):
            print(log.decode(errors="replace")[-2000:], flush=True)
        yield {
            **describe_commit(repository, "HEAD"),
            "offset_seconds": int((event.moment - START).total_seconds()),
            "repository": repository.name,
            "command": ["docker", *build_command(repository, event, number)],
            "branch": event.branch,
            "pull_request": event.pull_request,
            "job": "nightly" if event.no_cache else "build",
            "runner": runner.name,
            "image": repository.name.split("/")[1],
            "outcome": outcome,
            "log": log.decode(errors="replace"),
        }


def main() -> None:
    """Make all logs in a work folder and write the archive."""
    work, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    only = sys.argv[3:]
    bases = {
        "python:3.11-slim": [make_base(work / "bases", *PYTHON, note) for note in ("first", "second", "third")],
        "node:20-slim": [make_base(work / "bases", *NODE, note) for note in ("first", "second", "third")],
    }
    runners = [Runner(f"runner-{number}", work / f"runner-{number}") for number in (1, 2)]
    orders = Repository("harbor/orders", work / "orders", ORDERS, random.Random(7), ORDERS_PACKAGES)
    storefront = Repository(
        "harbor/storefront", work / "storefront", STOREFRONT, random.Random(11), STOREFRONT_PACKAGES, shares_cache=True
    )
    plots = {
        "harbor/orders": landmarks(
            (0, None, {}),
            (2, "add_dependency", {}),
            (6, None, {"no_cache": True}),
            (7, "edit_source", {"before": "new base"}),
            (9, "copy_before_install", {}),
            (11, "break_the_build", {}),
            (11, "mend_the_build", {}),
            (13, None, {"no_cache": True}),
            (15, "add_dependency", {}),
            (17, "copy_after_install", {}),
            (20, None, {"no_cache": True}),
            (21, "edit_tests", {"before": "new base"}),
            (22, "stamp_early", {}),
            (26, "stamp_late", {}),
            (27, None, {"no_cache": True}),
            (28, "edit_source", {"before": "prune"}),
            (30, "add_dependency", {}),
            (31, "ignore_docs", {}),
            (34, None, {"no_cache": True}),
            (35, "edit_source", {}),
        ),
        "harbor/storefront": landmarks(
            (0, None, {}),
            (1, "add_dependency", {}),
            (4, "edit_source", {"before": "prune"}),
            (8, "add_dependency", {}),
            (10, "stamp_early", {}),
            (14, "edit_source", {"before": "new base"}),
            (15, "stamp_late", {}),
            (16, "break_the_build", {}),
            (16, "mend_the_build", {}),
            (18, "add_dependency", {}),
            (23, "copy_before_install", {}),
            (25, "edit_source", {"before": "prune"}),
            (29, "copy_after_install", {}),
            (30, "ignore_docs", {}),
            (31, "add_dependency", {}),
            (35, "edit_source", {}),
        ),
    }
    with contextlib.ExitStack() as stack:
        registry = subprocess.Popen(
            ["docker-registry", "serve", write_registry_settings(work)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(registry.terminate)
        for runner in runners:
            stack.enter_context(runner.running())
            for tag, packed in bases.items():
                import_base(runner, tag, packed[0])
        for repository in (orders, storefront):
            part = work / f"{repository.name.replace('/', '-')}.jsonl"
            if only and repository.name not in only:
                continue
            tag = "node:20-slim" if repository.shares_cache else "python:3.11-slim"
            events = story(repository.random, plots[repository.name])
            with part.open("w") as lines:
                for record in play(repository, events, runners, bases, tag):
                    lines.write(json.dumps(record) + "\n")
                    lines.flush()
    records = [
        json.loads(line) for part in sorted(work.glob("harbor-*.jsonl")) for line in part.read_text().splitlines()
    ]
    records.sort(key=lambda record: record["offset_seconds"])
    body = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records).encode()
    target.write_bytes(zstd.compress(body, level=19))
    print(f"{len(records)} builds, {len(body)} bytes of logs, {target.stat().st_size} packed")


def write_registry_settings(work: Path) -> str:
    """Write the settings of the private registry and return their path."""
    path = work / "registry.yml"
    storage = f"storage:\n  filesystem:\n    rootdirectory: {work}/registry\n"
    path.write_text(f"version: 0.1\n{storage}http:\n  addr: {REGISTRY}\nlog:\n  level: error\n")
    return str(path)


if __name__ == "__main__":
    main()
