"""Reads the logs that ship with the project, one JSON object a line; SOURCES.md beside them says what wrote them."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from backports import zstd

FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
"""What the stamps of the logs count from."""
ARCHIVE = Path(__file__).with_name("builds.jsonl.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoBuild:
    """One log, with what CI knew about its run and its commit."""

    offset: timedelta
    """From midnight of the first day."""
    repository: str
    branch: str
    pull_request: int | None
    job: str
    runner: str
    image: str
    outcome: str
    command: tuple[str, ...]
    commit: str
    files: Mapping[str, str]
    """The commit's files and the hash of what each holds."""
    dockerfile: str
    """The text of the Dockerfile."""
    dockerignore: str
    log: str


def read_archive(path: Path = ARCHIVE) -> Iterator[DemoBuild]:
    """Yield the builds from the oldest to the newest."""
    with zstd.open(path, "rb") as packed:
        for line in io.BufferedReader(packed):
            fields = orjson.loads(line)
            fields["offset"] = timedelta(seconds=fields.pop("offset_seconds"))
            fields["command"] = tuple(fields["command"])
            yield DemoBuild(**fields)


def example_log() -> str:
    """Return one log that shows hits, a break and its cascade: for who has none at hand."""
    return max(
        (build.log for build in read_archive() if build.outcome == "succeeded"),
        key=lambda log: min(log.count("CACHED"), log.count("DONE")),
    )
