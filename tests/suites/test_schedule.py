"""Learning rates against values worked out by hand from the training code's formula."""

import json
from pathlib import Path

import numpy as np
import pytest

from pythia_profile.suites.registry import open_suite, suite_facts_of
from pythia_profile.suites.schedule import neox_2026, neox_current, neox_v1, olmo_cosine

BY_HAND = {
    # update g -> rate in units of the peak: (g − 1)/1430 in the warm-up, then
    # ½ (1 + cos(π (g − 1 − 1430) / 143000)), cut off at a tenth; worked out from this formula
    1: 0.0,
    2: 1 / 1430,
    1431: 1.0,
    50_000: 0.741368,
    95_000: 0.266968,
    115_000: 0.100924,
    116_000: 0.1,
    143_000: 0.1,
}


@pytest.mark.parametrize(("peak", "floor"), [(1e-3, 1e-4), (1.2e-4, 1.2e-5)])
@pytest.mark.parametrize("update", BY_HAND)
def test_pythias_rate_at_known_updates(update, peak, floor):
    rate = neox_v1([update], peak=peak, minimum=floor, warmup=1430, total=143_000).item()

    assert rate == pytest.approx(BY_HAND[update] * peak, rel=1e-5)  # digits of the table above


def test_the_floor_is_reached_before_the_end_and_kept():
    updates = np.arange(1, 143_001)
    rates = neox_v1(updates, peak=1.0, minimum=0.1, warmup=1430, total=143_000)

    first = int(updates[(rates == 0.1) & (updates > 1431)][0])
    # ½ (1 + cos x) = 0.1 at x = acos(−0.8) = 2.498092; 143000 · x / π = 113708.9 updates later
    assert first == 1431 + 113_709
    assert (rates[first - 1 :] == 0.1).all()


def test_current_code_ends_at_the_floor_and_not_before():
    rates = neox_current(
        [1, 1431, 143_000, 143_001], peak=1.0, minimum=0.1, warmup=1430, total=143_000
    )

    assert rates[[0, 1, 3]] == pytest.approx([0.0, 1.0, 0.1])
    assert rates[2] > 0.1


def test_update_1_has_a_rate_since_may_2026():
    # t = g - 1 done: max(1, t)/4 of the peak until t = 4, then 0.1 + 0.45 (1 + cos(pi (t - 4)/8))
    updates = [1, 2, 3, 5, 9, 13, 14]

    rates = neox_2026(updates, peak=1.0, minimum=0.1, warmup=4, total=12)

    assert rates == pytest.approx([0.25, 0.25, 0.5, 1.0, 0.55, 0.1, 0.1])
    before = neox_current(np.arange(2, 20), peak=1.0, minimum=0.1, warmup=4, total=12)
    after = neox_2026(np.arange(2, 20), peak=1.0, minimum=0.1, warmup=4, total=12)
    assert (before == after).all()
    assert neox_2026([1, 13], peak=1.0, minimum=0.1, warmup=0, total=12).tolist() == [1.0, 0.1]


def test_a_run_without_warm_up_starts_at_the_peak():
    assert neox_v1([1], peak=2.0, minimum=0.0, warmup=0, total=10).item() == 2.0


def test_olmo_counts_the_batch_that_is_read():
    # OLMo-2 7B: 8,388,608,000 tokens of warm-up are 2000 steps of 1024 rows of 4096 tokens
    rates = olmo_cosine(
        [1, 2000, 2001, 928_646, 1_192_093],
        peak=3e-4,
        minimum=3e-5,
        warmup=2000,
        total=5e12 / (1024 * 4096),
    )

    assert rates[:2].tolist() == [pytest.approx(1.5e-7), pytest.approx(3e-4)]
    tokens = 928_646 * 1024 * 4096
    span = np.cos(np.pi * (tokens - 8_388_608_000) / (5e12 - 8_388_608_000))
    assert rates[3] == pytest.approx(3e-5 + 1.35e-4 * (1 + span), rel=1e-12)
    assert rates[4] == pytest.approx(3e-5, rel=1e-9)


def test_the_last_updates_of_stage_2_have_rate_0():
    suite = open_suite("olmo2-7b-stage2", seed=1)

    rates = suite.learning_rate("7b", np.arange(1, 11_932))

    assert rates[0] == pytest.approx(6.1499e-5 * (1 - 1 / 11_921))
    assert (rates[-11:] == 0).all()
    assert rates[-12] > 0
    assert suite.same_weights("7b", 11_920, 11_931)


def test_the_peak_of_the_13b_is_that_of_its_launch():
    suite = open_suite("olmo2-13b")

    assert suite.learning_rate("13b", [1000]).item() == pytest.approx(9e-4)
    # stage 2 begins where stage 1 ends
    assert suite.learning_rate("13b", [596_057]).item() == pytest.approx(9e-5, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "size", "stage"), [("olmo2-7b", "7b", "stage1"), ("olmo2-7b-stage2", "7b", "stage2")]
)
def test_rates_are_those_of_olmos_own_schedulers(name, size, stage):
    golden = Path(__file__).parents[1] / "data_order" / "golden" / "shuffled_order.json"
    updates, rates = json.loads(golden.read_text())["rates"][stage]

    found = suite_facts_of(name).learning_rate(size, updates)

    # sums and cosines of float64 in another order
    assert found == pytest.approx(rates, rel=1e-9, abs=1e-18)
