"""Forks of the mini suite: which rows they read when, and what they are worth."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import pythia_profile as pp
from pythia_profile.cli import app
from pythia_profile.did.errors import PanelShapeError
from pythia_profile.errors import NotFoundError, TableError
from pythia_profile.mini.build import config_of
from pythia_profile.mini.forks import fork_order, forked, rows_in_fork, training_seeds
from pythia_profile.pipeline.inputs import read_tables
from pythia_profile.pipeline.other_orders import crossover_of
from pythia_profile.pipeline.running import run_stage
from pythia_profile.pipeline.stages import STAGES, inputs_of
from pythia_profile.profiles.two_orders import crossover, crossover_sentences
from pythia_profile.report.page import render
from pythia_profile.study import create_study, new_study, open_study
from pythia_profile.tables import CROSSOVER, CROSSOVER_MEANS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def forks(tiny_suite, tiny_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forks")
    return forked(tiny_suite, "xs", tiny_rows, folder=folder, at=16, seeds=(1, 2), workers=1)


def test_a_fork_reads_the_rows_that_are_left_each_once_in_an_order_of_its_seed(tiny_config):
    orders = [fork_order(tiny_config, 16, seed) for seed in (1, 2)]

    left = np.arange(16 * tiny_config.batch_size, tiny_config.training_rows)
    assert all(np.array_equal(np.sort(order), left) for order in orders)
    assert not np.array_equal(*orders)


def test_steps_and_batches_of_rows_are_those_of_the_fork(tiny_config, tiny_rows):
    moved = rows_in_fork(tiny_rows, tiny_config, 16, 1)
    order = fork_order(tiny_config, 16, 1).reshape(-1, tiny_config.batch_size)

    for row, step, batch in moved.select("row_id", "treatment_step", "batch").rows():
        if row >= tiny_config.training_rows:
            assert step is None
        elif row < 16 * tiny_config.batch_size:
            assert step == row // tiny_config.batch_size + 1
        else:
            assert row in order[step - 17]
            assert batch == step - 1
    assert moved.drop("treatment_step", "batch").equals(tiny_rows.drop("treatment_step", "batch"))


def test_a_fork_begins_with_the_weights_of_the_run_and_leaves_them(forks, tiny_scores):
    own = tiny_scores.filter(size="xs").sort("checkpoint", "row_id")
    for _, scores in forks:
        both = own.join(scores, on=["checkpoint", "row_id"], suffix="_fork")
        apart = (both["log_likelihood"] - both["log_likelihood_fork"]).abs()
        # two processes score the same weights with batches of other sizes, in float32
        assert apart.filter(both["checkpoint"] == 16).max() < 1e-4
        assert apart.filter(both["checkpoint"] == 64).max() > 0.01


def test_crossover_agrees_with_the_run_alone_and_gains(forks, tiny_rows, tiny_scores):
    xs = tiny_scores.filter(size="xs")

    found = crossover(tiny_rows, xs, forks)

    assert found.cells.schema == CROSSOVER.columns
    assert found.means.schema == CROSSOVER_MEANS.columns
    means = {line["estimator"]: line for line in found.means.filter(kind="overall").to_dicts()}
    assert [*means] == ["did", "crossover mini 1", "crossover mini 2", "combined"]
    assert means["combined"]["se"] < means["did"]["se"]
    # the two share treated rows, so their difference varies less than this
    gap = abs(means["combined"]["att"] - means["did"]["att"])
    assert gap < 3 * (means["combined"]["se"] ** 2 + means["did"]["se"] ** 2) ** 0.5
    assert "worth" in str(found)


def test_a_study_keeps_its_crossover_and_has_a_section_for_the_report(
    forks, tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    studies = []
    for name, rows, scores in (
        ("own", tiny_rows, tiny_scores.filter(size="xs")),
        ("other", *forks[0]),
    ):
        folder = tmp_path / name
        create_study(folder, new_study(str(tiny_suite.root), ("xs",), {"training_seed": 0}))
        rows.write_parquet(folder / "rows.parquet")
        (folder / "scores").mkdir()
        scores.with_columns(seed=pl.lit(0)).write_parquet(folder / "scores" / "all.parquet")
        studies.append(folder)

    made = CliRunner().invoke(app, ["crossover", *map(str, studies)])

    assert made.exit_code == 0, made.output
    assert "combined" in made.output
    means = pl.read_parquet(studies[0] / "crossover_means.parquet")
    sentences = crossover_sentences(means)
    assert means.filter(estimator="combined", kind="overall")["ratio"].item() < 1
    assert sentences[0] in made.output
    study = open_study(studies[0])
    for stage in ("att", "profile"):
        run_stage(studies[0], stage)
    assert "crossover_means.parquet" in inputs_of(studies[0], study, STAGES[-1])
    page = render(study, read_tables(studies[0], study), {}, pl.DataFrame({"size": ["xs"]}), {})
    assert sentences[0] in page
    assert "worth" in sentences[0]
    with pytest.raises(PanelShapeError, match="one order"):
        crossover_of(studies[0], [studies[0]])


def test_what_cannot_be_forked_or_compared_is_named(tiny_suite, tiny_rows, tiny_scores, tmp_path):
    with pytest.raises(NotFoundError, match="no checkpoint 17 to fork mini xs from; known: 0, 16"):
        forked(tiny_suite, "xs", tiny_rows, folder=tmp_path, at=17)
    with pytest.raises(TableError, match="rows and scores of another run"):
        crossover(tiny_rows, tiny_scores)
    with pytest.raises(TableError, match="no other run has scores of size 's'"):
        crossover(
            tiny_rows,
            tiny_scores.filter(size="s"),
            (tiny_rows, tiny_scores.filter(size="xs")),
        )
    assert config_of(tiny_suite).steps == 64


def test_training_seeds_share_rows_and_nothing_else(tiny_suite, tiny_rows, tiny_scores, tmp_path):
    made = training_seeds(tiny_suite, "xs", tiny_rows, folder=tmp_path, seeds=(1, 2), workers=1)

    (rows_1, scores_1), (rows_2, scores_2) = made
    own = tiny_scores.filter(size="xs", seed=tiny_suite.seed)
    at_start = [
        lines.filter(checkpoint=0).sort("row_id")["log_likelihood"].to_numpy()
        for lines in (own, scores_1, scores_2)
    ]
    assert rows_1["row_id"].equals(rows_2["row_id"])
    assert not rows_1["treatment_step"].equals(rows_2["treatment_step"])  # another order
    assert not any(np.allclose(a, b) for a, b in pairwise(at_start))
    assert training_seeds(tiny_suite, "xs", tiny_rows, folder=tmp_path, seeds=(1,))[0][1].equals(
        scores_1
    )  # found again, not trained again

    estimates = [pp.estimate(tiny_rows, own), *(pp.estimate(*one) for one in made)]
    found = pp.study_findings(estimates, suite=tiny_suite).findings.filter(finding="seeds")
    mean = found.filter(kind="instantaneous", quantity="mean").row(0, named=True)
    each = [
        pp.profile(one).filter(pl.col("cohort").is_null(), kind="instantaneous")["att"]
        for one in estimates
    ]
    assert mean["n"] == 3
    assert mean["estimate"] == pytest.approx(np.mean([value.item() for value in each]))


def test_the_seed_of_the_suite_itself_is_no_other_seed(tiny_suite, tiny_rows, tmp_path):
    with pytest.raises(NotFoundError, match="seed 0 of mini xs is the suite's own run"):
        training_seeds(tiny_suite, "xs", tiny_rows, folder=tmp_path, seeds=(0, 1))
