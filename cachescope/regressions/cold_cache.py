"""Builds that find no cache at all: the import is broken, or one pool of runners starts cold."""

from collections.abc import Iterator
from typing import Any

from cachescope.expectations import JudgedBuild
from cachescope.regressions.base import Finding, Incident, Series, quiet_for_a_day

KIND = "cold_cache"
ENOUGH = 8.0
ENOUGH_UNSETTLED = 12.0
SETTLED = 30
"""From so many builds on it is known how often the repository builds cold anyway."""
RECENT = 60
PATIENCE = 6
"""With this many cold builds it is told even though no other pool has built since."""


class ColdCache:
    """Watches the repository and each pool of runners for builds in which everything expected was gone."""

    def observe(self, series: Series, judged: JudgedBuild) -> Iterator[Finding]:
        """Take in one build and yield a finding when cold builds have become the rule."""
        if not judged.is_telling:
            return
        facts = series.facts.setdefault(KIND, {"recent": [], "runners": {}})
        build = judged.build
        facts["recent"] = [*facts["recent"][1 - RECENT :], [build.at, build.pool, judged.is_cold]]
        seconds = sum(layer.seconds for layer in judged.layers)
        for key, floor in (("repository", 0.75), (f"pool {build.pool}", 0.85)):
            stream = series.stream(f"cold|{key}", 0.4, 12)
            if incident := series.open_incident(KIND, key):
                stream.recover(judged, incident, event=judged.is_cold)
                continue
            if judged.is_per_runner and judged.is_cold and self._is_first_of_runner(facts, key, build.runner or "-"):
                continue
            stream.observe(judged, event=judged.is_cold, floor=floor, step=0.25, seconds=seconds)
            if stream.score == 0.0:
                facts["runners"].pop(key, None)
            enough = ENOUGH if stream.seen >= SETTLED else ENOUGH_UNSETTLED
            if judged.is_cold and stream.score > enough and stream.events >= 3 and stream.since:
                if stream.events < PATIENCE and self._waits_for_another_pool(
                    facts["recent"], stream.since["at"], build.pool
                ):
                    continue
                since = stream.main_run or stream.since
                is_pool = self._is_one_pool(facts["recent"], stream.since["at"], build.pool)
                yield Finding(
                    key=key,
                    cause="pool_cold" if is_pool else "cache_import",
                    commit=since["commit"],
                    instruction=None,
                    since=since,
                    victims=[layer.step.text for layer in judged.layers if layer.root is layer],
                    seconds_per_build=stream.rate() * stream.lost_seconds,
                    evidence=f"{stream.events} of the last {stream.observations} builds found nothing in cache"
                    + (f" on {build.pool}, other pools are warm" if is_pool else ""),
                    group="cold",
                )

    def is_over(self, series: Series, incident: Incident, judged: JudgedBuild) -> bool:
        """Say whether builds find their cache again."""
        stream = series.streams.get(f"cold|{incident.key}")
        return stream is None or (stream.recovery > 7 and quiet_for_a_day(incident, judged))

    @staticmethod
    def _is_first_of_runner(facts: dict[str, Any], key: str, runner: str) -> bool:
        """Say whether this cold build may be the echo of one purge that empties each runner once."""
        runners = facts["runners"].setdefault(key, [])
        if runner in runners:
            return False
        runners.append(runner)
        del runners[:-200]
        return len(runners) > 1

    @staticmethod
    def _waits_for_another_pool(recent: list[list[Any]], since: float, pool: str) -> bool:
        """Say whether other pools are in use but have hardly built since: whose cache is gone cannot be told."""
        others = [cold for at, name, cold in recent if name != pool and at >= since]
        if not others:
            return any(name != pool for _, name, _ in recent)
        return others == [False] or 0.3 < sum(others) / len(others) < 0.7

    @staticmethod
    def _is_one_pool(recent: list[list[Any]], since: float, pool: str) -> bool:
        others = [cold for at, name, cold in recent if at >= since and name != pool]
        return bool(others) and sum(others) <= 0.5 * len(others)


REGRESSION = ColdCache()
