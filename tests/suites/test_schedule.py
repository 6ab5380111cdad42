"""Learning rates against values worked out by hand from the training code's formula."""

import numpy as np
import pytest

from pythia_profile.suites.schedule import neox_current, neox_v1

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


def test_a_run_without_warm_up_starts_at_the_peak():
    assert neox_v1([1], peak=2.0, minimum=0.0, warmup=0, total=10).item() == 2.0
