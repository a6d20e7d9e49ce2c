"""A COPY of one or a few files that used to hit and now changes with every commit, such as a stamped manifest."""

from collections.abc import Iterator

from cachescope.expectations import JudgedBuild
from cachescope.regressions.base import Finding, Incident, Series, quiet_for_a_day, worth_telling

KIND = "stamped_manifest"
ENOUGH = 8.0


class StampedManifest:
    """Watches each narrow COPY on branches that people write to."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when a narrow COPY has begun to miss most of the time."""
        build = judged.build
        facts = series.facts.setdefault(KIND, {})
        if judged.is_cold or build.is_bot:
            return
        for layer in judged.layers:
            step = layer.step
            if not step.is_content or step.is_broad:
                continue
            missed = layer.root is layer and layer.excuse == "content"
            if not (layer.hit or missed):
                continue
            stream = series.stream(f"manifest|{step.key}", 1.2, 9)
            commits = facts.setdefault(step.key, [])
            if build.commit in commits:
                continue
            facts[step.key] = [*commits[-4:], build.commit]
            if incident := series.open_incident(KIND, step.key):
                stream.recover(judged, incident, event=missed)
                continue
            seconds = sum(other.seconds for other in judged.layers if other.root is layer)
            stream.observe(judged, event=missed, floor=0.85, step=0.45, seconds=seconds)
            if not missed or stream.events < 6 or stream.bad_main_run < 5 or stream.events == stream.events_on_main:
                continue
            if stream.score <= ENOUGH + 2 * judged.is_per_runner or stream.rate() <= 0.72 or stream.seen < 25:
                continue
            if stream.events_on_main < 0.85 * stream.observations_on_main:
                continue  # a stamp changes with every commit; a storm of updates does not
            if stream.since is None or not worth_telling(series, judged, stream.rate() * stream.lost_seconds):
                continue
            since = stream.main_run or stream.since
            yield Finding(
                key=step.key,
                cause="manifest_stamp",
                commit=since["commit"],
                instruction=step.text,
                since=since,
                victims=[other.step.text for other in judged.layers if other.root is layer and other is not layer],
                seconds_per_build=stream.rate() * stream.lost_seconds,
                evidence=f"{step.text} found changed files in {stream.events} of {stream.observations} builds",
                group=f"manifest {step.key}",
            )

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether the COPY hits again as it used to."""
        stream = series.streams.get(f"manifest|{incident.key}")
        return stream is None or (stream.recovery > 7 and quiet_for_a_day(incident, judged))


REGRESSION = StampedManifest()
