"""Hubble, Amber, Pico, OLMo 1 and OLMo 3 as data: points of their schedules computed by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from data_order.shuffled.runs import RUNS
from pythia_profile.errors import NotFoundError
from pythia_profile.suites.pythia import PUBLISHED
from pythia_profile.suites.registry import open_suite, suite_facts_of
from pythia_profile.suites.sampling import open_rows

GOLDEN = Path(__file__).parents[1] / "data_order" / "golden" / "filed_order.json"
CLOSE = {"rel": 1e-12}  # the same formula in float64


def test_rates_of_amber_are_those_of_its_own_function():
    suite = open_suite("amber")

    for update, rate in json.loads(GOLDEN.read_text())["rates"]:
        assert suite.learning_rate("7b", [update])[0] == pytest.approx(rate, abs=1e-19, **CLOSE)


def test_rates_of_hubble_are_gpt_neox_s_cosine_to_a_tenth():
    short, long = open_suite("hubble-100b-standard"), open_suite("hubble-500b-perturbed")

    # t = g - 1: half of the warm-up, its end, half of the cosine, the end
    updates = [1, 1201, 2401, 2401 + 22_800, 48_001]
    expected = [0, 2e-4, 4e-4, 2.2e-4, 4e-5]
    assert short.learning_rate("1b", updates).tolist() == pytest.approx(expected, **CLOSE)
    assert long.learning_rate("8b", [2386])[0] == pytest.approx(4e-4, **CLOSE)
    assert short.same_weights("1b", 0, 1)


def test_rates_of_pico_are_two_lines():
    found = open_suite("pico").learning_rate("tiny", [1, 1251, 2501, 101_251, 200_000])

    expected = [0, 1.5e-4, 3e-4, 1.5e-4, 3e-4 / 197_500]
    assert found.tolist() == pytest.approx(expected, **CLOSE)


def test_rates_of_olmo_1_begin_at_a_tenth_of_the_peak():
    # t = g: 0.1 + 0.9/2000 of the peak, half way up, the top, half of the cosine, its end
    updates = [1, 1000, 2000, 2000 + (739_328 - 2000) // 2, 739_328]
    expected = [4e-4 * (0.1 + 0.9 / 2000), 4e-4 * 0.55, 4e-4, 2.2e-4, 4e-5]
    found = open_suite("olmo-1b").learning_rate("1b", updates)
    assert found.tolist() == pytest.approx(expected, **CLOSE)
    linear = open_suite("olmo-7b").learning_rate("7b", [2500, 5000, 281_000, 557_000])
    assert linear.tolist() == pytest.approx([1.65e-4, 3e-4, 1.65e-4, 3e-5], **CLOSE)


def test_stage_2_of_the_32b_falls_from_the_end_of_stage_1_to_0_at_its_last_step():
    # by hand: 6e-5 + 2.7e-4 (1 + cos(pi (721,901 - 2000) / (774,861 - 2000)))
    end = 6e-5 + 2.7e-4 * (1 + math.cos(math.pi * 719_901 / 772_861))
    first, third = open_suite("olmo2-32b-stage2", seed=1), open_suite("olmo2-32b-stage2", seed=3)

    rates = first.learning_rate("32b", [1, 5960, 11_920, 11_921])
    expected = [end * (1 - g / 11_921) for g in (1, 5960, 11_920, 11_921)]
    assert end == pytest.approx(6.62e-5, rel=1e-3)
    assert rates.tolist() == pytest.approx(expected, abs=1e-18)
    assert (third.steps, third.order.seed, third.order.batch_size) == (35_763, 2662, 2048)
    long = open_suite("olmo2-13b-stage2", seed=4)
    assert long.learning_rate("13b", [35_762, 35_763, 35_773]).tolist()[1:] == [0, 0]
    assert long.learning_rate("13b", [35_762])[0] > 0


def test_the_order_of_olmo_3_32b_is_known_and_its_rate_is_not():
    suite, run = open_suite("olmo3-32b"), RUNS["olmo3-32b"]

    assert (run.seed, run.batch_size, run.row_tokens, run.first_pass) == (34521, 1024, 8192, 1)
    assert run.filtered
    assert not RUNS["olmo3-7b"].filtered
    assert len(run.files.paths) == len(set(run.files.paths)) == 950
    assert "its rate is not known" in " ".join(suite.notes)
    assert not suite.same_weights("32b", 0, 1)
    # by hand: 64 layers of 5120, key width 1024, hidden 27,648; norms of queries and keys
    layer = 2 * 5120**2 + 2 * 5120 * 1024 + 3 * 5120 * 27_648
    norms = 64 * (3 * 5120 + 1024) + 5120
    assert suite.size("32b").parameters == 64 * layer + norms + 2 * 100_352 * 5120


def test_midtraining_of_olmo_3_is_100_billion_tokens_on_a_line_to_0():
    run = RUNS["olmo3-7b-stage2-1"]

    # `MAX_TOKENS` 100e9 over 2,097,152 tokens a step, rounded up
    assert (run.steps, run.batch_size, run.row_tokens) == (-(-(10**11) // 2**21), 256, 8192)
    assert (run.seed, run.first_pass, run.filtered, run.idle_from) == (1337, 1, False, 47_684)
    rates = open_suite("olmo3-7b-stage2").learning_rate("7b", [1, 23_842, 47_684])
    peak = 0.00020712352850360292
    expected = [peak * (1 - 1 / 47_684), peak / 2, 0]
    assert rates.tolist() == pytest.approx(expected, abs=1e-18, **CLOSE)
    first, second = (open_suite("olmo3-32b-stage2", seed=seed) for seed in (1, 2))
    assert first.order.seed == second.order.seed == 42069
    assert first.order.files.paths != second.order.files.paths
    assert (second.steps, second.batch_size, second.order.filtered) == (23_842, 512, True)
    assert second.revision_of(1000) == "stage2-ingredient2-step1000"
    assert open_suite("olmo3-7b-stage2").revision_of(1000) == "stage2-step1000"
    assert any("names of its branches are assumed" in note for note in first.notes)
    assert any("SkipStepAdamW" in note for note in first.notes)


def test_a_checkpoint_of_amber_is_named_by_its_file():
    suite = open_suite("amber")

    assert suite.revision_of(762) == "ckpt_000"
    assert suite.revision_of(274_320) == "ckpt_359"
    assert [suite.step_of(f"ckpt_{n:03}") for n in (0, 1, 359)] == [762, 1524, 274_320]
    for other in ("ckpt_1", "ckpt_0001", "ckpt_-01", "main"):
        assert suite.step_of(other) is None
    assert suite.size("7b").checkpoints == tuple(range(762, 274_321, 762))


def test_parameters_of_the_llamas_are_those_of_their_shapes():
    # 1B: embeddings, head, 16 layers of (q, o; k, v; three of the feed-forward; two norms), a norm
    layer = 2 * 2048**2 + 2 * 2048 * 512 + 3 * 2048 * 8192 + 2 * 2048
    expected = 2 * 50_304 * 2048 + 16 * layer + 2048
    assert open_suite("hubble-100b-standard").size("1b").parameters == expected
    tiny = 2 * 96**2 + 2 * 96 * 32 + 3 * 96 * 384 + 2 * 96
    assert open_suite("pico").size("tiny").parameters == 2 * 50_304 * 96 + 12 * tiny + 96
    assert open_suite("amber").size("7b").parameters == 6_738_415_616


def test_every_suite_says_what_is_missing_in_one_line():
    for name in ("hubble-100b-standard", "hubble-interference-privacy"):
        with pytest.raises(NotFoundError, match="names no store of its rows in training order"):
            open_rows(suite_facts_of(name))
    for runs in PUBLISHED.values():
        for suite in runs:
            assert all("\n" not in note for note in suite.notes)
            rates = suite.learning_rate(next(iter(suite.sizes)), np.arange(1, 200))
            assert all(math.isfinite(rate) and rate >= 0 for rate in rates)
