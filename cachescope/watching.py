"""Watch one image for regressions although its builds arrive late, out of order or twice.

A `Watch` holds two detectors. The settled one has seen every build up to about an hour before the newest, and is never
changed by what comes late. The one at the head has also seen the builds since then, in order of their completion: a
build that is the newest is simply added, one that belongs between others makes the head from the settled detector
again. Alerts are therefore as early as without any waiting, and whatever the order of arrival within that hour, the
head ends with the same incidents.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from cachescope.detecting import Detector
from cachescope.expectations import ObservedBuild, ObservedStep
from cachescope.regressions.base import Incident

LATE_SECONDS = 3_600.0
"""How late a build may come and still be put in its place."""
SETTLED_AT_ONCE = 16
"""So many builds older than that are moved to the settled detector together."""
MOST_IN_TAIL = 400
"""A busier hour than this is settled sooner."""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody decided about an incident: it is closed, accepted as normal, or no longer accepted."""

    action: str
    """close, accept or refuse."""
    kind: str
    key: str
    at: float


@dataclass(slots=True)
class _Side:
    """A detector with the decisions that it has taken in."""

    detector: Detector = field(default_factory=Detector)
    accepted: list[tuple[str, str]] = field(default_factory=list)

    def observe(self, build: ObservedBuild) -> None:
        self.detector.observe(build)
        for incident in self.detector.series.incidents.values():
            if incident.is_open and (incident.kind, incident.key) in self.accepted:
                _close(self.detector, incident, build.at)

    def follow(self, order: Order) -> None:
        name = (order.kind, order.key)
        if order.action == "refuse":
            self.accepted = [known for known in self.accepted if known != name]
            return
        if order.action == "accept" and name not in self.accepted:
            self.accepted.append(name)
        for incident in self.detector.series.incidents.values():
            if incident.is_open and (incident.kind, incident.key) == name:
                _close(self.detector, incident, order.at)

    def document(self) -> dict[str, Any]:
        return {"detector": self.detector.document(), "accepted": [list(name) for name in self.accepted]}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "_Side":
        accepted = [(kind, key) for kind, key in document["accepted"]]
        return cls(Detector.from_document(document["detector"]), accepted)


@dataclass(slots=True)
class Watch:
    """The regressions of one image; saved as one document."""

    settled: _Side = field(default_factory=_Side)
    head: _Side = field(default_factory=_Side)
    tail: list[ObservedBuild] = field(default_factory=list)
    """The builds that only the head has seen, in order of completion."""
    orders: list[Order] = field(default_factory=list)
    """The decisions that the settled detector has not taken in yet, oldest first."""
    followed: int = 0
    """How many of these the head has taken in."""
    settled_until: tuple[float, int, str] | None = None
    """The place of the last build that is settled."""

    @property
    def incidents(self) -> list[Incident]:
        """The incidents as the head sees them, oldest first, open or not."""
        return list(self.head.detector.series.incidents.values())

    @property
    def accepted(self) -> Sequence[tuple[str, str]]:
        """Kind and key of what counts as normal by decision."""
        return self.head.accepted

    def take(self, build: ObservedBuild) -> bool:
        """Take in a build; False when it came too late or was there before as it is."""
        place = _place(build)
        if self.settled_until is not None and place <= self.settled_until:
            return False
        known = next((old for old in self.tail if old.id == build.id), None)
        if known == build:
            return False
        is_newest = known is None and (not self.tail or place > _place(self.tail[-1]))
        self.tail = sorted([*(old for old in self.tail if old is not known), build], key=_place)
        if is_newest:
            self._feed_head(build)
        else:
            self._rebuild_head()
        self._settle()
        return True

    def decide(self, action: str, kind: str, key: str, at: float) -> None:
        """Take in what somebody decided; it holds for every build that ended later."""
        self.orders.append(Order(action, kind, key, at))

    def take_back(self, kind: str, key: str) -> bool:
        """Forget the last decision about an incident; False when builds have been judged by it already."""
        for number in range(len(self.orders) - 1, self.followed - 1, -1):
            if (self.orders[number].kind, self.orders[number].key) == (kind, key):
                del self.orders[number]
                return True
        return False

    def seconds_of(self, text: str) -> float | None:
        """What an instruction costs when it runs, by its text; None where it was never seen to."""
        costs = self.head.detector.series.memory.costs
        found = [seconds for key, seconds in costs.items() if key.partition("\x1f")[2] == text]
        return max(found, default=None)

    def dump(self) -> bytes:
        """Return the watch as JSON."""
        return orjson.dumps(
            {
                "schema": 1,
                "settled": self.settled.document(),
                "head": self.head.document(),
                "tail": [asdict(build) for build in self.tail],
                "orders": [asdict(order) for order in self.orders],
                "followed": self.followed,
                "settled_until": self.settled_until,
            }
        )

    @classmethod
    def load(cls, text: bytes) -> "Watch":
        """Return the watch that `dump` wrote."""
        document: dict[str, Any] = orjson.loads(text)
        until = document["settled_until"]
        return cls(
            settled=_Side.from_document(document["settled"]),
            head=_Side.from_document(document["head"]),
            tail=[
                ObservedBuild(**build | {"steps": tuple(ObservedStep(**step) for step in build["steps"])})
                for build in document["tail"]
            ],
            orders=[Order(**order) for order in document["orders"]],
            followed=document["followed"],
            settled_until=(until[0], until[1], until[2]) if until else None,
        )

    def _feed_head(self, build: ObservedBuild) -> None:
        while self.followed < len(self.orders) and self.orders[self.followed].at < build.at:
            self.head.follow(self.orders[self.followed])
            self.followed += 1
        self.head.observe(build)

    def _rebuild_head(self) -> None:
        self.head = _Side.from_document(orjson.loads(orjson.dumps(self.settled.document())))
        self.followed = 0
        for build in self.tail:
            self._feed_head(build)

    def _settle(self) -> None:
        newest = self.tail[-1].at
        old = sum(build.at < newest - LATE_SECONDS for build in self.tail)
        count = max(old if old >= SETTLED_AT_ONCE else 0, len(self.tail) - MOST_IN_TAIL)
        for build in self.tail[:count]:
            while self.orders and self.orders[0].at < build.at:
                self.settled.follow(self.orders.pop(0))
                self.followed -= 1
            self.settled.observe(build)
            self.settled_until = _place(build)
        del self.tail[:count]


def _place(build: ObservedBuild) -> tuple[float, int, str]:
    """Where a build stands: by its end, then by its id, numbers by their size."""
    return build.at, len(build.id), build.id


def _close(detector: Detector, incident: Incident, at: float) -> None:
    """Close an incident by decision: what spoke for it must be seen anew before it is told again."""
    incident.is_open, incident.resolved_at, incident.fixed_by = False, at, None
    for key in (incident.key, *incident.widened):
        for name, stream in detector.series.streams.items():
            if name.partition("|")[2] == key:
                stream.reset()
    incident.widened = []
