"""One layer that keeps missing although nothing above it changed, or because a changing argument was put above it."""

import re
from collections.abc import Iterator
from typing import Any

from cachescope.expectations import JudgedBuild, Layer, trim
from cachescope.regressions.base import DAY, Finding, Incident, Series, quiet_for_a_day, worth_telling

KIND = "layer_misses"
ENOUGH = 7.0
ENOUGH_BELOW_CHANGING = 2.4
"""Below a new argument whose name says that it changes with every build: one miss."""
ENOUGH_BELOW_ARGUMENT = 4.8
_CHANGING = re.compile(
    r"COMMIT|SHA|REV|REF|BUILD|DATE|TIME|STAMP|VERSION|BUST|GIT|VCS|BRANCH|TAG|PIPELINE|RUN|JOB|CI_|NUMBER|EPOCH|NOW|RELEASE",
    re.IGNORECASE,
)


class LayerMisses:
    """Watches every layer for misses that nothing above it explains."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding for each layer whose misses have become the rule."""
        facts = series.facts.setdefault(KIND, {})
        self._accept(facts, judged)
        if judged.is_cold:
            return
        for layer in judged.layers:
            if layer.step.is_content or not layer.expected:
                continue
            lost = layer.root is layer and layer.excuse == "lost"
            if not (layer.hit or lost):
                continue
            key = layer.step.key
            stream = series.stream(f"layer|{key}", 0.25, 16)
            if incident := series.open_incident(KIND, key):
                stream.recover(judged, incident, event=lost)
                continue
            victims = [other for other in judged.layers if other.root is layer]
            seconds = sum(victim.seconds for victim in victims)
            stream.observe(judged, event=lost, floor=0.55, step=0.25, seconds=seconds)
            if (
                not lost
                or stream.since is None
                or not worth_telling(series, judged, stream.rate() * stream.lost_seconds)
            ):
                continue
            if stream.main_run is None and series.was_resolved(KIND, key):
                continue
            argument = self._new_argument(facts, layer)
            changing = argument is not None and bool(_CHANGING.search(argument[0]))
            rate = stream.rate() * stream.lost_seconds
            if argument and stream.score > (ENOUGH_BELOW_CHANGING if changing else ENOUGH_BELOW_ARGUMENT):
                text, since = argument
                yield self._finding(victims, since, "early_arg", text, f"misses below {text}, which changes", rate)
            elif stream.score > ENOUGH and stream.events >= 3:
                since = stream.main_run or stream.since
                reason = "misses although nothing above it changed"
                yield self._finding(victims, since, "partial", layer.step.text, reason, rate)

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether the layer hits again, or the argument no longer stands above it."""
        stream = series.streams.get(f"layer|{incident.key}")
        if incident.cause != "early_arg":
            return stream is None or (stream.recovery > 7 and quiet_for_a_day(incident, judged))
        if judged.build.is_default_branch:
            above = any(
                step.key == incident.key and incident.instruction in step.arguments_above for step in judged.plan.steps
            )
            incident.good_main_builds = 0 if above else incident.good_main_builds + 1
        if incident.good_main_builds >= 2:
            return True
        quiet = judged.build.at - incident.last_event_at >= 7 * DAY
        return stream is not None and stream.recovery > 25 and quiet

    @staticmethod
    def _accept(facts: dict[str, Any], judged: JudgedBuild) -> None:
        """Remember which arguments stood above an instruction when it first appeared, and when others came."""
        present = {step.key for step in judged.plan.steps}
        for step in judged.plan.steps:
            if step.op in {"FROM", "ARG", "ENV", "LABEL"}:
                continue
            known = facts.get(step.key)
            if known is None:
                facts[step.key] = {"accepted": list(step.arguments_above), "added": {}}
                continue
            added = known["added"]
            for text in step.arguments_above:
                if text not in known["accepted"] and text not in added and _may_change(text):
                    build = judged.build
                    added[text] = {"build": build.id, "commit": build.commit, "at": build.at, "branch": build.branch}
        trim_absent(facts, present)

    @staticmethod
    def _new_argument(facts: dict[str, Any], layer: Layer) -> tuple[str, dict[str, Any]] | None:
        added = facts.get(layer.step.key, {}).get("added", {})
        present = [(text, added[text]) for text in layer.step.arguments_above if text in added]
        return max(present, key=lambda item: item[1]["at"]) if present else None

    @staticmethod
    def _finding(  # noqa: PLR0917  # six words of one sentence
        victims: list[Layer], since: dict[str, Any], cause: str, instruction: str, reason: str, seconds: float
    ) -> Finding:
        step = victims[0].step
        return Finding(
            key=step.key,
            cause=cause,
            commit=since["commit"],
            instruction=instruction,
            since=since,
            victims=[victim.step.text for victim in victims],
            seconds_per_build=seconds,
            evidence=f"{step.text} {reason}",
            group="lost",
        )


def _may_change(text: str) -> bool:
    """Say whether its value can change while its text stays: every ARG, and an ENV or LABEL that reads a variable."""
    return text.upper().startswith("ARG") or "$" in text


def trim_absent(facts: dict[str, Any], present: set[str], bound: int = 400) -> None:
    """Forget the oldest entries beyond the bound, those of the current Dockerfile last."""
    if len(facts) > bound:
        for key in [key for key in facts if key not in present][: len(facts) - bound]:
            del facts[key]
        trim(facts, bound)


REGRESSION = LayerMisses()
