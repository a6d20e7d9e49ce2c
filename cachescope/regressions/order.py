"""A COPY of changing files that was put above a step which used to be served from cache."""

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from cachescope.expectations import JudgedBuild, Layer, PlannedStep, moved_instruction
from cachescope.regressions.base import DAY, Finding, Incident, Series, mark, worth_telling
from cachescope.regressions.layer_misses import trim_absent

KIND = "order"
ENOUGH_BROAD = 2.8
ENOUGH_NARROW = 6.0
ENOUGH_MOVED = 1.5
"""Below a COPY that misses often and that the commit moved: one miss."""


class Order:
    """Watches pairs of a COPY and a step below it that did not stand in this order when the step was accepted."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when a new order costs hits."""
        facts = series.facts.setdefault(KIND, {})
        self._accept(series, facts, judged)
        if judged.is_cold:
            return
        for layer in judged.layers:
            self._learn_rate(facts, layer)
        for layer in judged.layers:
            added = facts[layer.step.key]["added"]
            if not added or not (layer.hit or (layer.root and layer.root.excuse == "content")):
                continue
            for text in layer.step.copies_above:
                if text in added:
                    yield from self._observe_pair(series, facts, judged, layer, text)

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether the order is gone from the default branch, or does no harm any more."""
        stream_key, _, copy = incident.key.rpartition("\x1e")
        if judged.build.is_default_branch:
            stands = any(step.key == stream_key and copy in step.copies_above for step in judged.plan.steps)
            incident.good_main_builds = 0 if stands else incident.good_main_builds + 1
        if incident.good_main_builds >= 2:
            return True
        stream = series.streams.get(f"order|{incident.key}")
        quiet = judged.build.at - incident.last_event_at >= 7 * DAY
        return stream is not None and stream.recovery > 25 and quiet

    def _observe_pair(
        self, series: Series, facts: dict[str, Any], judged: JudgedBuild, layer: Layer, text: str
    ) -> Iterator[Finding]:
        event = layer.root is not None and layer.root.step.name == text
        if not (layer.hit or event):
            return
        key = f"{layer.step.key}\x1e{text}"
        stream = series.stream(f"order|{key}", 0.4, 9)
        if incident := series.open_incident(KIND, key):
            stream.recover(judged, incident, event=event)
            return
        stream.observe(judged, event=event, floor=0.5, step=0.25, seconds=layer.seconds)
        if not event:
            return
        if not stream.events_on_main and series.was_resolved(KIND, key):
            return  # fixed on the default branch; other branches carry the old order until they are merged
        root = layer.root.step if layer.root else layer.step
        rate = facts.get(root.key, {}).get("rate", 0.0)
        entry = facts[layer.step.key]["added"][text]
        enough = ENOUGH_BROAD if root.is_broad or rate > 0.35 else ENOUGH_NARROW
        if entry["moved"] and rate > 0.35:
            enough = ENOUGH_MOVED
        if stream.score <= enough or not worth_telling(series, judged, stream.rate() * stream.lost_seconds):
            return
        victims = [other for other in judged.layers if other.root is layer.root and other is not layer.root]
        yield Finding(
            key=key,
            cause="order_bust",
            commit=entry["commit"],
            instruction=entry["moved"] or text,
            since={name: entry[name] for name in ("build", "commit", "at", "branch", "dockerfile")},
            victims=[victim.step.text for victim in victims],
            seconds_per_build=stream.rate() * stream.lost_seconds,
            evidence=f"{layer.step.text} now stands below {text} and missed with it "
            + ("once" if stream.events == 1 else f"{stream.events} times"),
            group="order",
        )

    @staticmethod
    def _accept(series: Series, facts: dict[str, Any], judged: JudgedBuild) -> None:
        """Accept every COPY above an instruction when it first appears; note those that come later."""
        present = {step.key for step in judged.plan.steps}
        previous = series.versions.get(series.main_version or "", {}).get("order", [])
        moved: str | None = None
        looked = False
        for step in judged.plan.steps:
            if step.op == "FROM":
                continue
            known = facts.get(step.key)
            if known is None:
                vanished = _vanished(series, previous, present)
                known = facts[step.key] = _inherited(facts, step, vanished) or {
                    "accepted": list(step.copies_above),
                    "added": {},
                    "rate": 0.0,
                }
            for text in step.copies_above:
                if text in known["accepted"] or text in known["added"]:
                    continue
                if not looked:
                    looked = True
                    moved = moved_instruction([tuple(item) for item in previous], judged.plan.order)
                known["added"][text] = {**mark(judged), "moved": moved}
        trim_absent(facts, present)

    @staticmethod
    def _learn_rate(facts: dict[str, Any], layer: Layer) -> None:
        """Learn how often a COPY of the context starts a chain of misses."""
        if layer.step.is_content and (layer.hit or (layer.root is layer and layer.excuse == "content")):
            known = facts[layer.step.key]
            known["rate"] += 0.05 * ((not layer.hit) - known["rate"])


def _vanished(series: Series, previous: list[list[str]], present: set[str]) -> list[str]:
    """Return the keys of instructions of the last Dockerfile versions that this one lacks."""
    latest = series.versions[next(reversed(series.versions))]["order"] if series.versions else []
    keys = dict.fromkeys(f"{stage}\x1f{name}" for stage, name in (*previous, *latest))
    return [key for key in keys if key not in present]


def _inherited(facts: dict[str, Any], step: PlannedStep, vanished: list[str]) -> dict[str, Any] | None:
    """Return what a reworded RUN takes over from the one that vanished at the same time."""
    if step.op != "RUN":
        return None
    best, best_ratio = None, 0.6
    matcher = SequenceMatcher(None, b=step.name)
    for key in vanished:
        stage, _, text = key.partition("\x1f")
        if key not in facts or stage != step.stage or not text.startswith("RUN"):
            continue
        matcher.set_seq1(text)
        if matcher.real_quick_ratio() > best_ratio and (ratio := matcher.quick_ratio()) > best_ratio:
            best, best_ratio = facts[key], ratio
    if best is None:
        return None
    return {"accepted": list(best["accepted"]), "added": dict(best["added"]), "rate": best["rate"]}


REGRESSION = Order()
