"""What all BuildKit formats share: vertices as they become known, and the build that they make in the end."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cachescope.instructions import StepName, is_cacheable, parse_step_name, target_of
from cachescope.model import (
    BaseImage,
    Build,
    BuiltImage,
    CacheTransfer,
    Outcome,
    Step,
    StepDraft,
    StepKind,
    StepStatus,
)

TEXT_CAP = 16 * 1024
"""Names and errors are kept up to here."""
VERTEX_CAP = 10_000
"""Vertices kept of one build."""
STEP_CAP = 10_000
"""Steps kept of one log: what a reading of a gigabyte may take in memory."""
_NOTE_CAP = 200

# Looked up once: for what is done to each step, the way through the enumeration's class is slow.
_RUNNING, _DONE, _CACHED = StepStatus.RUNNING, StepStatus.DONE, StepStatus.CACHED
_FAILED, _UNKNOWN = StepStatus.FAILED, StepStatus.UNKNOWN
_EXPORT, _CACHE_IMPORT, _CACHE_EXPORT = StepKind.EXPORT, StepKind.CACHE_IMPORT, StepKind.CACHE_EXPORT

_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s?([kKMGT]?i?)B")
_UNITS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY_UNITS = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_EXPORTED = re.compile(
    r"(exporting manifest list|exporting manifest|writing image|exporting config|naming to|pushing manifest for"
    r"|unpacking to) (\S{1,2048})"
)
_DURATION = re.compile(r"(?:(\d{1,5})h)?(?:(\d{1,5})m(?!s))?(?:(\d{1,9}(?:\.\d{1,12})?)(ns|[uµμ]s|ms|s))?(?<=[smh])")
_SECONDS_PER = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LAYER = re.compile(rb" sha256:([0-9a-f]{64}) [0-9.]{1,12}[kMGT]?B / ([0-9.]{1,12}[kMGT]?B)")
_RESTORED = re.compile(
    rb"^[^#\n]{0,200}#[0-9]{1,9} sha256:([0-9a-f]{64}) [0-9.]{1,12}[kMGT]?B / ([0-9.]{1,12}[kMGT]?B)", re.MULTILINE
)
"""A progress line, which has no clock in front; output of a RUN that looks like one has."""
_CANCELED = re.compile(
    r"context canceled|\bCanceled: |code = Canceled|operation was canceled|received signal|: canceled$"
)

_FATAL = (
    "failed to solve",
    "failed to build",
    "failed to receive status",
    "failed to load",
    "failed to export",
    "failed to read dockerfile",
    "failed to compute cache key",
    "failed to create LLB",
    "executor failed running",
    "context canceled",
    "did not complete successfully",
    "buildx failed with",
)


@dataclass(slots=True)
class Vertex:
    """One line of work, as far as the log has told."""

    name: str
    line: int
    number: int | None = None
    status: StepStatus = StepStatus.RUNNING
    duration: float | None = None
    error: str | None = None
    output_lines: int = 0
    digest: str | None = None
    started: float | None = None
    """When it began, in seconds of the clock that `Solve.started` uses."""
    inputs: tuple[str, ...] = ()
    transferred: dict[str, int] = field(default_factory=dict)
    """Bytes sent or fetched, per layer or kind of transfer."""

    @property
    def is_open(self) -> bool:
        """Tell whether its end is still to come."""
        return self.status is _RUNNING


@dataclass(slots=True)
class Image:
    """One image while its export is being told."""

    target: str | None
    list_digest: str | None = None
    digest: str | None = None
    id: str | None = None
    tags: list[str] = field(default_factory=list)


class Solve:
    """One build while it is being read."""

    __slots__ = (
        "_contexts",
        "_images",
        "_targets",
        "canceled",
        "duration",
        "error",
        "finished",
        "format",
        "gave_up",
        "last_line",
        "line",
        "service",
        "started",
        "vertices",
        "warnings",
    )

    def __init__(self, log_format: str, line: int) -> None:
        self.format = log_format
        self.line = line
        self.last_line = line
        self.vertices: dict[object, Vertex] = {}
        self.started: float | None = None
        self.duration: float | None = None
        self.error: str | None = None
        self.canceled = False
        self.finished = False
        """The builder's client said that all is well: no output asked for, a check passed, a plan printed."""
        self.gave_up = False
        """Nothing follows where the steps should begin: a Dockerfile that does not parse."""
        self.service: str | None = None
        self.warnings: list[str] = []
        self._targets: set[str] = set()
        self._images: dict[str | None, Image] = {}
        self._contexts: dict[str, int] = {}

    def add(self, key: object, vertex: Vertex) -> Vertex:
        """Take up a vertex; its name may prove a bake target."""
        return self.put(key, vertex, proven_target(vertex.name))

    def put(self, key: object, vertex: Vertex, target: str | None) -> Vertex:
        """Take up a vertex whose name proves a bake target, or none."""
        if target is not None:
            self._targets.add(target)
        if len(self.vertices) < VERTEX_CAP:
            self.vertices[key] = vertex
        return vertex

    def fail(self, error: str) -> None:
        """Take the error that the client prints at the end."""
        if self.error is None or _CANCELED.search(self.error):
            self.error = error[:TEXT_CAP]
        if _CANCELED.search(error):
            self.canceled = True

    def note(self, vertex: Vertex, text: str) -> None:
        """Read a status line of an internal vertex: sizes of contexts, digests and names of images, warnings."""
        if text.startswith("WARN: "):
            if len(self.warnings) < _NOTE_CAP and text[6:] not in self.warnings:
                self.warnings.append(text[6 : TEXT_CAP + 6])
            return
        if text.startswith("transferring "):
            what, _, rest = text[13:].partition(": ")
            size = parse_size(rest)
            self.add_transfer(vertex, what, size)
            if what == "context" and size is not None and vertex.name.endswith("load build context"):
                self._contexts[vertex.name] = size
        elif text.startswith("resolve "):
            if " FROM " in vertex.name and "@" not in vertex.name:
                reference, _, digest = text[8:].partition(" ")[0].partition("@")
                if _DIGEST.fullmatch(digest) and vertex.name.endswith(" FROM " + reference):
                    vertex.name += "@" + digest
        elif (exported := _EXPORTED.match(text)) is not None:
            self._note_image(vertex, exported[1], exported[2])

    def note_layers(self, vertex: Vertex, output: bytes) -> None:
        """Read `sha256:… 77.59MB / 85.87MB 0.2s`: an image that is fetched, or what a remote cache had of a step."""
        if not fetches_layers(vertex.name):
            return
        for digest, size in (_LAYER if " FROM " in vertex.name else _RESTORED).findall(output):
            self.add_transfer(vertex, digest.decode(), parse_size(size.decode()))

    def add_transfer(self, vertex: Vertex, what: str, size: int | None) -> None:
        """Take the size of one layer, context or file that a vertex sent or fetched."""
        if size is not None and (what in vertex.transferred or len(vertex.transferred) < _NOTE_CAP):
            vertex.transferred[what] = size

    def set_context(self, name: str, size: int) -> None:
        """Take the exact size of one build context."""
        self._contexts[name] = size

    def _note_image(self, vertex: Vertex, action: str, subject: str) -> None:
        name = parse_step_name(vertex.name, self._targets)
        if name.kind is not StepKind.EXPORT:
            return
        image = self._images.setdefault(name.target, Image(name.target))
        digest = _DIGEST.search(subject)
        reference = subject.partition("@")[0]
        if action == "writing image":
            image.id = digest[0] if digest else image.id
        elif action == "exporting manifest list":
            image.list_digest = digest[0] if digest else image.list_digest
        elif action == "exporting manifest":
            image.digest = digest[0] if digest else image.digest
        elif action in ("naming to", "pushing manifest for") and len(image.tags) < _NOTE_CAP:
            if reference not in image.tags:
                image.tags.append(reference)
            if digest and image.list_digest is None:
                image.list_digest = digest[0]

    def is_resting(self) -> bool:
        """Tell whether no vertex is at work."""
        return all(vertex.status is not _RUNNING for vertex in self.vertices.values())

    def has_exported(self) -> bool:
        """Tell whether an image or other output was written to the end."""
        return any(
            vertex.status is _DONE and parse_step_name(vertex.name, self._targets).kind is _EXPORT
            for vertex in self.vertices.values()
        )

    def ends_silently(self) -> bool:
        """Tell whether a build without an output just ends: nothing more is printed behind its last step."""
        return True

    def build(self) -> Build:
        """Return the build as far as it is known."""
        named = self._named()
        outcome = self._outcome(named)
        downloads = _downloads(named)
        steps = tuple(
            [self._step(v, downloads.get(place, name), outcome=outcome) for place, (v, name) in enumerate(named)]
        )
        transfers = [step for step in steps if step.kind is _CACHE_IMPORT or step.kind is _CACHE_EXPORT]
        error = self.error
        if error is None:
            error = next((step.error for step in steps if _is_fatal(step)), None)
        return Build(
            builder="buildkit",
            format=self.format,
            outcome=outcome,
            error=error,
            started_at=self.started,
            duration_seconds=self.duration,
            context_bytes=sum(self._contexts.values()) if self._contexts else None,
            images=tuple(self._built_images()) if self._images else (),
            cache_imports=tuple(_transfers(transfers, _CACHE_IMPORT)),
            cache_exports=tuple(_transfers(transfers, _CACHE_EXPORT)),
            base_images=_base_images(steps),
            steps=steps,
            warnings=tuple(self.warnings),
            line=self.line,
        )

    def _named(self) -> list[tuple[Vertex, StepName]]:
        """Take all names apart; buildx puts the target before every step as soon as there are two."""
        targets = frozenset(self._targets)
        named = [(vertex, parse_step_name(vertex.name, targets)) for vertex in self.vertices.values()]
        if any(name.target is not None and name.stage is not None and name.index is not None for _, name in named):
            alone = {name.stage for _, name in named if name.target is None and name.stage is not None}
            if alone:
                self._targets |= alone
                return self._named()
        return named

    def _step(self, vertex: Vertex, name: StepName, *, outcome: Outcome) -> Step:
        status = vertex.status
        if status is _RUNNING and outcome in (Outcome.FAILED, Outcome.CANCELED):
            status = StepStatus.CANCELED
        elif status is _RUNNING and outcome is Outcome.SUCCEEDED:
            status = _UNKNOWN  # it ended in lines that are missing
        started = None
        if vertex.started is not None and self.started is not None:
            started = round(max(0.0, vertex.started - self.started), 3)
        return StepDraft(
            name.kind,
            name.text,
            status,
            cached=None if status is _UNKNOWN else status is _CACHED,
            cacheable=name.instruction is not None and is_cacheable("buildkit", name.instruction),
            number=vertex.number,
            target=name.target if name.target is not None else self.service,
            stage=name.stage,
            platform=name.platform,
            index=name.index,
            total=name.total,
            instruction=name.instruction,
            started_seconds=started,
            duration_seconds=vertex.duration,
            digest=vertex.digest,
            error=vertex.error,
            output_lines=vertex.output_lines,
            line=vertex.line,
            inputs=vertex.inputs,
            transferred_bytes=sum(vertex.transferred.values()) if vertex.transferred else None,
        ).frozen()

    def _outcome(self, named: Sequence[tuple[Vertex, StepName]]) -> Outcome:
        broken = fatal = canceled = is_open = exporting = False
        exported: set[str | None] = set()
        for vertex, name in named:
            status, kind = vertex.status, name.kind
            if status is _RUNNING:
                is_open = True
            elif (
                status is not _DONE
                and status is not _CACHED
                and kind is not _CACHE_IMPORT
                and kind is not _CACHE_EXPORT
            ):
                fatal |= status is StepStatus.FAILED
                canceled |= status is StepStatus.CANCELED
                broken |= status is StepStatus.FAILED and name.instruction is not None
            if kind is _EXPORT:
                exporting = True
                if status is _DONE:
                    exported.add(name.target)
        stages = _Stages(name for _, name in named)
        if self.error is not None:
            return Outcome.CANCELED if self.canceled and not _has_own_failure(named) else Outcome.FAILED
        if broken or (fatal and not exported) or (self.gave_up and not stages.totals and not exported and not is_open):
            return Outcome.FAILED
        if canceled and not exported:
            return Outcome.CANCELED
        if is_open or not named:
            return Outcome.INCOMPLETE if not self.finished else Outcome.SUCCEEDED
        if self.finished or (exported and not stages.have_begun_beside(exported)):
            return Outcome.SUCCEEDED
        # Without an output the builder prints nothing at the end: every stage told to its last step is all there is.
        told = stages.are_told() and not exporting and self.ends_silently()
        return Outcome.SUCCEEDED if told else Outcome.INCOMPLETE

    def _built_images(self) -> Iterable[BuiltImage]:
        for image in self._images.values():
            digest = image.list_digest or image.digest
            if digest or image.id or image.tags:
                target = image.target if image.target is not None else self.service
                yield BuiltImage(digest=digest, id=image.id, tags=tuple(image.tags), target=target)


class _Stages:
    """How far each stage of each target and platform has come."""

    def __init__(self, names: Iterable[StepName]) -> None:
        self.totals: dict[tuple[str | None, str | None, str | None], int] = {}
        self._reached: dict[tuple[str | None, str | None, str | None], int] = {}
        for name in names:
            if name.total is not None and name.index is not None:
                place = (name.target, name.stage, name.platform)
                self.totals[place] = name.total
                self._reached[place] = max(self._reached.get(place, 0), name.index)

    def are_told(self) -> bool:
        """Tell whether every stage is told to its last step."""
        return bool(self.totals) and all(self._reached[place] == total for place, total in self.totals.items())

    def have_begun_beside(self, exported: set[str | None]) -> bool:
        """Tell whether another target than those that were exported is under way, and has not come to an end."""
        if None in exported:
            return False
        ended = {place[0] for place, total in self.totals.items() if self._reached[place] == total}
        return any(target not in exported and target not in ended for target, _, _ in self.totals)


def fetches_layers(name: str) -> bool:
    """Tell whether a vertex may fetch layers: an image, or a step whose result a remote cache holds."""
    return name[:1] == "[" and name[1:10] != "internal]"


def _downloads(named: Sequence[tuple[Vertex, StepName]]) -> dict[int, StepName]:
    """Find the vertices that only fetch what `ADD https://…` or `ADD git@…` names, with the names of internal steps.

    BuildKit's `dockerfile2llb` gives one to each address, under the name of the ADD itself, which stands on them. They
    ask the address in every build and are never cached; the ADD is.
    """
    found: dict[StepName, list[int]] = {}
    for place, (_, name) in enumerate(named):
        if name.instruction == "ADD" and ("://" in name.text or "git@" in name.text):
            found.setdefault(name, []).append(place)
    downloads = {}
    for name, places in found.items():
        tells = any(named[place][0].inputs for place in places)
        # Where the log names no inputs: what is fetched begins before the ADD.
        first = [p for p in places if not named[p][0].inputs] if tells else places[:-1]
        internal = StepName(StepKind.INTERNAL, name.text, target=name.target, platform=name.platform)
        downloads.update(dict.fromkeys(first, internal))
    return downloads


def proven_target(name: str) -> str | None:
    """Return the bake target that a step's name proves."""
    return None if name.startswith("[internal] ") else target_of(name)


def parse_size(text: str) -> int | None:
    """Read the size at the beginning of a text, as BuildKit prints it: `2B`, `1.17kB`, `28.05MB / 85MB`."""
    match = _SIZE.match(text.strip())
    if match is None:
        return None
    unit = _BINARY_UNITS.get(match[2]) or _UNITS.get(match[2], 1)
    return round(float(match[1]) * unit)


def parse_seconds(text: str) -> float | None:
    """Read a number of seconds of at most ten digits."""
    return float(text) if re.fullmatch(r"\d{1,10}(?:\.\d{0,9})?", text) else None


def parse_duration(text: str) -> float | None:
    """Read a duration as Go prints it: `70.886µs`, `500ms`, `1m2.5s`, `1h0m3s`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    hours, minutes, number, unit = match.groups()
    seconds = float(number) * _SECONDS_PER[unit] if number else 0.0
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds


def is_cancellation(error: str) -> bool:
    """Tell whether an error says that somebody interrupted the build."""
    return _CANCELED.search(error) is not None


def is_last_word(text: str) -> bool:
    """Tell whether a line outside of the steps is the client's report that the build failed."""
    return any(words in text for words in _FATAL)


def without_label(text: str) -> str:
    """Return an error without the client's label in front."""
    for label in ("##[error]buildx failed with: ", "Error: buildx failed with: ", "ERROR: ", "error: ", "Error: "):
        text = text.removeprefix(label)
    return text[:TEXT_CAP]


def decode(text: bytes) -> str:
    """Return text of a log as a string without terminal escapes, up to the cap."""
    if b"\x1b" in text:
        text = strip_escapes(text)
    return text[:TEXT_CAP].decode(errors="replace")


def _is_fatal(step: Step) -> bool:
    return step.status is _FAILED and step.kind is not _CACHE_IMPORT and step.kind is not _CACHE_EXPORT


def _has_own_failure(named: Iterable[tuple[Vertex, StepName]]) -> bool:
    return any(
        vertex.status is StepStatus.FAILED
        and name.kind not in (StepKind.CACHE_IMPORT, StepKind.CACHE_EXPORT)
        and not _CANCELED.search(vertex.error or "")
        for vertex, name in named
    )


def _transfers(steps: Iterable[Step], kind: StepKind) -> Iterable[CacheTransfer]:
    for step in steps:
        if step.kind is kind:
            text = step.text.partition(" from " if kind is _CACHE_IMPORT else " to ")[2]
            ended = step.status in (StepStatus.DONE, StepStatus.CACHED, StepStatus.FAILED)
            yield CacheTransfer(
                ref=text.strip() or None,
                succeeded=step.status is not _FAILED if ended else None,
                seconds=step.duration_seconds,
            )


def _base_images(steps: Iterable[Step]) -> tuple[BaseImage, ...]:
    images: dict[BaseImage, None] = {}
    for step in steps:
        if step.instruction == "FROM":
            words = [word for word in step.text.split()[1:] if not word.startswith("--")]
            if words and words[0] != "scratch":
                reference, _, digest = words[0].partition("@")
                platform = step.platform.partition("->")[0] if step.platform else None
                known = digest if _DIGEST.fullmatch(digest) else None  # a narrow screen cuts it
                images.setdefault(BaseImage(reference=reference, digest=known, platform=platform))
    return tuple(images)


_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    rb"|\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?|_[^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)?|[@-Z\\-_=>78])"
)


def strip_escapes(text: bytes) -> bytes:
    """Take terminal escapes (colours, titles, links) out of a line."""
    return _ESCAPES.sub(b"", text)
