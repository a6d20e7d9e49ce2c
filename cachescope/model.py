"""The words of the project as types: what a log says about its builds, their steps and images.

Field names, their order and their values are those of the JSON contract (docs/analyze-json.md): they are the same in
code, API and database. Times of day are seconds since the epoch (UTC), durations are seconds.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class StepKind(StrEnum):
    """What a step is for: only `instruction` steps are numbered lines of a Dockerfile."""

    INSTRUCTION = "instruction"
    INTERNAL = "internal"
    EXPORT = "export"
    CACHE_IMPORT = "cache-import"
    CACHE_EXPORT = "cache-export"
    FRONTEND = "frontend"
    OTHER = "other"


class StepStatus(StrEnum):
    """How a step ended, as far as the log says."""

    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    RUNNING = "running"
    UNKNOWN = "unknown"


class Outcome(StrEnum):
    """How a build ended; `incomplete` when the log simply stops."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of work that the builder logged (BuildKit's vertex)."""

    kind: StepKind
    text: str
    """The instruction as the builder prints it, for other kinds the builder's own words."""
    status: StepStatus
    cached: bool | None
    """For an instruction: True when the log says so, else False; None only where the log was cut before it could."""
    cacheable: bool
    """Counted in the hit rate."""
    number: int | None = None
    """As printed: 7 of `#7`, `Step 7/9`, `STEP 7`."""
    target: str | None = None
    stage: str | None = None
    platform: str | None = None
    index: int | None = None
    total: int | None = None
    instruction: str | None = None
    """The keyword in capitals; None for everything that is no Dockerfile instruction."""
    started_seconds: float | None = None
    """From the start of the build."""
    duration_seconds: float | None = None
    """None when this log cannot tell; never invented."""
    digest: str | None = None
    """BuildKit's vertex digest."""
    error: str | None = None
    output_lines: int = 0
    line: int | None = None
    """The line of the log (from 1) that first announces the step."""
    inputs: tuple[str, ...] = ()
    """Digests of the vertices this one stands on; only structured logs tell."""
    transferred_bytes: int | None = None
    """What the step says it sent or fetched: a context, a Dockerfile, the layers of a base image."""


class StepDraft:
    """A step while its fields are being filled in; `frozen()` makes it the `Step` itself.

    Parsers make thousands: a frozen dataclass sets each field through `object.__setattr__`, which takes six times as
    long. The fields are exactly those of `Step`, or Python refuses the change of class.
    """

    __slots__ = Step.__slots__

    def __init__(
        self,
        kind: StepKind,
        text: str,
        status: StepStatus,
        *,
        cached: bool | None,
        cacheable: bool,
        number: int | None = None,
        target: str | None = None,
        stage: str | None = None,
        platform: str | None = None,
        index: int | None = None,
        total: int | None = None,
        instruction: str | None = None,
        started_seconds: float | None = None,
        duration_seconds: float | None = None,
        digest: str | None = None,
        error: str | None = None,
        output_lines: int = 0,
        line: int | None = None,
        inputs: tuple[str, ...] = (),
        transferred_bytes: int | None = None,
    ) -> None:
        self.kind = kind
        self.text = text
        self.status = status
        self.cached = cached
        self.cacheable = cacheable
        self.number = number
        self.target = target
        self.stage = stage
        self.platform = platform
        self.index = index
        self.total = total
        self.instruction = instruction
        self.started_seconds = started_seconds
        self.duration_seconds = duration_seconds
        self.digest = digest
        self.error = error
        self.output_lines = output_lines
        self.line = line
        self.inputs = inputs
        self.transferred_bytes = transferred_bytes

    def frozen(self) -> Step:
        """Return this very object as a `Step`; nothing can be set any more."""
        self.__class__ = Step  # type: ignore[assignment]  # the same slots under another name
        return self  # type: ignore[return-value]  # since the line above


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """One image that a build named or exported."""

    digest: str | None = None
    id: str | None = None
    tags: tuple[str, ...] = ()
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTransfer:
    """One import or export of cache from or to outside the builder."""

    ref: str | None
    """What the builder prints: an image reference, `gha:<scope>`, a folder; None where it prints none."""
    succeeded: bool | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseImage:
    """An image that a FROM names, with the digest it had at that moment where the log tells."""

    reference: str
    digest: str | None = None
    platform: str | None = None
    id: str | None = None
    """The image's id on that builder; the classic builder prints it below FROM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One solve, as one log tells it."""

    builder: str | None
    """buildkit, docker (the classic builder), buildah, kaniko; None where the log does not tell."""
    format: str
    outcome: Outcome
    error: str | None = None
    started_at: float | None = None
    duration_seconds: float | None = None
    context_bytes: int | None = None
    images: tuple[BuiltImage, ...] = ()
    cache_imports: tuple[CacheTransfer, ...] = ()
    cache_exports: tuple[CacheTransfer, ...] = ()
    base_images: tuple[BaseImage, ...] = ()
    steps: tuple[Step, ...] = ()
    """In the order in which the builder first announced them."""
    warnings: tuple[str, ...] = ()
    """What the builder itself warned of (lint checks, deprecations)."""
    line: int | None = None
    """The line of the log (from 1) where the build begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReading:
    """What one log says: the wrapper around it, its builds, and what was cut, clipped or not understood."""

    wrapper: str | None
    lines: int
    warnings: tuple[str, ...] = ()
    builds: tuple[Build, ...] = field(default=())
