"""BuildKit's own record of a build, the SolveStatus stream: vertices with their intervals, statuses, logs, warnings.

rawjson writes it as JSON, records and the Engine API as protobuf; both become the same builds here. Defined in
BuildKit's client/graph.go and api/services/control/control.proto.
"""

import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cachescope.formats._buildkit import (
    STEP_CAP,
    TEXT_CAP,
    VERTEX_CAP,
    Solve,
    Vertex,
    is_cancellation,
)
from cachescope.formats.base import FoundBuild
from cachescope.instructions import parse_step_name
from cachescope.model import StepStatus
from cachescope.prefixes._stamps import parse_stamp

_FIRST_NAMES = (
    "[internal] load build definition",
    "[internal] load local bake",
    "[internal] load remote bake",
    "[internal] booting",
)
_NOTED = ("exporting ", "pushing manifest", "naming to ", "writing image ", "unpacking to ", "resolve ")
_INTERVAL_CAP = 1_000
_INPUT_CAP = 1_000

_minutes: dict[str, float | None] = {}


@dataclass(slots=True)
class Work:
    """One vertex as the stream tells it."""

    digest: str
    name: str
    line: int
    inputs: tuple[str, ...] = ()
    group: str | None = None
    spans: dict[str | float, object] = field(default_factory=dict)
    """Starts and ends as the stream writes them: only the last word of each start counts."""
    cached: bool = False
    is_complete: bool = False
    error: str | None = None
    output_lines: int = 0
    transferred: dict[str, int] = field(default_factory=dict)

    intervals: list[tuple[float, float | None]] = field(default_factory=list)
    """The same in seconds since the epoch, as of the last `settle()`."""

    def settle(self) -> list[tuple[float, float | None]]:
        """Return when it was at work, in seconds since the epoch."""
        self.intervals = [
            (at, None if end is None else read_time(end))
            for start, end in self.spans.items()
            if (at := read_time(start)) is not None
        ]
        return self.intervals


@dataclass(slots=True)
class _Group:
    """Vertices that the builder shows as one step (`COPY --link`)."""

    name: str
    line: int
    members: list[Work] = field(default_factory=list)
    is_hidden: bool = True


class StatusSolve(Solve):
    """One build out of a status stream."""

    __slots__ = ("_groups", "_notes", "_shown", "has_instructions", "is_over", "works")

    def __init__(self, log_format: str, line: int) -> None:
        super().__init__(log_format, line)
        self.works: dict[str, Work] = {}
        self._groups: dict[str, _Group] = {}
        self._shown: dict[str, Work | _Group] = {}
        self._notes: dict[tuple[str, str], None] = {}
        self.has_instructions = False
        self.is_over = False

    def take_vertex(self, item: dict[str, Any], line: int) -> None:
        """Take one message about a vertex: {digest, name, inputs, started, completed, cached, error, progressGroup}."""
        digest, name = item.get("digest"), item.get("name")
        if not isinstance(digest, str) or not isinstance(name, str):
            return
        work = self.works.get(digest)
        if work is None:
            if len(self.works) >= VERTEX_CAP:
                return
            work = self._new_work(digest, name, item, line)
        elif work.name != name and name:
            work.name = name[:TEXT_CAP]
        work.cached = item.get("cached") is True
        error = item.get("error")
        if isinstance(error, str) and error:
            work.error = error[:TEXT_CAP]
        started, completed = item.get("started"), item.get("completed")
        if isinstance(started, str | float) and (started in work.spans or len(work.spans) < _INTERVAL_CAP):
            work.spans[started] = completed or work.spans.get(started)
        work.is_complete = completed is not None
        self.last_line = line

    def _new_work(self, digest: str, name: str, item: dict[str, Any], line: int) -> Work:
        work = self.works[digest] = Work(digest[:256], name[:TEXT_CAP], line)
        self._join(work, item.get("progressGroup"), line)
        inputs = item.get("inputs")
        if isinstance(inputs, list):
            work.inputs = tuple(entry for entry in inputs[:_INPUT_CAP] if isinstance(entry, str))
        self.has_instructions = self.has_instructions or parse_step_name(name).index is not None
        return work

    def _join(self, work: Work, group: object, line: int) -> None:
        if not isinstance(group, dict) or not isinstance(group.get("id"), str):
            self._shown[work.digest] = work
            return
        identity, name = group["id"], group.get("name")
        shared = self._groups.get(identity)
        if shared is None:
            shared = self._groups[identity] = _Group(str(name)[:TEXT_CAP] if name else work.name, line)
            self._shown[identity] = shared
        shared.members.append(work)
        shared.is_hidden = shared.is_hidden and group.get("weak") is True

    def take_status(self, item: dict[str, Any]) -> None:
        """Take one progress line of a vertex: {id, vertex, current, total, …}."""
        text, digest = item.get("id"), item.get("vertex")
        if not isinstance(text, str) or not isinstance(digest, str):
            return
        if text.startswith(("transferring ", "sha256:")):
            work = self.works.get(digest)
            size = item.get("current" if text[0] == "t" else "total")
            if work is None or not isinstance(size, int) or size < 0:
                return
            if len(work.transferred) < _INPUT_CAP and (text[0] == "t" or " FROM " in work.name):
                work.transferred[text[:TEXT_CAP]] = size
            if text == "transferring context:" and work.name.endswith("load build context"):
                self.set_context(digest, size)
        elif text.startswith(_NOTED) and len(self._notes) < VERTEX_CAP:
            self._notes[digest, text[:TEXT_CAP]] = None

    def take_warning(self, text: str) -> None:
        """Take a lint warning of the builder."""
        if text and text not in self.warnings and len(self.warnings) < 200:
            self.warnings.append(text[:TEXT_CAP])

    def is_resting(self) -> bool:
        """Tell whether every vertex that began has ended."""
        return all(work.is_complete or not work.spans for work in self.works.values())

    def has_ended_after(self, moment: float) -> bool:
        """Tell whether some vertex is known to have ended after a moment."""
        return any(end is not None and end > moment for work in self.works.values() for _, end in work.settle())

    def found(self) -> FoundBuild:
        """Return the build as far as it is known."""
        self.vertices = {}
        shown: dict[str, Vertex] = {}
        starts: list[float] = []
        ends: list[float] = []
        for key, item in self._shown.items():
            members = item.members if isinstance(item, _Group) else [item]
            for work in members:
                for start, end in work.settle():
                    starts.append(start)
                    if end is not None:
                        ends.append(end)
            if isinstance(item, _Group) and item.is_hidden:
                continue
            vertex = _vertex(item, members)
            if vertex is not None:
                self.add(key, vertex)
                shown.update((work.digest, vertex) for work in members)
        self.started = min(starts) if starts else None
        if starts and ends:
            self.duration = round(max(0.0, max(ends) - min(starts)), 3)
        for digest, text in self._notes:
            if digest in shown:
                self.note(shown[digest], text)
        return FoundBuild(self.build(), self.line, self.last_line)


class StatusStream:
    """Reads messages of a stream that may hold several builds, unless it `is_one` build's own."""

    def __init__(self, log_format: str, *, is_one: bool = False) -> None:
        self._format = log_format
        self._is_one = is_one
        self._owners: dict[str, StatusSolve] = {}
        self._solves: list[StatusSolve] = []
        self._steps = 0
        self.dropped = 0
        """Vertices of builds that are not kept."""

    @property
    def is_full(self) -> bool:
        """Tell whether more steps came than are kept: what follows need not be read."""
        return self.dropped > 0

    @property
    def latest(self) -> StatusSolve | None:
        """Return the build that the stream is about."""
        return self._solves[-1] if self._solves else None

    def take(self, message: dict[str, Any], line: int) -> None:
        """Take one message: {vertexes, statuses, logs, warnings}, each optional."""
        owners = self._owners
        for item in _dicts(message.get("vertexes")):
            digest = item.get("digest")
            if isinstance(digest, str):
                solve = owners.get(digest) or self._own(digest, item, line)
                if solve is not None:
                    solve.take_vertex(item, line)
        if len(message) == 1 and "vertexes" in message:
            return
        for item in _dicts(message.get("statuses")):
            solve = owners.get(str(item.get("vertex")))
            if solve is not None:
                solve.take_status(item)
        for item in _dicts(message.get("logs")):
            self.take_output(str(item.get("vertex")), item.get("data"))
        for item in _dicts(message.get("warnings")):
            solve = self._owners.get(str(item.get("vertex"))) or self.latest
            if solve is not None:
                solve.take_warning(_decoded(item.get("short")).decode(errors="replace"))

    def take_output(self, digest: str, output: object) -> None:
        """Count the lines of a piece of output (bytes, or base64)."""
        solve = self._owners.get(digest)
        if solve is not None:
            solve.works[digest].output_lines += count_lines(output)

    def _own(self, digest: str, item: dict[str, Any], line: int) -> StatusSolve | None:
        """Decide which build a new vertex is of: that of its inputs, else the latest unless it begins another."""
        inputs = item.get("inputs")
        solve = None
        if isinstance(inputs, list) and len(self._solves) > 1:
            solve = next(
                (self._owners[entry] for entry in inputs if isinstance(entry, str) and entry in self._owners), None
            )
        latest = self.latest
        if solve is None and latest is not None and not self._begins(item, latest, line):
            solve = latest
        if solve is None:
            if self._steps > STEP_CAP:
                self.dropped += 1
                return None
            solve = StatusSolve(self._format, line)
            self._solves.append(solve)
        if len(solve.works) < VERTEX_CAP:
            self._steps += 1
            self._owners[digest] = solve
            return solve
        return None

    def _begins(self, item: dict[str, Any], latest: StatusSolve, line: int) -> bool:
        name = item.get("name")
        if latest.is_over or self._is_one:
            return not self._is_one
        if not isinstance(name, str) or not name.startswith(_FIRST_NAMES) or not latest.has_instructions:
            return False
        # A history tells a build afterwards, in any order; what is told live began after all that has ended.
        started = read_time(item.get("started"))
        return latest.last_line != line and (started is None or not latest.has_ended_after(started))

    def found(self) -> list[FoundBuild]:
        """Return the builds as far as they are known."""
        return [solve.found() for solve in self._solves if solve.works]


def read_time(value: object) -> float | None:
    """Return a time of the stream as seconds since the epoch: RFC 3339 text, or seconds already."""
    if isinstance(value, float):
        return value
    if not isinstance(value, str) or len(value) > 64:
        return None
    if value.endswith("Z") and len(value) > 19:
        minute = value[:16]
        if minute not in _minutes:
            if len(_minutes) > 1000:
                _minutes.clear()
            _minutes[minute] = parse_stamp(minute + ":00Z")
        base = _minutes[minute]
        seconds = value[17:-1]
        if base is not None and seconds.replace(".", "", 1).isdecimal() and seconds.isascii():
            return base + float(seconds) if base > 0 else None
    at = parse_stamp(value)
    return at if at is not None and at > 0 else None


def count_lines(data: object) -> int:
    """Return how many lines a piece of base64 output has."""
    decoded = _decoded(data)
    return decoded.count(b"\n") + (0 if decoded.endswith(b"\n") or not decoded else 1)


def _decoded(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if not isinstance(data, str):
        return b""
    try:
        return binascii.a2b_base64(data)
    except (binascii.Error, ValueError):
        return b""


def _dicts(value: object) -> Iterable[dict[str, Any]]:
    if not isinstance(value, list):
        return ()
    # Streams hold nothing else; a look is cheaper than a copy.
    return value if all(type(item) is dict for item in value) else [item for item in value if isinstance(item, dict)]


def _vertex(item: Work | _Group, works: list[Work]) -> Vertex | None:
    """Return a vertex, or the vertices of a group as one; None when nothing of it ever began."""
    begun = [work for work in works if work.spans or work.cached]
    if not begun:
        return None
    errors = [work.error for work in begun if work.error]
    if errors:
        status = StepStatus.CANCELED if is_cancellation(errors[0]) else StepStatus.FAILED
    elif not all(work.is_complete for work in works if work.spans):
        status = StepStatus.RUNNING
    else:
        status = StepStatus.CACHED if all(work.cached for work in begun) else StepStatus.DONE
    spans = begun[0].intervals if len(begun) == 1 else [span for work in begun for span in work.intervals]
    last = begun[-1]
    return Vertex(
        name=item.name,
        line=item.line,
        status=status,
        duration=None if status is StepStatus.RUNNING else _seconds(spans),
        error=errors[0] if errors else None,
        output_lines=sum(work.output_lines for work in works),
        digest=last.digest,
        started=min((start for start, _ in spans), default=None),
        inputs=last.inputs
        if len(works) == 1
        else tuple(dict.fromkeys(entry for work in works for entry in work.inputs)),
        transferred=last.transferred
        if len(works) == 1
        else {what: size for work in works for what, size in work.transferred.items()},
    )


def _seconds(spans: list[tuple[float, float | None]]) -> float | None:
    """Return the length of the union of intervals."""
    if len(spans) == 1:
        start, end = spans[0]
        return round(max(0.0, end - start), 3) if end is not None else None
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans, key=lambda span: span[0]):
        if end is None:
            continue
        begin = max(start, reached)
        if end > begin:
            total += end - begin
            reached = end
    return round(total, 3) if spans else None
