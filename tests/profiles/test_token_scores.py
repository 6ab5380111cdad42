"""Effects of classes of tokens: planted on the last tokens of a row, or on rare ones."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError
from pythia_profile.profiles.estimands import EstimandPlan, estimands
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.token_scores import by_frequency, by_position, class_scores

TARGETS, CHECKPOINTS = 12, (0, 10, 20)
NONE = EstimandPlan(reassignments=0)


def sample(seed=0, per_cohort=80, never=160):
    """Rows of 13 tokens; tokens below 3 are common, the other 60 rare."""
    rng = np.random.default_rng(seed)
    step = np.concatenate([np.repeat([5, 15], per_cohort), np.full(never, -1)])
    tokens = np.where(rng.random((len(step), TARGETS + 1)) < 0.5, 0, rng.integers(3, 63, (1, 1)))
    rare = rng.random(tokens.shape) < 0.5
    tokens = np.where(rare, rng.integers(3, 63, tokens.shape), rng.integers(0, 3, tokens.shape))
    rows = pl.DataFrame(
        {
            "row_id": np.arange(len(step)),
            "treatment_step": pl.Series(step).replace(-1, None),
            "tokens": pl.Series(tokens.tolist(), dtype=pl.List(pl.UInt16)),
        }
    )
    return rows, step, tokens


def units(step, effect, seed=1, noise=0.3):
    """Token tables of each checkpoint; reading takes `effect` (U, T) off the surprisal."""
    rng = np.random.default_rng(seed)
    level = rng.normal(3, 0.5, effect.shape)
    for c in CHECKPOINTS:
        read = (step > 0) & (step <= c)
        surprisal = level - 0.02 * c - read[:, None] * effect + noise * rng.normal(size=level.shape)
        kind = pl.Array(pl.Float16, TARGETS)
        table = {
            "row_id": np.arange(len(step)),
            "surprisal": pl.Series(surprisal.astype(np.float16), dtype=kind),
        }
        yield ("mine", "s", 0, c), pl.DataFrame(table)


def effects_of(rows, classes, tables):
    by_class = estimate(
        rows, class_scores(tables, classes), Estimation(missing="balanced"), outcomes=classes.names
    )
    found = estimands(by_class, plan=NONE, by_class=by_class)
    strata = found.filter(pl.col("estimand") == "overall", pl.col("stratum").is_not_null())
    return {line["stratum"]: line for line in strata.iter_rows(named=True)}


def test_an_effect_on_the_end_of_a_row_is_found_there():
    rows, step, _ = sample()
    effect = np.broadcast_to(np.where(np.arange(TARGETS) >= 9, 0.4, 0.0), (len(step), TARGETS))

    found = effects_of(rows, by_position(rows, 4), units(step, effect))

    assert [*found][:4] == ["tokens 1-3", "tokens 4-6", "tokens 7-9", "tokens 10-12"]
    for name, line in found.items():
        planted = 0.4 if name.startswith("tokens 10-12") else 0.0
        assert line["att"] == pytest.approx(planted, abs=4 * line["se"])
    gap, last = found["tokens 10-12 minus tokens 1-3"], found["tokens 10-12"]
    assert gap["lower"] > 0.2
    assert last["se"] < 0.05


def test_an_effect_on_rare_tokens_is_found_on_these():
    rows, step, tokens = sample()
    effect = np.where(tokens[:, 1:] >= 3, 0.4, 0.1)

    found = effects_of(rows, by_frequency(rows, 2), units(step, effect))

    rare, common = [*found][:2]
    assert found[rare]["att"] == pytest.approx(0.4, abs=4 * found[rare]["se"])
    assert found[common]["att"] == pytest.approx(0.1, abs=4 * found[common]["se"])


def test_class_means_are_those_of_a_loop_and_null_without_tokens():
    rows, step, _ = sample(per_cohort=3, never=4)
    classes = by_frequency(rows, 3)
    (names, table), *_ = units(step, np.zeros((len(step), TARGETS)))

    found = class_scores([(names, table[::-1])], classes)

    surprisal = table["surprisal"].to_numpy().astype(np.float64)
    for line in found.iter_rows(named=True):
        row = line["row_id"]
        for k, name in enumerate(classes.names):
            mine = surprisal[row][classes.number[row] == k]
            expected = -mine.mean() if mine.size else None
            assert line[name] == (expected and pytest.approx(expected, abs=1e-6))


def test_classes_hold_about_equal_numbers_of_occurrences():
    rows, *_ = sample()

    for classes in (by_frequency(rows, 2), by_position(rows, 4)):
        share = np.bincount(classes.number.ravel()) / classes.number.size
        assert abs(share - 1 / len(share)).max() < 0.1


def test_other_rows_are_refused():
    rows, step, _ = sample(per_cohort=3, never=4)
    tables = [*units(step, np.zeros((len(step), TARGETS)))]

    with pytest.raises(TableError, match=r"at checkpoint 0: .* not those of the 5 rows"):
        class_scores(tables, by_position(rows[:5], 2))
    with pytest.raises(TableError, match="no unit has a table of its tokens"):
        class_scores([], by_position(rows, 2))
