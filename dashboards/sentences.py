"""The one sentence on top of a page: what is, what it costs, what broke it."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from cachescope.causes.base import CAUSE_WORDS
from dashboards import theme

CAUSES = CAUSE_WORDS


def cause(name: str | None) -> str:
    """A cause in words."""
    if name is None:
        return CAUSES["unknown"]
    return CAUSES.get(name, name.replace("_", " "))


def causes(counted: Mapping[str, int]) -> str:
    """A mix of causes, most frequent first: `nothing changed, the entry was gone (12), files it reads changed (3)`."""
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) == 1:
        return cause(ordered[0][0])
    return ", ".join(f"{cause(name)} ({theme.count(number)})" for name, number in ordered)


def code(text: str, length: int = 60) -> Markup:
    """An instruction in a sentence."""
    return Markup('<code title="{}"><bdi>{}</bdi></code>').format(text, theme.cut_middle(text, length))


def strong(text: str) -> Markup:
    """A figure in a sentence."""
    return Markup("<strong>{}</strong>").format(text)


def name(text: str) -> Markup:
    """A name that somebody else chose: of a team, a repository, a branch."""
    return Markup('<bdi title="{}">{}</bdi>').format(text, theme.cut_middle(text, 60))


def of_team(team: str, period: Any, inside: str, worst: Any | None) -> Markup:
    """How well a team's cache works, what was lost and by what; `worst` is the dearest row of its breaks."""
    if not period.builds:
        return Markup("{} had no build in {}.").format(name(team), inside)
    return _served(name(team), period, inside) + _lost(period, worst, in_repository=True)


def of_repository(repository: str, branch: str, period: Any, inside: str, worst: Any | None) -> Markup:
    """How well a repository's cache works on some branches."""
    subject = Markup("{} ({})").format(name(repository), name(branch))
    if not period.builds:
        return Markup("{} had no build in {}.").format(subject, inside)
    return _served(subject, period, inside) + _lost(period, worst, in_repository=False)


def _served(subject: Markup, period: Any, inside: str) -> Markup:
    if period.cache_efficiency is not None:
        served = strong(theme.percent(period.cache_efficiency))
        return Markup("{} is served {} from cache, by time; ").format(subject, served)
    if period.hit_rate is not None:
        served = strong(theme.percent(period.hit_rate))
        return Markup("{} of the cacheable steps of {} hit; ").format(served, subject)
    return Markup("{} had {} in {}, none of whose steps could be counted; ").format(
        subject, theme.plural(period.builds, "build"), inside
    )


def _lost(period: Any, worst: Any | None, *, in_repository: bool) -> Markup:
    if not period.lost_seconds:
        if period.rebuild_seconds:
            return Markup("nothing was lost to unexpected misses, and {} went into expected rebuilds.").format(
                strong(theme.duration(period.rebuild_seconds))
            )
        if period.unexplained_seconds:
            return Markup("{} went into misses of which the logs do not tell whether they were to be expected.").format(
                strong(theme.duration(period.unexplained_seconds))
            )
        return Markup("nothing was lost to misses.")
    lost = Markup("{} lost to unexpected misses").format(strong(theme.duration(period.lost_seconds)))
    if worst is None or not worst.lost_seconds:
        return lost + Markup(".")
    where = Markup(" in {}").format(name(worst.repository_name)) if in_repository else Markup("")
    by = code(worst.text)
    if worst.lost_seconds >= period.lost_seconds * 0.995:
        return lost + Markup(", all of it by {}{} ({}).").format(by, where, worst.causes)
    return lost + Markup(", {} of it by {}{} ({}).").format(theme.duration(worst.lost_seconds), by, where, worst.causes)


def of_build(build: Any, breaks: Sequence[Any], failed_step: str | None) -> Markup:
    """Where the cache of a build broke and what that cost; `breaks` stand dearest first, each with text and place."""
    start = Markup("")
    if build.outcome == "failed":
        at = Markup(" at {}").format(code(failed_step)) if failed_step else Markup("")
        start = Markup("The build failed{}. ").format(at)
    elif build.outcome == "canceled":
        start = Markup("The build was canceled. ")
    elif build.outcome == "incomplete":
        start = Markup("The log ends before the build does. ")
    if not build.hits + build.misses:
        if build.unknown:
            return start + Markup("The log does not say which steps came from cache.")
        return start + Markup("No step of it could have come from cache.")
    if not build.misses:
        return start + Markup("Every cacheable step, {} of {}, came from cache.").format(build.hits, build.hits)
    if not breaks:
        return start + Markup("{} of {} cacheable steps ran; none of them is known as the first miss.").format(
            build.misses, build.hits + build.misses
        )
    return start + _broke(breaks)


def _broke(breaks: Sequence[Any]) -> Markup:
    worst = breaks[0]
    place = Markup(" ({})").format(worst.place) if worst.place else Markup("")
    steps = 1 + len(worst.cascade)
    if worst.cost_seconds is None:
        cost = Markup("{} ran because of it.").format(theme.plural(steps, "step"))
    else:
        cost = Markup("Cost {} in {}.").format(strong(theme.duration(worst.cost_seconds)), theme.plural(steps, "step"))
    expected = {True: "Expected.", False: "Unexpected.", None: ""}[worst.expected]
    others = len(breaks) - 1
    more = f"And {theme.plural(others, 'other break')}." if others else ""
    start = Markup("Cache broke at {}{}: {}.").format(code(worst.text), place, cause(worst.cause))
    return Markup(" ").join(part for part in (start, cost, expected, more) if part)
