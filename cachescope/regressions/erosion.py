"""Misses without a reason that become more frequent all over the repository, on no layer in particular."""

from collections.abc import Iterator

from cachescope.expectations import JudgedBuild
from cachescope.regressions.base import Finding, Incident, Series, quiet_for_a_day
from cachescope.regressions.layer_misses import KIND as LAYER_MISSES

KIND = "erosion"
ENOUGH = 8.0
STREAM = "erosion"
LAST = "erosion_last"


class Erosion:
    """Watches the share of builds that lost at least one layer, cold builds apart."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when losses have become more frequent."""
        if judged.is_cold or not judged.is_telling:
            return
        stream = series.stream(STREAM, 0.6, 30)
        lost = [layer for layer in judged.roots("lost") if series.open_incident(LAYER_MISSES, layer.step.key) is None]
        if incident := series.open_incident(KIND, "repository"):
            stream.recover(judged, incident, event=bool(lost))
            return
        if series.open_of(LAYER_MISSES):
            stream.reset()
            return
        tally = series.facts.setdefault(KIND, {})
        seconds = sum(layer.seconds for layer in judged.layers if layer.root in lost)
        stream.observe(judged, event=bool(lost), floor=0.14, step=0.12, seconds=seconds)
        if stream.score == 0.0:
            tally.clear()
            return
        last = series.facts.setdefault(LAST, {})
        is_same_layer = bool(lost) and last.get("layer") == lost[0].step.key
        if lost:
            last["layer"] = lost[0].step.key
        for layer in lost:
            tally[layer.step.key] = tally.get(layer.step.key, 0) + 1
        if not lost or stream.score <= ENOUGH or stream.events < 4 or stream.since is None:
            return
        if stream.main_run is None and series.was_resolved(KIND, "repository"):
            return
        if is_same_layer or max(tally.values()) >= 0.7 * sum(tally.values()):
            return  # rather one layer's own trouble, which its own stream will tell
        yield Finding(
            key="repository",
            cause="erosion",
            commit=None,
            instruction=None,
            since=stream.since,
            victims=[key.partition("\x1f")[2] for key in sorted(tally, key=lambda key: -tally[key])],
            seconds_per_build=stream.rate() * stream.lost_seconds,
            evidence=f"{stream.events} of {stream.observations} builds lost a layer that nothing had changed",
            group="lost",
        )

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether losses are as rare again as they were."""
        stream = series.streams.get(STREAM)
        return stream is None or (stream.recovery > 7 and quiet_for_a_day(incident, judged))


REGRESSION = Erosion()
