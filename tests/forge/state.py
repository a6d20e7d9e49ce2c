"""What the fake forge holds: repositories with commits, files, runs and jobs, who may read, and what was asked.

A forge is one state and two origins on loopback: its API, and a store of logs that refuses whoever sends it
credentials, as the real ones do. Tests fill the state and look at `requests` afterwards.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request that came in."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    status: int
    body: bytes = b""


@dataclass
class Job:
    """One job of a run with its log; a log of None does not exist (any more)."""

    id: int
    name: str = "image"
    log: bytes | None = b""
    conclusion: str | None = "success"
    misses: int = 0
    """How often the log is answered with 404 before it is there."""
    started_at: str = "2026-11-20T10:00:00Z"
    completed_at: str = "2026-11-20T10:02:00Z"
    runner: str = "runner-1"


@dataclass
class CIRun:
    """One execution of a workflow or pipeline."""

    id: int
    commit: str
    branch: str = "main"
    name: str = "Build"
    attempt: int = 1
    pull_request: int | None = None
    jobs: list[Job] = field(default_factory=list)
    conclusion: str | None = "success"
    fork: str = ""
    """Who owns the repository that a pull request comes from, where that is another one."""
    in_zip: bool = True
    """Whether the archive of the run holds the logs of its jobs."""


@dataclass
class Repository:
    """A repository: its commits in order with all their files, its runs, and room for what others write into it."""

    name: str
    id: int = 1
    default_branch: str = "main"
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    """Commit → path → content, oldest first; each is the child of the one before unless `parents` says otherwise."""
    parents: dict[str, str | None] = field(default_factory=dict)
    runs: list[CIRun] = field(default_factory=list)
    most_files: int = 300
    """How many changed files a comparison names."""
    written: dict[str, list[Any]] = field(default_factory=dict)
    """Comments, check runs, statuses: by kind, for the modules that take them."""

    def ancestors(self, commit: str) -> list[str]:
        """A commit and those before it, newest first."""
        order = list(self.commits)
        found = [commit]
        while True:
            last = found[-1]
            before = order[order.index(last) - 1] if order.index(last) else None
            parent = self.parents.get(last, before)
            if parent is None:
                return found
            found.append(parent)

    def changed(self, before: str, after: str) -> list[tuple[str, str]]:
        """Status and path of each file that differs, as Git tells it."""
        old, new = self.commits[before], self.commits[after]
        return sorted(
            [("added", path) for path in new.keys() - old.keys()]
            + [("removed", path) for path in old.keys() - new.keys()]
            + [("modified", path) for path in new.keys() & old.keys() if new[path] != old[path]]
        )


@dataclass
class Forge:
    """The state of one fake forge."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    token: str = "forge-token-for-reading"
    write_token: str = "forge-token-for-writing"
    app_id: int = 4711
    app_public_key: Any = None
    """The public key of the App, where there is one."""
    installation_id: int = 99
    installation_tokens: set[str] = field(default_factory=set)
    forgejo: int | None = None
    """The version of Forgejo that answers in the place of Gitea."""
    is_down: bool = False
    """Answer everything with 503."""
    limit: int | None = None
    """How many requests are left before 403 with `X-RateLimit-Remaining: 0`; None means no limit."""
    reset_seconds: int = 60
    forbidden: str = ""
    """A part of the addresses to which nobody may write, whatever token they have; empty forbids nothing."""
    forbidden_because: str = "Resource not accessible by personal access token"
    page_size: int = 30
    url: str = ""
    blob_url: str = ""
    redirect_to: str | None = None
    """Where logs are said to be instead of the store of logs."""
    requests: list[Asked] = field(default_factory=list)
    blob_requests: list[Asked] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def counted(self) -> Counter[str]:
        """How often each address was asked for, as `GET /path`."""
        return Counter(f"{asked.method} {asked.path}" for asked in self.requests)

    def may_read(self, authorization: str) -> bool:
        """Whether a header names a token that may read."""
        _, _, token = authorization.partition(" ")
        return token in {self.token, self.write_token} or token in self.installation_tokens

    def may_write(self, authorization: str) -> bool:
        """Whether a header names a token that may write."""
        _, _, token = authorization.partition(" ")
        return token == self.write_token or token in self.installation_tokens
