"""Feed builds to every kind of regression and keep the incidents, from open to resolved.

One `Detector` holds the state of one image of one repository; it costs the same per build whatever its history, and the
same builds in the same order give the same alerts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from math import isfinite
from typing import Any

from cachescope.expectations import JudgedBuild, Memory, ObservedBuild, ObservedStep, Plan, plan_of, trim
from cachescope.regressions import REGRESSIONS
from cachescope.regressions.base import DAY, Finding, Incident, Series, Stream

REOPEN_WITHIN = 14 * DAY
RECENT_BUILDS = 200
KEPT_INCIDENTS = 50
KEPT_VERSIONS = 20


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to tell: an incident opened, reopened, widened or resolved by this build."""

    type: str
    """open, reopen, update or resolve."""
    build: str
    repository: str
    incident: str
    kind: str
    metric: str
    cause: str
    commit: str | None
    instruction: str | None
    since: dict[str, Any]
    victims: list[str]
    seconds_per_build: float
    evidence: str
    fixed_by: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the alert as JSON types."""
        return asdict(self)


@dataclass(slots=True)
class Detector:
    """The regressions of one image of one repository."""

    series: Series = field(default_factory=Series)

    def observe(self, build: ObservedBuild) -> list[Alert]:
        """Take in one build, in order of completion, and return what is to be told; a known id changes nothing."""
        series = self.series
        if build.id in series.recent or not build.steps:
            return []
        series.recent = [*series.recent[1 - RECENT_BUILDS :], build.id]
        judged = series.memory.judge(build, _plan_of(build))
        alerts: list[Alert] = []
        for kind, regression in REGRESSIONS.items():
            for finding in regression.observe(series, judged):
                alerts += self._open(kind, finding, judged)
        for incident in list(series.incidents.values()):
            if incident.is_open and REGRESSIONS[incident.kind].is_over(series, incident, judged):
                alerts.append(self._resolve(incident, judged))
        self._remember(judged)
        return alerts

    def document(self) -> dict[str, Any]:
        """Return the whole state as JSON types: at most a few hundred kilobytes."""
        series = self.series
        return {
            "schema": 1,
            "memory": series.memory.document(),
            "streams": {name: stream.document() for name, stream in series.streams.items()},
            "facts": series.facts,
            "versions": series.versions,
            "main_version": series.main_version,
            "incidents": {name: incident.document() for name, incident in series.incidents.items()},
            "recent": series.recent,
            "next_incident": series.next_incident,
            "builds": series.builds,
        }

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "Detector":
        """Return the detector that `document` describes."""
        return cls(
            Series(
                memory=Memory.from_document(document["memory"]),
                streams={name: Stream(**stream) for name, stream in document["streams"].items()},
                facts=document["facts"],
                versions=document["versions"],
                main_version=document["main_version"],
                incidents={name: Incident(**incident) for name, incident in document["incidents"].items()},
                recent=document["recent"],
                next_incident=document["next_incident"],
                builds=document["builds"],
            )
        )

    def _open(self, kind: str, finding: Finding, judged: JudgedBuild) -> list[Alert]:
        series = self.series
        for incident in series.incidents.values():
            if incident.is_open and incident.group == finding.group:
                if finding.key not in (incident.key, *incident.widened):
                    incident.widened.append(finding.key)
                    incident.last_event_at = judged.build.at
                    return [self._alert("update", incident, judged)]
                return []
        for incident in reversed(list(series.incidents.values())):
            same = incident.kind == kind and incident.key == finding.key
            if same and incident.resolved_at is not None and judged.build.at - incident.resolved_at <= REOPEN_WITHIN:
                incident.is_open = True
                incident.resolved_at = None
                incident.reopened += 1
                incident.good_main_builds = 0
                incident.last_event_at = judged.build.at
                incident.victims, incident.seconds_per_build = finding.victims[:20], finding.seconds_per_build
                return [self._alert("reopen", incident, judged)]
        incident = Incident(
            id=str(series.next_incident),
            kind=kind,
            key=finding.key,
            metric=finding.metric,
            group=finding.group,
            cause=finding.cause,
            commit=finding.commit,
            instruction=finding.instruction,
            since=finding.since,
            opened_at=judged.build.at,
            last_event_at=judged.build.at,
            victims=finding.victims[:20],
            seconds_per_build=finding.seconds_per_build,
            evidence=finding.evidence,
        )
        series.next_incident += 1
        series.incidents[incident.id] = incident
        closed = [name for name, known in series.incidents.items() if not known.is_open]
        for name in closed[: max(0, len(series.incidents) - KEPT_INCIDENTS)]:
            del series.incidents[name]
        return [self._alert("open", incident, judged)]

    def _resolve(self, incident: Incident, judged: JudgedBuild) -> Alert:
        incident.is_open = False
        incident.resolved_at = judged.build.at
        incident.fixed_by = judged.build.commit if judged.build.is_default_branch else None
        for key in (incident.key, *incident.widened):
            for name, stream in self.series.streams.items():
                if name.partition("|")[2] == key or name == incident.kind:
                    stream.reset()
            known = self.series.facts.get(incident.kind, {}).get(key)
            if isinstance(known, dict) and "score" in known:
                known["score"] = 0.0
        incident.widened = []
        return self._alert("resolve", incident, judged)

    def _alert(self, kind: str, incident: Incident, judged: JudgedBuild) -> Alert:
        return Alert(
            type=kind,
            build=judged.build.id,
            repository=judged.build.repository,
            incident=f"{judged.build.repository}:{incident.id}",
            kind=incident.kind,
            metric=incident.metric,
            cause=incident.cause,
            commit=incident.commit,
            instruction=incident.instruction,
            since=incident.since,
            victims=incident.victims,
            seconds_per_build=round(incident.seconds_per_build, 3),
            evidence=incident.evidence,
            fixed_by=incident.fixed_by,
        )

    def _remember(self, judged: JudgedBuild) -> None:
        series, build = self.series, judged.build
        series.memory.learn(judged)
        if build.dockerfile not in series.versions:
            series.versions[build.dockerfile] = {
                "build": build.id,
                "commit": build.commit,
                "at": build.at,
                "order": [list(item) for item in judged.plan.order],
            }
            trim(series.versions, KEPT_VERSIONS)
        if build.is_default_branch:
            series.main_version = build.dockerfile
        series.builds += 1


@lru_cache(maxsize=512)
def _plan(shape: tuple[tuple[str, str, str], ...]) -> Plan:
    return plan_of([ObservedStep(stage, op, text, None) for stage, op, text in shape])


def _plan_of(build: ObservedBuild) -> Plan:
    return _plan(tuple((step.stage, step.op, step.text) for step in build.steps))


def observed_build(document: dict[str, Any], default_branch: str = "main") -> ObservedBuild:
    """Read one build of the exchange format (docs/detect.md); raises KeyError or TypeError when a field is missing."""
    branch = document["branch"] or ""
    steps: Sequence[dict[str, Any]] = document["steps"]
    return ObservedBuild(
        id=str(document["id"]),
        repository=str(document["repo"]),
        at=_finite(document["time"]),
        branch=branch,
        is_default_branch=branch == default_branch,
        commit=document.get("commit"),
        dockerfile=str(document.get("dockerfile") or ""),
        runner=document.get("runner"),
        is_bot=branch.startswith(("dependabot/", "renovate/", "snyk-", "pre-commit-ci")),
        succeeded=document.get("status", "ok") in {"ok", "succeeded"},
        duration_seconds=document.get("duration_s"),
        size_bytes=document["image_mb"] * 1e6 if document.get("image_mb") else None,
        steps=tuple(
            ObservedStep(
                step.get("stage") or "",
                step["op"],
                step["text"],
                step.get("cached"),
                step.get("duration_s"),
                step.get("digest"),
            )
            for step in steps
        ),
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not isfinite(number):
        raise ValueError(f"{number} is not a time")
    return number
