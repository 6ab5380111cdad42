"""Rates, thresholds, transitions and overlaps, counted by hand; kinds by their stated rules."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.errors import NotFoundError
from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_families import FAMILIES, families_table, family
from pythia_profile.labs.recall.recall_kinds import composition, counts_on, domain, kinds, repeats
from pythia_profile.labs.recall.recall_scores import score_model
from pythia_profile.labs.recall.recall_sets import (
    overlap,
    rate_by_frequency,
    threshold_frequency,
    transitions,
)
from pythia_profile.labs.recall.recall_settings import Lengths
from pythia_profile.suites.registry import known_suites
from tests.tiny_classes import CONFIGS, tiny_of_class


def test_a_threshold_is_the_lowest_frequency_with_no_failure_above_it():
    frequency = np.repeat([1, 2, 4, 8], 4)
    lucky = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])

    rates = rate_by_frequency(frequency, lucky)

    assert rates["memorized"].to_list() == [3, 0, 2, 4]
    assert rates["sequences"].to_list() == [4] * 4
    assert threshold_frequency(rates) == 4  # frequency 1 is above half, 2 is not
    assert threshold_frequency(rates, 0.75) == 8
    assert threshold_frequency(rate_by_frequency(frequency, np.zeros(16))) is None


def test_wilson_intervals_are_those_of_the_formula():
    rates = rate_by_frequency([3] * 20, [1] * 7 + [0] * 13)

    z, n, p = 1.959963984540054, 20, 0.35
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert rates.row(0)[-2:] == pytest.approx((middle - half, middle + half), rel=1e-9)


def test_every_sequence_makes_one_transition_a_step():
    exact = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 1, 0]])

    found = transitions(exact, [0, 10, 20])

    assert found["before"].to_list() == [0, 10]
    assert found["learned"].to_list() == [2, 1]
    assert found["forgotten"].to_list() == [1, 2]
    assert found["kept"].to_list() == [1, 1]
    assert found["never"].to_list() == [1, 1]
    assert found["kept_share"].to_list() == [0.5, pytest.approx(1 / 3)]
    assert transitions(np.zeros((3, 2)), ["a", "b"])["kept_share"].to_list() == [None]
    with pytest.raises(RecallError, match=r"exact: got \(5, 3\), expected \(sequences, 2\)"):
        transitions(exact, [0, 10])


def test_overlaps_are_counted_beside_what_chance_gives():
    rng = np.random.default_rng(0)
    one = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    other = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0])

    found = overlap({"a": one, "b": other, "c": np.zeros(10)})

    assert found["one"].to_list() == ["a", "a", "b"]
    assert found.row(0, named=True)["jaccard"] == pytest.approx(2 / 5)
    assert found.row(0, named=True)["of_smaller"] == pytest.approx(2 / 3)
    assert found["by_chance"][0] == pytest.approx(4 * 3 / 10)
    assert found["jaccard"][1] == 0
    drawn = [(rng.permutation(one) & other).sum() for _ in range(20_000)]
    # probability of two or more shared by permuting; three standard errors of 20,000 draws
    assert found["p"][0] == pytest.approx(np.mean(np.array(drawn) >= 2), abs=0.011)
    assert np.mean(drawn) == pytest.approx(1.2, abs=0.02)
    with pytest.raises(RecallError, match="sets of different sequences: a 10, b 9"):
        overlap({"a": one, "b": one[1:]})


def test_kinds_follow_their_rule():
    rows = np.array([[1, 2] * 6, [*range(12)], [*range(12)], [5] * 12])

    assert repeats(rows).tolist() == [True, False, False, True]
    assert kinds([50, 50, 2, 1], rows).tolist() == [
        *("reconstruction", "recitation", "recollection", "reconstruction")
    ]
    texts = ["", "1 a, 2 b, 3 c, 4 d", "9 8 7 5", ""]
    assert kinds([1, 50, 50, 1], rows, texts)[1:3].tolist() == ["reconstruction", "recitation"]
    assert [counts_on(one) for one in ("10, 20, 30, 40", "4 4 4 4", "1 2 3")] == [
        *(True, False, False)
    ]
    with pytest.raises(RecallError, match="1 texts of 4 rows"):
        kinds([1] * 4, rows, ["a"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x):\n    y = x + 1\n    return y;\n", "code"),
        ('int main() {\n  printf("a");\n}\n', "code"),
        ("| a | b |\n| 1 | 2 |\n", "table"),
        ("name\tage\tcity\nAnn\t3\tRome\n", "table"),
        ("- milk\n- bread\n- eggs\n", "list"),
        ("1. Open it.\n2. Close it.\n", "list"),
        ("It was late, and nobody came.\nSo we went home.\n", "prose"),
        ("", "prose"),
    ],
)
def test_domains_follow_their_rule(text, expected):
    assert domain(text) == expected


def test_compositions_are_counted_among_all_and_among_memorized():
    found = composition(["code", "code", "prose", "prose"], [1, 1, 0, 1], ("code", "list", "prose"))

    assert found["sequences"].to_list() == [2, 0, 2]
    assert found["rate"].to_list() == [1.0, None, 0.5]
    assert found["share_of_memorized"].to_list() == pytest.approx([2 / 3, 0, 1 / 3])
    assert found["enrichment"].to_list() == [pytest.approx(4 / 3), None, pytest.approx(2 / 3)]


def test_every_family_is_of_a_class_that_loads_and_of_suites_that_exist():
    for one in FAMILIES.values():
        assert one.model_type in CONFIGS
        assert {*one.suites} <= {*known_suites()}
        assert one.suites or one.repositories
    assert {one.model_type for one in FAMILIES.values()} == set(CONFIGS)
    assert families_table()["family"].to_list() == list(FAMILIES)


@pytest.mark.parametrize("name", ["openllama", "starcoder"])
def test_what_preceded_a_text_in_training_precedes_each_row(name, tmp_path):
    """Rows with the prefix written into them, scored without a family, give the same."""
    of = family(name)
    model = tiny_of_class(of.model_type)
    model.save_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(2, 50, (30, 8))
    written = np.hstack([np.tile(of.prefix, (30, 1)).astype(int), tokens])
    lengths = Lengths(prompt=4, continuation=2)

    found = score_model(tmp_path, rows_of(tokens), lengths, of=of)

    longer = Lengths(prompt=4 + len(of.prefix), continuation=2)
    expected = score_model(tmp_path, rows_of(written), longer)
    assert found.equals(expected)
    assert found["row_id"].to_list() == [*range(30)]
    with pytest.raises(RecallError, match=f"its class is {of.model_type}, that of family 'olmo2'"):
        score_model(tmp_path, rows_of(tokens), lengths, of=family("olmo2"))


def test_a_typo_in_a_family_is_answered():
    with pytest.raises(NotFoundError, match="did you mean 'openllama'"):
        family("open-llama")


def rows_of(tokens):
    return pl.DataFrame({"row_id": np.arange(len(tokens)), "tokens": tokens.tolist()})
