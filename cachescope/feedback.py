"""What a build says to whoever pushed: when it is worth a comment, the comment itself, and the verdict of a check.

All text from outside goes through `cachescope.markdown`; everything else here is ours. Figures and words are those of
the glossary.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cachescope.causes.base import CAUSE_WORDS
from cachescope.cli.words import duration, percentage, plural, size
from cachescope.markdown import code, fenced, one_line
from cachescope.preflight import Bust

FALL_WORTH_TELLING = 0.05
"""A fall of the hit rate or the efficiency below the baseline's by so much is worth a comment by itself."""
SIZE_WORTH_TELLING = 0.05
"""The same for the growth of the image, as a share of what it was."""
BYTES_WORTH_TELLING = 1_000_000
LEAST_SECONDS = 1.0
"""Unless a repository says otherwise, breaks that cost less are not worth a comment."""
MOST_BREAKS = 5
LONGEST_COMMENT = 20_000
"""Far below what forges take (65,536 characters on GitHub, 1,000,000 on GitLab), and more than anybody reads."""


class Mode(StrEnum):
    """What a check or status may do."""

    OFF = "off"
    INFORM = "inform"
    FAIL = "fail"


class Conclusion(StrEnum):
    """How a check ends."""

    SUCCESS = "success"
    NEUTRAL = "neutral"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a repository wants to be told."""

    comments: bool = True
    mode: Mode = Mode.INFORM
    measure: str = "efficiency"
    """What `threshold` is held against: `efficiency` or `hit_rate`."""
    threshold: float = 0.5
    least_seconds: float = LEAST_SECONDS
    preflight: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedBreak:
    """A step that busted the cache."""

    text: str
    place: str
    """`deps 3/4`, empty where the log prints none."""
    cause: str
    expected: bool | None
    cost_seconds: float | None
    steps: int
    """The break and its cascade."""
    files: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """The figures of an image in one build."""

    hits: int
    misses: int
    efficiency: float | None
    seconds_spent: float | None = None

    @property
    def hit_rate(self) -> float | None:
        """Hits among hits and misses; None where nothing was counted."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeChange:
    """What the image weighs, and what it weighed before."""

    compressed_bytes: int
    before_bytes: int | None = None

    @property
    def growth(self) -> int | None:
        """Bytes more than before; None where nobody knows."""
        return None if self.before_bytes is None else self.compressed_bytes - self.before_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The first recommendation for an image."""

    title: str
    saving_seconds: float | None = None
    patch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One image of one build, as a pull request or commit hears of it."""

    image: str
    commit: str | None
    outcome: str
    now: Share
    before: Share | None = None
    """The baseline's."""
    breaks: Sequence[ReportedBreak] = field(default=())
    """The dearest first."""
    advice: Advice | None = None
    size: SizeChange | None = None
    url: str | None = None
    """The page of the build, made by us."""
    baseline_url: str | None = None
    is_foreign: bool = False
    """The commit comes from a fork: what it built must not stop or let pass anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What the changed files of a pull request will do to the cache of an image, before it is built."""

    image: str
    commit: str | None
    busts: Sequence[Bust]

    @property
    def cost_seconds(self) -> float | None:
        """The usual seconds of everything that will run; None where no line was ever timed."""
        known = [bust.cost_seconds for bust in self.busts if bust.cost_seconds is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a check run or commit status says."""

    conclusion: Conclusion
    title: str
    """Plain text of ours alone: no name, branch or instruction."""
    summary: str
    """Markdown."""


def marker_of(*parts: object) -> str:
    """The hidden line by which a comment is found again; it names what the comment is about without saying it."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode("utf-8", "replace")).hexdigest()
    return f"<!-- cachescope:{digest[:24]} -->"


def is_worth_telling(report: Report, policy: Policy) -> bool:
    """Whether a build gives reason for a comment where there is none yet: a break with a price, a fall, a growth."""
    dearest = max((broken.cost_seconds or 0.0 for broken in report.breaks if broken.cause != "first_build"), default=0)
    if dearest >= policy.least_seconds:
        return True
    if report.size is not None and report.size.before_bytes:
        growth = abs(report.size.compressed_bytes - report.size.before_bytes)
        if growth >= BYTES_WORTH_TELLING and growth >= SIZE_WORTH_TELLING * report.size.before_bytes:
            return True
    # Misses that are known to take no time are no fall worth a word, however many they are.
    if report.breaks and all(broken.cost_seconds is not None for broken in report.breaks):
        return False
    return _has_fallen(report)


def _has_fallen(report: Report) -> bool:
    if report.before is None or report.outcome != "succeeded":
        return False
    pairs = (
        (report.now.efficiency, report.before.efficiency),
        (report.now.hit_rate, report.before.hit_rate),
    )
    return any(now is not None and before is not None and before - now >= FALL_WORTH_TELLING for now, before in pairs)


def judge(report: Report, policy: Policy) -> Verdict:
    """Hold a build against the policy of its repository.

    Fails only where the policy says so, the figure is known, and the cache could have been warm: neither the first
    build of an image nor one from a fork fails, and a build that did not succeed is judged by others.
    """
    measured, name = _measured(report, policy)
    title = _headline(report)
    conclusion = Conclusion.SUCCESS
    if measured is None or report.outcome != "succeeded":
        # What a build that failed did with its cache until then says nothing of the whole.
        conclusion = Conclusion.NEUTRAL
    elif policy.mode == Mode.FAIL and measured < policy.threshold:
        title = f"{name} {percentage(measured)}, below {percentage(policy.threshold)}"
        is_first = report.before is None
        conclusion = Conclusion.NEUTRAL if is_first or report.is_foreign else Conclusion.FAILURE
        if is_first:
            title += ", but there is no earlier build to compare with"
        elif report.is_foreign:
            title += ", in a fork"
    return Verdict(conclusion=conclusion, title=title, summary="\n\n".join(_paragraphs(report)))


def _measured(report: Report, policy: Policy) -> tuple[float | None, str]:
    if policy.measure == "efficiency" and report.now.efficiency is not None:
        return report.now.efficiency, "Cache efficiency"
    return report.now.hit_rate, "Hit rate"


def _headline(report: Report) -> str:
    counted = report.now.hits + report.now.misses
    if not counted:
        return "No step could be counted"
    told = f"{report.now.hits} of {counted} cacheable steps from cache"
    if report.now.efficiency is not None:
        told += f", efficiency {percentage(report.now.efficiency)}"
    cost = next((broken.cost_seconds for broken in report.breaks if broken.cost_seconds is not None), None)
    if cost:
        told += f", break cost {duration(cost)}"
    return told


def render_comment(report: Report, marker: str) -> str:
    """Write the comment on a pull request about one image after a build."""
    start = f"**Cachescope** · {code(report.image)}" + (f" · {code(report.commit, 12)}" if report.commit else "")
    links = [f"[This build]({report.url})"] if report.url else []
    links += [f"[its baseline]({report.baseline_url})"] if report.baseline_url else []
    end = " · ".join([*links, "this comment follows the latest build"])
    return _whole(marker, start, *_paragraphs(report), f"<sub>{end}</sub>")


def render_forecast(forecast: Forecast, marker: str) -> str:
    """Write the comment on a pull request about one image before it is built."""
    start = f"**Cachescope** · {code(forecast.image)}" + (f" · {code(forecast.commit, 12)}" if forecast.commit else "")
    lines = [f"- {_bust(bust)}" for bust in forecast.busts[:MOST_BREAKS]]
    if len(forecast.busts) > MOST_BREAKS:
        lines.append(f"- and {len(forecast.busts) - MOST_BREAKS} more")
    cost = forecast.cost_seconds
    total = f" It usually takes {duration(cost)}." if cost else ""
    return _whole(
        marker,
        start,
        f"Before the build: this change will make the cache miss.{total}",
        "\n".join(lines),
        "<sub>worked out from the changed files; the build's own figures will take this place</sub>",
    )


def _bust(bust: Bust) -> str:
    why = f"{_files(bust.files)} changed" if bust.files else "the line itself changed"
    below = f" and {plural(len(bust.below), 'step')} below it" if bust.below else ""
    cost = f"; usually {duration(bust.cost_seconds)}" if bust.cost_seconds is not None else ""
    place = f" ({code(bust.stage, 40)})" if bust.stage else ""
    return f"{code(bust.text)}{place}{below}: {why}{cost}"


def _whole(*paragraphs: str) -> str:
    text = ""
    for paragraph in paragraphs:
        # A paragraph is left out as a whole: half of one might leave a block open.
        if len(text) + len(paragraph) < LONGEST_COMMENT:
            text += f"{paragraph}\n\n"
    return text.rstrip("\n") + "\n"


def _paragraphs(report: Report) -> list[str]:
    return [part for part in (_sentence(report), _figures(report), _advice(report.advice)) if part]


def _sentence(report: Report) -> str:
    ended = {"failed": "The build failed. ", "canceled": "The build was canceled. "}.get(report.outcome, "")
    counted = report.now.hits + report.now.misses
    if not counted:
        return ended + "No step of it could be counted."
    if not report.now.misses:
        return f"{ended}Every cacheable step, {counted} of {counted}, came from cache."
    if not report.breaks:
        return f"{ended}{report.now.misses} of {counted} cacheable steps ran; none is known as the first miss."
    first, *others = report.breaks
    told = f"{ended}Cache broke at {_break(first)}"
    if others:
        told += "\n\nAnd at:\n\n" + "\n".join(f"- {_break(other)}" for other in others[: MOST_BREAKS - 1])
    if len(others) >= MOST_BREAKS:
        told += f"\n- {plural(len(others) - MOST_BREAKS + 1, 'other place')}"
    return told


def _break(broken: ReportedBreak) -> str:
    place = f" ({code(broken.place, 60)})" if broken.place else ""
    why = CAUSE_WORDS.get(broken.cause, CAUSE_WORDS["unknown"])
    if broken.files:
        why += f": {_files(broken.files)}"
    steps = plural(broken.steps, "step")
    cost = f"Cost {duration(broken.cost_seconds)} in {steps}." if broken.cost_seconds is not None else f"{steps} ran."
    expected = {True: " Expected.", False: " Unexpected.", None: ""}[broken.expected]
    return f"{code(broken.text)}{place}: {why}. {cost}{expected}"


def _files(files: Sequence[str], most: int = 3) -> str:
    more = f" and {plural(len(files) - most, 'other file')}" if len(files) > most else ""
    return ", ".join(code(file, 80) for file in files[:most]) + more


def _figures(report: Report) -> str:
    now, before = report.now, report.before
    lines = []
    if now.efficiency is not None:
        lines.append(
            f"- Cache efficiency {percentage(now.efficiency)}"
            + _against(now.efficiency, before.efficiency if before else None)
        )
    if now.hit_rate is not None:
        lines.append(
            f"- Hit rate {percentage(now.hit_rate)} ({now.hits} of {now.hits + now.misses} steps)"
            + _against(now.hit_rate, before.hit_rate if before else None)
        )
    if now.seconds_spent:
        lines.append(f"- {duration(now.seconds_spent)} spent on misses")
    if report.size is not None:
        growth = report.size.growth
        change = "" if growth is None else f", {'+' if growth >= 0 else '−'}{size(abs(growth))}"
        lines.append(f"- Image {size(report.size.compressed_bytes)} compressed{change}")
    return "\n".join(lines)


def _against(now: float, before: float | None) -> str:
    if before is None:
        return ""
    points = round(now * 100) - round(before * 100)
    sign = "+" if points > 0 else "−" if points < 0 else "±"
    return f", {sign}{abs(points)} pts against the baseline's {percentage(before)}"


def _advice(advice: Advice | None) -> str:
    if advice is None:
        return ""
    saving = f", saves about {duration(advice.saving_seconds)} a build" if advice.saving_seconds else ""
    told = f"First thing to change: {code(advice.title, 200)}{saving}."
    if advice.patch and len(advice.patch) <= 4_000:
        told += f"\n\n{fenced(advice.patch, 'diff')}"
    return told


def describe(verdict: Verdict, longest: int = 140) -> str:
    """The one line of a commit status; GitHub takes 140 characters."""
    return one_line(verdict.title, longest)
