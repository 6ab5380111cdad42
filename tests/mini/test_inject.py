"""Planted texts: the log, masked labels, and the estimator against the experiment."""

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from data_order import TokenRows
from data_order.insertions import insertion_rows
from pythia_profile.cli import app
from pythia_profile.errors import StudyError, TableError
from pythia_profile.mini.inject import (
    Injection,
    injected,
    insertion_log,
    item_table,
    masked_loss,
)
from pythia_profile.mini.train import initial_model
from pythia_profile.profiles.inserted import insertion_effects, insertion_sentences
from pythia_profile.study import create_study, new_study
from pythia_profile.tables import INSERTIONS
from pythia_profile.training.loop import next_token_loss

pytestmark = pytest.mark.slow

PLAN = Injection(copies={0: 48, 1: 32, 3: 16}, placebo=32, seed=5)


@pytest.fixture(scope="module")
def experiment(tiny_suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inserted")
    return folder, injected(tiny_suite, "xs", PLAN, folder=folder, workers=1)


def test_the_log_says_what_went_where_as_the_draw_has_it(tiny_config, tiny_suite):
    log = insertion_log(tiny_config, PLAN)
    spare = TokenRows.open(tiny_suite.root / "spare", tiny_config.row_tokens)[:]
    items = item_table(tiny_config, PLAN, log, spare)

    drawn = insertion_rows({"items": np.ones(112, int)}, steps=64, seed=5, batch_size=8)
    assert log["row"].to_list() == drawn.row.tolist()
    assert log["step"].to_list() == drawn.step.tolist()
    copies = log.group_by("item").len().sort("item")["len"].to_list()
    assert copies == [1] * 32 + [3] * 16 + [1] * 32
    first = log.group_by("item").agg(pl.col("step").min()).sort("item")
    assert items["treatment_step"].drop_nulls().to_list() == first["step"].to_list()
    assert items["treatment_step"].null_count() == 48
    assert items["arm"].value_counts().sort("arm").rows() == [
        ("1 copy", 32),
        ("3 copies", 16),
        ("not planted", 48),
        ("placebo", 32),
    ]
    assert np.array_equal(np.array(items["tokens"].to_list()), spare[:128])


def test_windows_hold_their_share_of_every_arm(tiny_config):
    plan = Injection(copies={0: 20, 1: 20}, windows=((0, 0.5), (0.5, 1)))
    log = insertion_log(tiny_config, plan)

    assert log["window"].value_counts()["count"].to_list() == [10, 10]
    assert log.filter(window="0% to 50%")["step"].max() <= 32
    assert log.filter(window="50% to 100%")["step"].min() > 32


def test_masked_rows_give_no_gradient_and_still_count_in_the_divisor(tiny_config):
    model = initial_model("xs", tiny_config)
    rows = torch.randint(0, 300, (4, 17), generator=torch.Generator().manual_seed(0))
    flags = torch.tensor([[0], [1], [0], [1]])

    loss = masked_loss(model, torch.hstack([rows, flags]))
    kept = next_token_loss(model, rows[[0, 2]])

    # float32 means of 64 and of 32 surprisals
    assert loss.item() == pytest.approx(kept.item() / 2, rel=1e-5)
    assert masked_loss(model, torch.hstack([rows, 0 * flags])).item() == pytest.approx(
        next_token_loss(model, rows).item(), rel=1e-6
    )


def test_did_and_experiment_agree_and_placebo_items_have_no_effect(experiment):
    folder, (items, planted, real) = experiment

    found = insertion_effects(items, planted, real)

    assert found.table.schema == INSERTIONS.columns
    # of 4 means by 3 arms, 4 standard errors are exceeded less than 1 in 1,000 times
    z = found.table["difference"] / found.table["difference_se"]
    assert z.abs().max() < 4
    overall = {line["arm"]: line for line in found.table.filter(kind="overall").to_dicts()}
    placebo = overall["placebo"]
    assert abs(placebo["experiment"]) < 4 * placebo["experiment_se"]
    assert abs(placebo["att"]) < 4 * placebo["se"]
    assert overall["1 copy"]["experiment"] > 2 * overall["1 copy"]["experiment_se"]
    assert overall["3 copies"]["experiment"] > overall["1 copy"]["experiment"]
    assert "0 lies within" in str(found) or "OUTSIDE" in str(found)
    assert len(list(folder.rglob("inserted.parquet"))) == 1


def test_the_experiment_by_hand_at_the_last_checkpoint(experiment):
    _, (items, planted, real) = experiment
    table = insertion_effects(items, planted, real).table
    gap = (
        planted.join(real, on=["checkpoint", "row_id"], suffix="_real")
        .with_columns(gap=pl.col("log_likelihood") - pl.col("log_likelihood_real"))
        .join(items.select("row_id", "arm", "treatment_step"), on="row_id")
    )
    last = gap.filter(checkpoint=64)

    one = last.filter(arm="1 copy")["gap"].mean() - last.filter(arm="not planted")["gap"].mean()

    found = table.filter(arm="1 copy", kind="residual").row(0, named=True)
    # the estimate also adjusts each cohort for its gap at the base, which is random
    assert found["experiment"] == pytest.approx(one, abs=2 * found["experiment_se"])


def test_a_study_keeps_its_insertions_and_has_a_section(tiny_suite, tmp_path):
    folder = tmp_path / "study"
    create_study(folder, new_study(str(tiny_suite.root), ("xs",)))

    made = CliRunner().invoke(app, ["insertions", str(folder), "--workers", "1"])

    assert made.exit_code == 0, made.output
    table = pl.read_parquet(folder / "insertions.parquet")
    assert set(table["arm"]) == {"1 copy", "2 copies", "4 copies", "placebo"}
    assert all(sentence in made.output for sentence in insertion_sentences(table))


def test_what_cannot_be_planted_is_named(tiny_config, experiment):
    _, (items, planted, real) = experiment
    with pytest.raises(StudyError, match="500 items, the suite has 128 spare rows"):
        insertion_log(tiny_config, Injection(copies={0: 250, 1: 250}))
    with pytest.raises(StudyError, match="items with 0 copies, as controls"):
        Injection(copies={1: 5})
    with pytest.raises(TableError, match="'arm' is missing"):
        insertion_effects(items.drop("arm"), planted, real)
