"""Top heads by chance, within and between domains; matching and differences."""

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from pythia_profile.errors import EstimationError
from pythia_profile.labs.internals.internals_groups import (
    balance,
    covariates,
    differences,
    matched,
)
from pythia_profile.labs.internals.internals_overlap import (
    agreement,
    chance_jaccard,
    jaccard,
    set_size,
    top_heads,
    universal,
)


def test_heads_of_random_importance_overlap_as_by_chance():
    rng, heads = np.random.default_rng(0), 500
    count = set_size(heads)
    chance = chance_jaccard(heads, count)

    drawn = [top_heads(rng.random((2, heads)), count) for _ in range(1000)]
    found = np.array([jaccard(*pair) for pair in drawn])

    # p/(2 - p) = .111 of p = .2; four standard errors of 1000 draws
    assert found.mean() == pytest.approx(1 / 9, abs=4 * found.std() / 1000**0.5 + 1e-3)
    assert found.mean() == pytest.approx(chance.mean, abs=4 * found.std() / 1000**0.5)
    assert chance.lower < 1 / 9 < chance.upper
    assert 0.94 < ((chance.lower <= found) & (found <= chance.upper)).mean() < 0.985


def test_chance_of_few_heads_is_the_enumeration():
    sets = [frozenset(one) for one in combinations(range(6), 2)]
    values = [len(a & b) / len(a | b) for a in sets for b in sets]

    assert chance_jaccard(6, 2).mean == pytest.approx(np.mean(values))


def domain(rng, important, rows=60, heads=40):
    """Importances in which some heads matter, under as much noise."""
    found = rng.normal(0, 0.5, (rows, heads))
    found[:, important] += 0.5
    return found


def test_halves_of_a_domain_agree_more_than_two_domains_where_a_difference_is_planted():
    rng = np.random.default_rng(1)
    first, second = domain(rng, range(8)), domain(rng, range(20, 28))

    other = agreement(first, second, 8, seed=0, draws=99)
    same = agreement(first, domain(rng, range(8)), 8, seed=0, draws=99)

    assert other.within > 0.5 > 0.2 > other.between
    assert other.lower > 0
    assert other.p_value == 0.01
    assert same.lower < 0 < same.upper
    assert same.p_value > 0.05


def test_relabeling_has_its_level_where_no_difference_is():
    values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        first, second = domain(rng, range(4), 24, 20), domain(rng, range(4), 24, 20)
        values.append(agreement(first, second, 4, seed=seed, splits=10, draws=39).p_value)

    # 60 draws of a chance of .1: 6 ± 4 standard deviations of 2.3
    assert sum(value <= 0.1 for value in values) <= 15
    assert np.mean(values) > 0.4  # ties make it larger than one half


def test_universal_heads_are_expected_as_the_product_of_shares():
    rng = np.random.default_rng(0)
    sets = top_heads(rng.random((3, 2000)), 1000)

    share, expected = universal(sets)

    assert expected == 0.125
    assert share == pytest.approx(0.125, abs=4 * (0.125 * 0.875 / 2000) ** 0.5)


def test_covariates_are_those_of_counters():
    rows = np.random.default_rng(0).integers(0, 9, (20, 15))
    frequency = np.arange(9)

    found = covariates(rows, frequency)

    for row, line in zip(rows, found, strict=True):
        share = np.array(list(Counter(row.tolist()).values())) / 15
        own = [np.log((frequency[token] + 1) / 45) for token in row]
        expected = [15, np.mean(own), -(share * np.log(share)).sum()]
        np.testing.assert_allclose(line, expected, rtol=1e-12)


def test_matching_is_the_best_of_all_assignments_and_balances():
    rng = np.random.default_rng(0)
    few, pool = rng.normal(size=(4, 2)), rng.normal(1, 1, (6, 2))
    scale = np.concatenate([few, pool]).std(axis=0)

    own, other = matched(few, pool)

    def total(partners):
        return (((few - pool[list(partners)]) / scale) ** 2).sum()

    assert own.tolist() == [0, 1, 2, 3]
    assert total(other) == pytest.approx(min(total(one) for one in permutations(range(6), 4)))
    many = rng.normal(0.8, 1, (50, 3))
    others = rng.normal(0, 1, (600, 3))
    many[:, 0] = others[:, 0] = 32  # rows of one length
    _, partners = matched(many, others)
    table = balance(many, others, others[partners])
    assert (table["smd_before"].abs()[1:] > 0.5).all()
    assert (table["smd_after"].abs() < 0.1).all()
    with pytest.raises(EstimationError, match="0 and 6 rows"):
        matched(few[:0], pool)


@pytest.mark.parametrize("paired", [True, False])
def test_differences_are_scipys(paired):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30, 3))

    found, lower, upper = differences(first, second, paired=paired)

    test = ttest_rel(first, second) if paired else ttest_ind(first, second, equal_var=False)
    interval = test.confidence_interval()
    np.testing.assert_allclose(found, (first - second).mean(axis=0))
    np.testing.assert_allclose([lower, upper], [interval.low, interval.high])
