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
    fetches_layers,
    is_cancellation,
)
from cachescope.formats.base import FoundBuild
from cachescope.instructions import parse_step_name
from cachescope.model import StepKind, StepStatus
from cachescope.prefixes._stamps import parse_stamp

_FIRST_NAMES = (
    "[internal] load build definition",
    "[internal] load local bake",
    "[internal] load remote bake",
    "[internal] booting",
)
_NOTED = ("exporting ", "pushing manifest", "naming to ", "writing image ", "unpacking to ", "resolve ")
_TIME = (str, float)
_INTERVAL_CAP = 1_000
_INPUT_CAP = 1_000

_RUNNING, _CACHED, _DONE = StepStatus.RUNNING, StepStatus.CACHED, StepStatus.DONE

_minutes: dict[str, float] = {}


@dataclass(slots=True)
class Work:
    """One vertex as the stream tells it."""

    solve: "StatusSolve"
    digest: str
    name: str
    line: int
    inputs: tuple[str, ...] = ()
    spans: dict[str | float, object] = field(default_factory=dict)
    """Starts and ends as the stream writes them: only the last word of each start counts."""
    cached: bool = False
    is_complete: bool = False
    order: int = 0
    """Which of the vertices of a stream it was when it was first announced."""
    error: str | None = None
    output_lines: int = 0
    transferred: dict[str, int] = field(default_factory=dict)

    def take(self, item: dict[str, Any]) -> None:
        """Take what a message says of it: {name, started, completed, cached, error}."""
        get = item.get
        started, completed = get("started"), get("completed")
        if started is None and self.is_complete:
            return  # a later build announces it, and may never begin it
        name = get("name")
        if name != self.name and name and isinstance(name, str):
            self.name = name[:TEXT_CAP]
        self.cached = get("cached") is True
        error = get("error")
        if error and isinstance(error, str):
            self.error = error[:TEXT_CAP]
        if started is not None and isinstance(started, _TIME):
            spans = self.spans
            if started in spans:
                spans[started] = completed or spans[started]
            elif len(spans) < _INTERVAL_CAP:
                spans[started] = completed or None
        self.is_complete = completed is not None

    def settle(self) -> list[tuple[float, float | None]]:
        """Return when it was at work, in seconds since the epoch."""
        return [
            (at, None if end is None else read_time(end))
            for start, end in self.spans.items()
            if (at := read_time(start)) is not None
        ]


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

    def new_work(self, digest: str, name: str, item: dict[str, Any], line: int) -> Work:
        """Take up a vertex that was not told before: {inputs, progressGroup} matter beside what its work takes."""
        work = self.works[digest] = Work(self, digest[:256], name[:TEXT_CAP], line)
        self._join(work, item.get("progressGroup"), line)
        inputs = item.get("inputs")
        if inputs and isinstance(inputs, list):
            work.inputs = tuple([entry for entry in inputs[:_INPUT_CAP] if isinstance(entry, str)])
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

    def take_status(self, work: Work, item: dict[str, Any]) -> None:
        """Take one progress line of a vertex: {id, current, total, …}."""
        text = item.get("id")
        if not isinstance(text, str):
            return
        if text.startswith(("transferring ", "sha256:")):
            size = item.get("current" if text[0] == "t" else "total")
            if not isinstance(size, int) or size < 0:
                return
            if len(work.transferred) < _INPUT_CAP and (text[0] == "t" or fetches_layers(work.name)):
                work.transferred[text[:TEXT_CAP]] = size
            if text == "transferring context:" and work.name.endswith("load build context"):
                self.set_context(work.digest, size)
        elif text.startswith(_NOTED) and len(self._notes) < VERTEX_CAP:
            self._notes[work.digest, text[:TEXT_CAP]] = None

    def take_warning(self, text: str) -> None:
        """Take a lint warning of the builder."""
        if text and text not in self.warnings and len(self.warnings) < 200:
            self.warnings.append(text[:TEXT_CAP])

    def is_resting(self) -> bool:
        """Tell whether every vertex that began has ended."""
        return all(work.is_complete or not work.spans for work in self.works.values())

    def may_have_failed(self) -> bool:
        """Tell whether the client's report of a failure can be about this build, and not about one in other words."""
        works = self.works.values()
        has_exported = self.finished or any(
            work.is_complete and parse_step_name(work.name).kind is StepKind.EXPORT for work in works
        )
        return not (has_exported and self.is_resting()) or any(work.error for work in works)

    def has_ended_after(self, moment: float) -> bool:
        """Tell whether some vertex is known to have ended after a moment."""
        return any(end is not None and end > moment for work in self.works.values() for _, end in work.settle())

    def found(self) -> FoundBuild:
        """Return the build as far as it is known."""
        self.vertices = {}
        shown: dict[str, Vertex] = {}
        starts: list[float] = []
        ends: list[float] = []
        for key, item in sorted(self._shown.items(), key=_announced):
            if isinstance(item, Work):
                spans = item.settle()
                vertex = _vertex_of(item, spans)
            else:
                spans = [span for work in item.members for span in work.settle()]
                vertex = None if item.is_hidden else _vertex_of_group(item)
            for start, end in spans:
                starts.append(start)
                if end is not None:
                    ends.append(end)
            if vertex is not None:
                self.add(key, vertex)
                for work in (item,) if isinstance(item, Work) else item.members:
                    shown[work.digest] = vertex
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
        self._works: dict[str, Work] = {}
        self._solves: list[StatusSolve] = []
        self._steps = 0
        self._announced = 0
        self._heard: dict[str, int] = {}
        """Vertices of builds that have ended, as later ones announce them again."""
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
        works = self._works
        vertexes = message.get("vertexes")
        if vertexes is not None:
            for item in _dicts(vertexes):
                digest = item.get("digest")
                if isinstance(digest, str):
                    work = works.get(digest)
                    if work is None or (work.is_complete and self._is_of_another(work, item, line)):
                        self._announced += 1
                        work = self._new_work(digest, item, line)
                    if work is not None:
                        work.take(item)
                        work.solve.last_line = line
            if len(message) == 1:
                return
        for item in _dicts(message.get("statuses")):
            work = works.get(str(item.get("vertex")))
            if work is not None:
                work.solve.take_status(work, item)
        for item in _dicts(message.get("logs")):
            self.take_output(str(item.get("vertex")), item.get("data"))
        for item in _dicts(message.get("warnings")):
            work = works.get(str(item.get("vertex")))
            solve = work.solve if work is not None else self.latest
            if solve is not None:
                solve.take_warning(_decoded(item.get("short")).decode(errors="replace"))

    def take_output(self, digest: str, output: object) -> None:
        """Count the lines of a piece of output: bytes, or base64 as text."""
        work = self._works.get(digest)
        if work is not None:
            decoded = _decoded(output)
            work.output_lines += decoded.count(b"\n") + (decoded[-1:] not in b"\n")

    def _new_work(self, digest: str, item: dict[str, Any], line: int) -> Work | None:
        """Take up a vertex in the build that it is of: that of its inputs, else the latest unless it begins another."""
        name, inputs = item.get("name"), item.get("inputs")
        if not isinstance(name, str):
            return None
        solve = None
        if inputs and isinstance(inputs, list) and len(self._solves) > 1:
            known = (self._works.get(entry) for entry in inputs if isinstance(entry, str))
            solve = next((work.solve for work in known if work is not None), None)
            # What a build before has built, one that has begun since takes from the cache.
            solve = None if solve is not None and solve.is_resting() else solve
        latest = self.latest
        if solve is None and latest is not None and not self._begins(item, latest, line):
            solve = latest
        if solve is None:
            if self._steps > STEP_CAP:
                self.dropped += 1
                return None
            solve = StatusSolve(self._format, line)
            self._solves.append(solve)
        if len(solve.works) >= VERTEX_CAP:
            return None
        self._steps += 1
        work = self._works[digest] = solve.new_work(digest, name, item, line)
        work.order = self._heard.pop(digest, self._announced)
        return work

    def _is_of_another(self, work: Work, item: dict[str, Any], line: int) -> bool:
        """Tell whether a vertex that had ended runs in a later build: most builds of one image share vertices."""
        started, solve = item.get("started"), work.solve
        if started is None and not self._is_one:
            self._announced += 1
            self._heard[work.digest] = self._announced
        if self._is_one or not isinstance(started, _TIME) or started in work.spans or not solve.is_resting():
            return False
        if solve is self.latest:
            return self._begins(item, solve, line)
        moment = read_time(started)
        return moment is not None and not solve.has_ended_after(moment)

    def _begins(self, item: dict[str, Any], latest: StatusSolve, line: int) -> bool:
        name = item.get("name")
        if latest.is_over or self._is_one:
            return not self._is_one
        if not isinstance(name, str) or not name.startswith(_FIRST_NAMES):
            return False
        if not latest.has_instructions and not (latest.is_resting() and any(w.error for w in latest.works.values())):
            return False
        # A history tells a build afterwards, in any order; what is told live began after all that has ended.
        started = read_time(item.get("started"))
        return latest.last_line != line and (started is None or not latest.has_ended_after(started))

    def found(self) -> list[FoundBuild]:
        """Return the builds as far as they are known."""
        return [solve.found() for solve in self._solves if solve.works]


def _announced(item: "tuple[str, Work | _Group]") -> int:
    """Return where a step was announced: one that a build before had is taken up only when it begins."""
    shown = item[1]
    return shown.order if isinstance(shown, Work) else shown.members[0].order


def read_time(value: object) -> float | None:
    """Return a time of the stream as seconds since the epoch: RFC 3339 text, or seconds already."""
    if isinstance(value, float):
        return value
    if not isinstance(value, str) or len(value) > 64:
        return None
    if value[-1:] == "Z" and len(value) > 19:
        minute, seconds = value[:16], value[17:-1]
        base = _minutes.get(minute)
        if base is None:
            base = _read_minute(minute)
        if base is not None and seconds.replace(".", "", 1).isdecimal() and seconds.isascii():
            return base + float(seconds) if base > 0 else None
    at = parse_stamp(value)
    return at if at is not None and at > 0 else None


def _read_minute(minute: str) -> float | None:
    """Read a minute and remember it: hardly any other follows soon."""
    if len(_minutes) > 1000:  # a stream of random times must not fill the memory
        _minutes.clear()
    base = parse_stamp(minute + ":00Z")
    if base is not None:
        _minutes[minute] = base
    return base


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
    # Streams hold nothing else, and most of their lists one item.
    if len(value) == 1 and type(value[0]) is dict:
        return value
    return [item for item in value if isinstance(item, dict)]


def _vertex_of(work: Work, spans: list[tuple[float, float | None]]) -> Vertex | None:
    """Return one vertex; None when it never began."""
    if not work.spans and not work.cached:
        return None
    if work.error:
        status = StepStatus.CANCELED if is_cancellation(work.error) else StepStatus.FAILED
    elif work.spans and not work.is_complete:
        status = _RUNNING
    else:
        status = _CACHED if work.cached else _DONE
    return Vertex(
        work.name,
        work.line,
        None,
        status,
        None if status is _RUNNING else _seconds(spans),
        work.error,
        work.output_lines,
        work.digest,
        min([start for start, _ in spans]) if spans else None,
        work.inputs,
        work.transferred,
    )


def _vertex_of_group(group: _Group) -> Vertex | None:
    """Return the vertices of a group as one; None when nothing of it ever began."""
    works = group.members
    begun = [work for work in works if work.spans or work.cached]
    if not begun:
        return None
    spans = [span for work in begun for span in work.settle()]
    errors = [work.error for work in begun if work.error]
    if errors:
        status = StepStatus.CANCELED if is_cancellation(errors[0]) else StepStatus.FAILED
    elif not all(work.is_complete for work in works if work.spans):
        status = _RUNNING
    else:
        status = _CACHED if all(work.cached for work in begun) else _DONE
    return Vertex(
        group.name,
        group.line,
        None,
        status,
        None if status is _RUNNING else _seconds(spans),
        errors[0] if errors else None,
        sum(work.output_lines for work in works),
        begun[-1].digest,
        min((start for start, _ in spans), default=None),
        tuple(dict.fromkeys(entry for work in works for entry in work.inputs)),
        {what: size for work in works for what, size in work.transferred.items()},
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
