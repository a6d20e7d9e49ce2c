"""Every figure of the glossary on builds small enough to reckon by hand."""

import pytest

from cachescope import metrics
from cachescope.comparing import find_breaks
from cachescope.lineage import trace_lineage
from cachescope.metrics import BuildRecord
from cachescope.model import Build, CacheTransfer, Outcome, Step, StepKind, StepStatus


def step(text: str, cached: bool | None, seconds: float | None = None, *, index: int, stage: str | None = None) -> Step:
    keyword = text.split(maxsplit=1)[0]
    return Step(
        kind=StepKind.INSTRUCTION,
        text=text,
        status=StepStatus.CACHED if cached else StepStatus.UNKNOWN if cached is None else StepStatus.DONE,
        cached=cached,
        cacheable=keyword != "FROM",
        instruction=keyword,
        index=index,
        total=9,
        stage=stage,
        duration_seconds=seconds,
    )


def build(*steps: Step, **fields) -> Build:
    return Build(builder="buildkit", format="buildkit-plain", outcome=Outcome.SUCCEEDED, steps=steps, **fields)


WARM = build(step("FROM a", False, 1, index=1), step("RUN x", True, index=2), step("RUN y", True, index=3))
COLD = build(step("FROM a", False, 1, index=1), step("RUN x", False, 3, index=2), step("RUN y", False, 1, index=3))
HALF = build(step("FROM a", False, 1, index=1), step("RUN x", True, index=2), step("RUN y", False, 1, index=3))


def test_a_warm_build_has_a_hit_rate_of_one() -> None:
    found = metrics.figures(WARM)
    assert (found.hits, found.misses, found.unknown, found.hit_rate, found.seconds_spent) == (2, 0, 0, 1.0, 0.0)


def test_a_cold_build_has_a_hit_rate_of_zero_and_from_is_never_counted() -> None:
    found = metrics.figures(COLD)
    assert (found.cacheable, found.hits, found.misses, found.hit_rate, found.seconds_spent) == (2, 0, 2, 0.0, 4.0)


def test_a_step_of_which_the_log_does_not_tell_is_unknown_and_in_no_ratio() -> None:
    found = metrics.figures(build(step("RUN x", None, index=2), step("RUN y", True, index=3)))
    assert (found.cacheable, found.unknown, found.hit_rate) == (2, 1, 1.0)


def test_nothing_counted_is_no_rate() -> None:
    assert metrics.figures(build()).hit_rate is None


def test_misses_without_times_spend_an_unknown_time() -> None:
    assert metrics.figures(build(step("RUN x", False, index=2))).seconds_spent is None


def test_the_first_execution_is_the_reference() -> None:
    assert metrics.update_reference(None, 10) == 10


def test_a_later_execution_weighs_two_fifths() -> None:
    assert metrics.update_reference(10, 20) == pytest.approx(14)


def test_time_avoided_leaves_out_hits_of_unknown_cost_and_says_how_many() -> None:
    found = metrics.time_avoided(WARM.steps, [None, 5.0, None])
    assert (found.seconds, found.hits_counted, found.hits_unknown) == (5.0, 1, 1)


def test_the_efficiency_of_a_warm_build_is_one_and_of_a_cold_one_zero() -> None:
    for known, wanted in ((WARM, 1.0), (COLD, 0.0)):
        avoided = metrics.time_avoided(known.steps, [None, None, None])
        assert metrics.cache_efficiency(avoided, metrics.figures(known)) == wanted


def test_the_efficiency_is_the_share_of_time_avoided() -> None:
    avoided = metrics.time_avoided(HALF.steps, [None, 3.0, 1.0])
    assert metrics.cache_efficiency(avoided, metrics.figures(HALF)) == pytest.approx(0.75)


def test_without_any_known_cost_there_is_no_efficiency() -> None:
    avoided = metrics.time_avoided(HALF.steps, [None, None, None])
    assert metrics.cache_efficiency(avoided, metrics.figures(HALF)) is None


def test_an_efficiency_of_no_time_at_all_is_unknown() -> None:
    assert metrics.efficiency(hits=1, misses=1, seconds_avoided=0.0, seconds_spent=0.0) is None
    assert metrics.efficiency(hits=0, misses=0, seconds_avoided=0.0, seconds_spent=0.0) is None


def test_unexpected_misses_are_not_in_the_reachable_efficiency() -> None:
    lost = find_breaks(HALF, None).breaks[0]
    unexpected = type(lost)(
        position=lost.position, cascade=(), cause="cache_lost", confidence=lost.confidence, expected=False, evidence=()
    )
    assert metrics.reachable_efficiency(HALF.steps, [None, 3.0, 2.0], [unexpected]) == 1.0
    assert metrics.reachable_efficiency(HALF.steps, [None, 3.0, 2.0], [lost]) == pytest.approx(0.75)


def test_a_step_below_an_expected_break_too_stays_a_miss() -> None:
    breaks = find_breaks(COLD, None).breaks
    expected = breaks[0]
    unexpected = type(expected)(
        position=2, cascade=(), cause="cache_lost", confidence=expected.confidence, expected=False, evidence=()
    )
    assert metrics.reachable_efficiency(COLD.steps, [None] * 3, [expected, unexpected]) == 0.0


def test_a_spared_miss_without_reference_counts_with_its_own_seconds() -> None:
    first = find_breaks(HALF, None).breaks[0]
    unexpected = type(first)(
        position=1, cascade=(), cause="cache_lost", confidence=first.confidence, expected=False, evidence=()
    )
    known = build(step("FROM a", False, index=1), step("RUN x", False, 3, index=2), step("RUN y", False, 1, index=3))
    assert metrics.reachable_efficiency(known.steps, [None] * 3, [unexpected]) == pytest.approx(0.75)


def test_overhead_is_the_time_of_cache_imports_and_exports() -> None:
    known = build(
        cache_imports=(CacheTransfer(ref="r", succeeded=True, seconds=1.5),),
        cache_exports=(CacheTransfer(ref="r", succeeded=True, seconds=2.0), CacheTransfer(ref="s", succeeded=None)),
    )
    assert metrics.cache_overhead(known) == 3.5


def test_overhead_is_unknown_when_no_transfer_is_timed_and_nothing_when_there_was_none() -> None:
    assert metrics.cache_overhead(build(cache_imports=(CacheTransfer(ref="r", succeeded=True),))) is None
    assert metrics.cache_overhead(build()) == 0


def test_net_saving_may_be_below_zero() -> None:
    assert metrics.net_saving(10, 12) == -2


def test_the_price_of_a_break_is_itself_and_its_cascade() -> None:
    assert metrics.miss_cost(COLD.steps, 1, [2]) == 4.0
    assert metrics.miss_cost((step("RUN x", False, index=2),), 0, []) is None


def test_expected_breaks_cost_rebuild_time_and_unexpected_ones_are_lost() -> None:
    (found,) = find_breaks(COLD, None).breaks
    assert metrics.rebuild_seconds([found]) == 4.0
    assert metrics.seconds_lost([found]) == 0.0


def test_wall_time_saved_follows_the_critical_path_not_the_sum() -> None:
    known = build(
        step("FROM a", False, index=1, stage="a"),
        step("RUN x", True, index=2, stage="a"),
        step("FROM b", False, index=1, stage="b"),
        step("RUN y", True, index=2, stage="b"),
        step("COPY --from=a / /", False, 1.0, index=3, stage="b"),
    )
    path = metrics.critical_path(known, trace_lineage(known), [None, 10.0, None, 4.0, None])
    assert path is not None
    assert path.seconds == 1.0
    assert path.seconds_without_cache == 11.0
    assert path.wall_seconds_saved == 10.0
    assert path.positions[-1] == 4


def test_there_is_no_critical_path_without_times() -> None:
    assert (
        metrics.critical_path(
            WARM.__class__(builder=None, format="quiet", outcome=Outcome.SUCCEEDED), trace_lineage(build()), []
        )
        is None
    )


def record(outcome: Outcome = Outcome.SUCCEEDED, **fields) -> BuildRecord:
    return BuildRecord(**{"outcome": outcome, "hits": 1, "misses": 1, **fields})


def test_a_summary_adds_first_and_divides_then() -> None:
    found = metrics.summarize(
        [
            record(hits=9, misses=1, seconds_spent=1.0, seconds_avoided=9.0, overhead_seconds=2.0),
            record(hits=0, misses=2, seconds_spent=10.0, lost_seconds=4.0, rebuild_seconds=6.0),
        ]
    )
    assert found.hit_rate == 0.75
    assert found.hit_rate_median == pytest.approx(0.45)
    assert found.hit_rate_p10 == pytest.approx(0.09)
    assert found.cache_efficiency == pytest.approx(9 / 20)
    assert (found.lost_seconds, found.rebuild_seconds, found.net_saving_seconds) == (4.0, 6.0, 7.0)


def test_failed_builds_count_for_lost_time_and_not_for_rates() -> None:
    found = metrics.summarize([record(hits=1, misses=0), record(Outcome.FAILED, hits=0, misses=9, lost_seconds=5.0)])
    assert (found.builds, found.failed, found.hit_rate, found.lost_seconds) == (2, 1, 1.0, 5.0)


def test_a_summary_of_nothing_knows_nothing() -> None:
    found = metrics.summarize([])
    assert (found.builds, found.hit_rate, found.hit_rate_p10, found.cache_efficiency) == (0, None, None, None)


def test_a_quantile_lies_between_two_values() -> None:
    assert metrics.quantile([4.0, 1.0, 2.0, 3.0], 0.5) == 2.5
    assert metrics.quantile([], 0.5) is None


def test_a_quantile_from_bins_is_exact_to_half_a_bin() -> None:
    rates = [0.0, 0.12, 0.5, 0.77, 1.0]
    counts = [0] * metrics.HIT_RATE_BINS
    for rate in rates:
        counts[metrics.hit_rate_bin(rate)] += 1
    for share in (0.0, 0.1, 0.5, 1.0):
        exact = metrics.quantile(rates, share)
        assert metrics.quantile_of_bins(counts, share) == pytest.approx(exact, abs=0.025)
    assert metrics.quantile_of_bins({20: 3}, 0.1) == 1.0
    assert metrics.quantile_of_bins([0, 0], 0.5) is None


def test_pull_churn_is_what_the_previous_release_did_not_have() -> None:
    assert metrics.pull_churn([("a", 10), ("b", 5), ("b", 5)], {"a"}) == 5


@pytest.mark.parametrize(
    ("ref", "backend"),
    [
        ("127.0.0.1:5000/orders:buildcache", "registry"),
        ("registry", "registry"),
        ("gha:main", "gha"),
        ("GitHub Actions Cache", "gha"),
        ("local:9708778129417660031", "local"),
        ("client directory", "local"),
        ("s3:1234", "s3"),
        ("inline", "inline"),
        ("elsewhere", "other"),
        (None, "other"),
    ],
)
def test_a_transfer_tells_its_backend(ref: str | None, backend: str) -> None:
    assert metrics.cache_backend(ref) == backend


def test_net_saving_is_told_for_each_backend_that_stood_alone() -> None:
    def build(imports: dict[str, float | None], exports: dict[str, float | None]) -> list[CacheTransfer]:
        sides = (*imports.items(), *exports.items())
        return [CacheTransfer(ref=ref, succeeded=True, seconds=seconds) for ref, seconds in sides]

    found = metrics.summarize_backends(
        [
            (build({"r.example.org/a:c": 1.0}, {"registry": 4.0}), 3.0),
            (build({"r.example.org/a:c": None}, {}), 10.0),
            (build({"gha:x": 2.0}, {"registry": 1.0}), 50.0),
            (build({}, {}), 7.0),
        ]
    )
    assert [(f.backend, f.builds, f.overhead_seconds, f.seconds_avoided, f.net_saving_seconds) for f in found] == [
        ("registry", 3, 6.0, 13.0, 8.0),
        ("gha", 1, 2.0, 0.0, 0.0),
    ]
