"""What people see of a build: every state in a word, what the log does not say left empty."""

import io

import pytest
from rich.console import Console

from cachescope.cli.table import bar, build_lines, state_of, write_reading
from cachescope.model import Build, BuiltImage, CacheTransfer, LogReading, Outcome, Step, StepKind, StepStatus


def make_step(text: str = "RUN make", **more: object) -> Step:
    fields: dict[str, object] = {
        "kind": StepKind.INSTRUCTION,
        "text": text,
        "status": StepStatus.DONE,
        "cached": False,
        "cacheable": True,
        "instruction": text.split(maxsplit=1)[0],
    }
    return Step(**(fields | more))  # type: ignore[arg-type]


def make_build(*steps: Step, **more: object) -> Build:
    fields: dict[str, object] = {"builder": "buildkit", "format": "buildkit-plain", "outcome": Outcome.SUCCEEDED}
    return Build(steps=steps, **(fields | more))  # type: ignore[arg-type]


def shown(build: Build, width: int = 120, *, ascii_only: bool = False, every_step: bool = False) -> str:
    return "\n".join(
        line.plain for line in build_lines(build, width=width, ascii_only=ascii_only, every_step=every_step)
    )


@pytest.mark.parametrize(
    ("step", "word"),
    [
        (make_step(cached=True, status=StepStatus.CACHED), "hit"),
        (make_step(), "miss"),
        (make_step(cached=None, status=StepStatus.UNKNOWN), "unknown"),
        (make_step(status=StepStatus.FAILED), "failed"),
        (make_step(status=StepStatus.CANCELED), "canceled"),
        (make_step(status=StepStatus.RUNNING), "running"),
        (make_step("FROM debian", cacheable=False), "–"),
        (make_step("[internal] load", kind=StepKind.INTERNAL, cacheable=False, instruction=None), "–"),
    ],
)
def test_every_state_has_its_word(step: Step, word: str) -> None:
    assert state_of(step, is_break=False).word == word


def test_a_break_says_what_it_made_run_and_what_that_cost() -> None:
    steps = [
        make_step("COPY . .", stage="app", index=1, total=2, duration_seconds=1.0),
        make_step("RUN make", stage="app", index=2, total=2, duration_seconds=30.0),
    ]
    text = shown(make_build(*steps))
    assert "◣ break" in text
    assert "broke at COPY . . (app 1/2): 1 step below ran because of it, 31 s in all" in text


def test_what_was_built_and_which_caches_were_used_stand_above_the_steps() -> None:
    build = make_build(
        make_step(),
        images=(BuiltImage(tags=("acme/api:1",), target="api"), BuiltImage()),
        cache_imports=(CacheTransfer(ref="acme/cache", succeeded=False),),
        cache_exports=(
            CacheTransfer(ref=None, succeeded=None),
            CacheTransfer(ref="gha:x", succeeded=True, seconds=2.0),
        ),
        context_bytes=28050,
        started_at=1763633472.0,
        duration_seconds=252.0,
        error=None,
    )
    text = shown(build)
    for part in (
        "buildkit (buildkit-plain) succeeded in 4 min 12 s · started 2025-11-20 10:11:12 UTC",
        "image api: acme/api:1",
        "image image without a name",
        "cache import acme/cache failed",
        "cache export  (end not in the log)",
        "cache export gha:x 2.0 s",
        "context 28 kB",
    ):
        assert part in text


def test_a_failed_step_shows_its_error_and_a_build_its_own() -> None:
    step = make_step(status=StepStatus.FAILED, error="exit code: 2\x1b[2J")
    text = shown(make_build(step, outcome=Outcome.FAILED, error="failed to solve", builder=None, duration_seconds=2.0))
    assert "unknown builder (buildkit-plain) failed after 2.0 s" in text
    assert "exit code: 2\\x1b[2J" in text
    assert "failed to solve" in text


def test_unknown_steps_are_counted_beside_the_figures() -> None:
    steps = [
        make_step(cached=True, status=StepStatus.CACHED),
        make_step("RUN x", cached=None, status=StepStatus.UNKNOWN),
    ]
    assert "hit rate 100 % (1 of 1) · 1 hit · 0 misses · 1 unknown" in shown(make_build(*steps))


def test_a_build_without_cacheable_steps_says_so() -> None:
    assert "No step that a cache could serve." in shown(make_build())


def test_a_line_fits_a_narrow_terminal_without_its_bar() -> None:
    step = make_step("RUN " + "x" * 200, stage="a-very-long-stage-name", index=1, total=2, duration_seconds=1.0)
    lines = [line for line in shown(make_build(step), 60).splitlines() if "RUN" in line and "broke" not in line]
    assert lines
    assert max(map(len, lines)) <= 60
    assert "█" not in shown(make_build(step), 60)
    assert "█" in shown(make_build(step), 120)


def test_ascii_replaces_every_sign() -> None:
    step = make_step("RUN écho", duration_seconds=1.0)
    text = shown(make_build(step), ascii_only=True)
    assert text.isascii()
    assert "> break" in text
    assert "################" in text


def test_a_bar_shows_anything_that_took_time() -> None:
    assert bar(0.001, 100.0, 8, ascii_only=False).strip()
    assert bar(0.001, 100.0, 8, ascii_only=True) == "#       "
    assert bar(100.0, 100.0, 8, ascii_only=False) == "█" * 8
    assert bar(None, 100.0, 8, ascii_only=False) == " " * 8


def test_several_builds_are_numbered_and_warnings_stand_at_the_end() -> None:
    console = Console(file=io.StringIO(), width=100)
    reading = LogReading(
        wrapper="gitlab", lines=2, warnings=("cut\x07",), builds=(make_build(make_step()), make_build(make_step()))
    )
    write_reading(console, reading, "a.log", every_step=True)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("a.log · gitlab · 2 lines\n")
    assert "Build 2 of 2" in text
    assert "Warning: cut\\x07" in text


def test_a_log_without_a_build_says_so() -> None:
    console = Console(file=io.StringIO(), width=100)
    write_reading(console, LogReading(wrapper=None, lines=1), "a.log", every_step=False)
    assert "No build in this log." in console.file.getvalue()  # type: ignore[attr-defined]
