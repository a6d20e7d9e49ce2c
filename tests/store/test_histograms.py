"""Histograms of hit rates and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachescope.metrics import quantile
from store.queries import histograms


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.floats(0, 1))
def test_quantiles_of_hit_rates_are_exact_to_half_a_thousandth(hits, share):
    rates = [hit / 40 for hit in hits]
    counted = histograms.merge([histograms.count_bins(map(histograms.rate_bin, rates))])
    assert histograms.rate_quantile(counted, share) == pytest.approx(quantile(rates, share), abs=5e-4)


@given(st.lists(st.floats(0.01, 100_000), min_size=1, max_size=40))
def test_medians_of_durations_are_exact_to_one_percent(seconds):
    odd = [*seconds, seconds[0]] if len(seconds) % 2 == 0 else seconds
    counted = histograms.merge([histograms.count_bins(map(histograms.duration_bin, odd))])
    assert histograms.duration_quantile(counted, 0.5) == pytest.approx(quantile(odd, 0.5), rel=0.0101)


def test_histograms_of_several_days_add_up():
    assert histograms.merge([{"500": 2}, {"500": 1, "1000": 4}]) == {500: 3, 1000: 4}


def test_there_is_no_quantile_of_nothing():
    assert histograms.rate_quantile({}, 0.5) is None
    assert histograms.duration_quantile({}, 0.5) is None


@pytest.mark.parametrize(
    ("value", "expected"), [(1.0, True), (None, False), (float("inf"), False), (float("nan"), False)]
)
def test_only_finite_values_are_counted(value, expected):
    assert histograms.is_countable(value) is expected


def test_a_bin_stands_for_the_value_it_was_made_from():
    assert histograms.rate_of_bin(histograms.rate_bin(0.625)) == 0.625
    assert histograms.duration_of_bin(histograms.duration_bin(41.2)) == pytest.approx(41.2, rel=0.011)
    assert histograms.duration_of_bin(histograms.duration_bin(0.0)) == pytest.approx(0.01, rel=0.011)


def test_a_quantile_does_not_depend_on_the_order_of_the_bins():
    assert histograms.bin_quantile({900: 1, 100: 1, 500: 1}, 0.5) == 500
