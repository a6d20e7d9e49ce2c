"""What a kind of regression is, and the sequential test that most of them use."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from cachescope.expectations import JudgedBuild, Memory, trim

FORGET_AFTER = 500
"""A stream's learned counts never weigh more than this many observations."""


@dataclass(slots=True)
class Stream:
    """A Bernoulli CUSUM: how surely a yes-or-no event has become more frequent than it used to be.

    While the score is above 0 the observations belong to an excursion; they are learned as normal only when the score
    falls back to 0, so a regression never teaches the test that it is normal.
    """

    prior_bad: float
    prior_good: float
    bad: float = 0.0
    seen: float = 0.0
    score: float = 0.0
    events: int = 0
    """Events of the excursion."""
    observations: int = 0
    """Observations of the excursion."""
    events_on_main: int = 0
    observations_on_main: int = 0
    since: dict[str, Any] | None = None
    """The build of the excursion's first event: the change point."""
    main_run: dict[str, Any] | None = None
    """The first default-branch build of the unbroken run of bad ones (one good one is forgiven)."""
    main_goods: int = 0
    bad_main_run: int = 0
    """Bad default-branch builds in a row."""
    last_event_at: float = 0.0
    lost_seconds: float = 0.0
    """Exponentially weighted seconds lost per event."""
    recovery: float = 0.0

    def base_rate(self) -> float:
        """Return the rate of events that counts as normal, with a margin for what has not been seen."""
        count = self.prior_bad + self.prior_good + self.seen
        mean = (self.prior_bad + self.bad) / count
        return min(0.95, mean + 0.7 * math.sqrt(mean * (1 - mean) / count))

    def observe(self, judged: JudgedBuild, *, event: bool, floor: float, step: float, seconds: float = 0.0) -> None:
        """Take in one observation; the tested rate is at least `floor` and `step` above the normal one."""
        build = judged.build
        normal = self.base_rate()
        worse = min(0.99, max(floor, normal + step))
        gain = math.log(worse / normal) if event else math.log((1 - worse) / (1 - normal))
        self.score = max(0.0, self.score + gain)
        self.observations += 1
        self.observations_on_main += build.is_default_branch
        if event:
            self.events += 1
            self.events_on_main += build.is_default_branch
            self.last_event_at = build.at
            self.lost_seconds = (
                seconds if not self.lost_seconds else self.lost_seconds + 0.4 * (seconds - self.lost_seconds)
            )
            if self.since is None:
                self.since = mark(judged)
        if build.is_default_branch:
            if event:
                self.main_run = self.main_run or mark(judged)
                self.main_goods = 0
                self.bad_main_run += 1
            else:
                self.bad_main_run = 0
                self.main_goods += 1
                if self.main_goods > 1:
                    self.main_run = None
        if self.score == 0.0:
            self._settle()

    def recover(self, judged: JudgedBuild, incident: "Incident", *, event: bool) -> None:
        """Take in one observation while an incident is open.

        When the default branch was hit, it alone can tell: other branches may carry what broke it for weeks.
        """
        if self.events_on_main and not judged.build.is_default_branch:
            return
        normal = min(0.9, self.base_rate() + 0.03)
        broken = min(0.97, max(normal + 0.1, self.events / max(1, self.observations)))
        gain = math.log(normal / broken) if event else math.log((1 - normal) / (1 - broken))
        self.recovery = max(0.0, self.recovery + gain)
        if event:
            self.last_event_at = incident.last_event_at = judged.build.at

    def rate(self) -> float:
        """Return the rate of events within the excursion."""
        return self.events / max(1, self.observations)

    def reset(self) -> None:
        """Forget the excursion without learning from it."""
        self.score = 0.0
        self.events = self.observations = self.events_on_main = self.observations_on_main = 0
        self.main_goods = self.bad_main_run = 0
        self.since = self.main_run = None
        self.recovery = 0.0

    def _settle(self) -> None:
        self.bad += self.events
        self.seen += self.observations
        if self.seen > FORGET_AFTER:
            self.bad *= FORGET_AFTER / self.seen
            self.seen = FORGET_AFTER
        self.events = self.observations = self.events_on_main = self.observations_on_main = 0
        self.since = None

    def document(self) -> dict[str, Any]:
        """Return the stream as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Finding:
    """A regression that a kind has just become sure of."""

    key: str
    """What it is about within the repository; one incident is open per key."""
    cause: str
    commit: str | None
    instruction: str | None
    since: dict[str, Any]
    """The build at the change point."""
    victims: list[str]
    seconds_per_build: float
    evidence: str
    metric: str = "cache"
    group: str = "cache"
    """Findings of one group widen the group's open incident instead of opening another."""


@dataclass(slots=True)
class Incident:
    """A regression from open to resolved."""

    id: str
    kind: str
    key: str
    metric: str
    group: str
    cause: str
    commit: str | None
    instruction: str | None
    since: dict[str, Any]
    opened_at: float
    last_event_at: float
    victims: list[str]
    seconds_per_build: float
    evidence: str
    is_open: bool = True
    resolved_at: float | None = None
    fixed_by: str | None = None
    reopened: int = 0
    widened: list[str] = field(default_factory=list)
    good_main_builds: int = 0

    def document(self) -> dict[str, Any]:
        """Return the incident as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Series:
    """All that is remembered of one repository's image: one JSON document, whatever the length of its history."""

    memory: Memory = field(default_factory=Memory)
    streams: dict[str, Stream] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """A table for each kind that needs one: levels, relations, tags."""
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Dockerfile version → its first build and its order, newest last."""
    main_version: str | None = None
    incidents: dict[str, Incident] = field(default_factory=dict)
    recent: list[str] = field(default_factory=list)
    """Ids of the last builds, so that one that arrives twice counts once."""
    next_incident: int = 1
    builds: int = 0

    def stream(self, name: str, prior_bad: float, prior_good: float) -> Stream:
        """Return the stream of this name, made with these prior counts when it is new."""
        found = self.streams.pop(name, None) or Stream(prior_bad, prior_good)
        self.streams[name] = found
        trim(self.streams, 1_200)
        return found

    def open_incident(self, kind: str, key: str) -> Incident | None:
        """Return the open incident of this kind about this key."""
        for incident in self.incidents.values():
            if incident.is_open and incident.kind == kind and key in (incident.key, *incident.widened):
                return incident
        return None

    def was_resolved(self, kind: str, key: str) -> bool:
        """Say whether an incident about this key was resolved before."""
        return any(not x.is_open and x.kind == kind and x.key == key for x in self.incidents.values())

    def open_of(self, kind: str) -> Incident | None:
        """Return any open incident of this kind."""
        return next((x for x in self.incidents.values() if x.is_open and x.kind == kind), None)


class RegressionKind(Protocol):
    """One kind of regression: what it watches and when it speaks."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield what has become sure; called before the memory learns from the build."""

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether this build ends the incident."""


def mark(judged: JudgedBuild) -> dict[str, Any]:
    """Return what later messages need of a build."""
    build = judged.build
    return {
        "build": build.id,
        "commit": build.commit,
        "at": build.at,
        "branch": build.branch,
        "dockerfile": build.dockerfile,
    }


DAY = 86_400.0


def worth_telling(series: Series, judged: JudgedBuild, seconds_per_build: float) -> bool:
    """Say whether a loss is large enough to speak of: 2 s a build and 2 % of what the build costs without cache."""
    return seconds_per_build >= max(2.0, 0.02 * series.memory.cold_seconds(judged.plan))


def quiet_for_a_day(incident: Incident, judged: JudgedBuild) -> bool:
    """Say whether the last event lies a day back, seven days for an incident that came back."""
    hold = DAY * (7 if incident.reopened else 1)
    return judged.build.at - incident.last_event_at >= hold
