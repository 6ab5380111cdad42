"""Suites that read token files: rows of a study, and a tiny run from its files to its effects."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from data_order.errors import OrderError
from data_order.sample import HELD_OUT, Draw
from data_order.sample import sample_rows as draw_rows
from data_order.shuffled import runs
from data_order.shuffled.repetition import is_masked
from pythia_profile.did.estimation import effects
from pythia_profile.did.panels import panel
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import StudyError
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.suites.registry import open_suite
from pythia_profile.suites.sampling import Sampling, sample_rows
from pythia_profile.tables import ROWS, conform
from pythia_profile.training.languages import Bigram, uniform_rows
from pythia_profile.training.loop import next_token_loss, start, train
from pythia_profile.training.settings import Recipe
from tests.data_order.test_shuffled_runs import Listed

CHOSEN = Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=60)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A suite as OLMo-2 7B's of two token files, from rows (n, T) of tokens."""

    def made(rows, *, batch_size, steps, listed=("a.npy", "b.npy")):
        half = len(rows) // 2
        rows[:half].astype(np.uint32).tofile(tmp_path / "a.npy")
        rows[half:].astype(np.uint32).tofile(tmp_path / "b.npy")
        small = replace(
            runs.RUNS["olmo2-7b"],
            files=Listed(listed),
            batch_size=batch_size,
            steps=steps,
            row_tokens=rows.shape[1],
            rows_between=(half * len(listed), (half + 1) * len(listed)),
        )
        monkeypatch.setitem(runs.RUNS, "olmo2-7b", small)
        suite = replace(
            open_suite("olmo2-7b"),
            store=str(tmp_path),
            batch_size=batch_size,
            steps=steps,
            decay_steps=0,
            warmup_steps=0,
            row_tokens=rows.shape[1],
        )
        return suite, small.open(tmp_path)

    return made


def test_tokens_of_a_large_vocabulary_keep_their_ids(make):
    suite, store = make(uniform_rows(300, 9, 100_278, seed=0), batch_size=8, steps=30)

    table = sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20, 30])

    assert table.schema["tokens"] == pl.List(pl.UInt32)
    assert conform(table, ROWS).schema["tokens"] == pl.List(pl.UInt32)
    assert table["tokens"].explode().max() > 65_535
    assert table["tokens"].to_list() == store[table["row_id"].to_numpy()].tolist()
    assert table["earlier_exposure"].unique().to_list() == [0.0]


def test_rows_that_no_scored_checkpoint_has_read_are_the_controls(make):
    suite, store = make(uniform_rows(300, 9, 50, seed=0), batch_size=8, steps=30)

    table = sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20])

    never = table.filter(pl.col("treatment_step").is_null())["row_id"].to_numpy()
    # all of the run's 240 read rows but those of its first 20 steps may serve, and the 60 others
    assert len(never) == 60
    assert (store.order.step_of(store.order.rows_at(never)) > 20).all()


def test_no_copy_of_a_control_was_read_and_second_readings_are_marked(make):
    """One of the two files is listed twice: each of its rows is in the pass twice."""
    listed = ("a.npy", "b.npy", "a.npy")
    suite, store = make(uniform_rows(200, 9, 50_000, seed=0), batch_size=8, steps=30, listed=listed)

    table = sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20])

    read = store[np.arange(20 * 8)].tolist()
    never = table.filter(pl.col("treatment_step").is_null())
    assert len(never) == 60
    assert not any(row in read for row in never["tokens"].to_list())
    treated = table.filter(pl.col("treatment_step").is_not_null())
    for position, tokens, exposure in treated.select(
        "row_id", "tokens", "earlier_exposure"
    ).iter_rows():
        step = position // 8
        assert exposure == float(tokens in read[: step * 8])
    assert treated["earlier_exposure"].n_unique() == 2
    for position, tokens, second in treated.select("row_id", "tokens", "second_step").iter_rows():
        later = [
            at // 8 + 1 for at, row in enumerate(read) if row == tokens and at // 8 > position // 8
        ]
        assert second == min(later, default=None)
    states = dict(zip(map(tuple, read), store.states(np.arange(160)), strict=True))
    assert set(states.values()) == {"read once", "read again"}
    with pytest.raises(OrderError, match=r"never-treated: 130 were asked for, but there are \d+"):
        sample_rows(suite, CHOSEN.model_copy(update={"never_treated": 130}), checkpoints=[0, 20])


def test_single_exposure_leaves_out_rows_of_which_a_copy_was_read(make):
    listed = ("a.npy", "b.npy", "a.npy")
    suite, store = make(uniform_rows(200, 9, 50_000, seed=0), batch_size=8, steps=30, listed=listed)
    once = CHOSEN.model_copy(update={"single_exposure": True})

    table = sample_rows(suite, once, checkpoints=[0, 10, 20])

    usual = sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20])
    treated = table.filter(pl.col("treatment_step").is_not_null())
    assert 0 < len(treated) < len(usual) - 60
    read = store[np.arange(20 * 8)].tolist()  # what the last of the checkpoints has read
    assert {read.count(tokens) for tokens in treated["tokens"].to_list()} == {1}
    never = pl.col("treatment_step").is_null()
    assert table.filter(never).equals(usual.filter(never))


def test_held_out_controls_of_a_run_over_token_files(make, tmp_path):
    suite, _ = make(uniform_rows(300, 9, 100_278, seed=0), batch_size=8, steps=30)
    others = uniform_rows(60, 9, 100_278, seed=1).astype(np.uint32)
    np.save(tmp_path / "others.npy", others)
    chosen = CHOSEN.model_copy(update={"held_out": "others.npy"})

    table = sample_rows(suite, chosen, checkpoints=[0, 10, 20, 30], near=tmp_path)

    never = table.filter(pl.col("treatment_step").is_null())
    assert never["row_id"].to_list() == [HELD_OUT + i for i in range(60)]
    assert never["tokens"].to_list() == others.tolist()
    assert (table["earlier_exposure"] == 0).all()
    treated = pl.col("treatment_step").is_not_null()
    usual = sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20, 30])
    assert table.filter(treated).equals(usual.filter(treated))
    wrong = CHOSEN.model_copy(update={"documents": "corpus.idx"})
    with pytest.raises(StudyError, match="read token files, whose list says what had been read"):
        sample_rows(suite, wrong, checkpoints=[0, 10], near=tmp_path)


def test_a_study_cannot_go_into_a_second_pass(make):
    suite, _ = make(uniform_rows(100, 9, 50, seed=0), batch_size=8, steps=30)

    with pytest.raises(StudyError, match=r"a second time after step 12, the study goes to .* 20"):
        sample_rows(suite, CHOSEN, checkpoints=[0, 10, 20])


def test_effects_of_a_run_over_token_files_and_none_of_the_rows_it_masked(make):
    """OLMo's rules from the files on: order, masked rows, effects of read and of masked rows."""
    content = Bigram.draw(40, seed=0, concentration=0.3).rows(1500, 49, seed=1)
    repeated = np.random.default_rng(2).random(1500) < 0.3
    content[repeated, 5:40] = content[repeated, 4:5]
    suite, store = make(content, batch_size=16, steps=64)
    checkpoints = [0, 16, 32, 48, 64]
    draw = Draw(kind="iid", per_cohort=200, never=300)
    rows = draw_rows(store, store.order.training, checkpoints, draw)
    masked = is_masked(store[rows["row_id"].to_numpy()])
    sampled = sample_rows(
        suite,
        Sampling(rows_per_cohort=200, batches_per_cohort=0, never_treated=100),
        checkpoints=checkpoints,
    )
    assert set(store.states(sampled["row_id"].to_numpy())) == {"read once", "never read"}
    assert not is_masked(store[sampled["row_id"].to_numpy()]).any()
    assert sampled["treatment_step"].null_count() == 100

    recipe = Recipe(steps=64, batch_size=16, peak_lr=1e-2)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=40, intermediate_size=128, max_position_embeddings=48, **shape
    )
    state = start(GPTNeoXForCausalLM(config), recipe)
    state.model.train(False)
    parts = [scored(state.model, rows, 0)]

    def batches():
        for step in range(64):
            batch = store[16 * step : 16 * step + 16].astype(np.int64)
            yield torch.from_numpy(batch[~is_masked(batch)])

    for update in train(state, batches(), recipe, loss=next_token_loss):
        if update.step in checkpoints:
            state.model.train(False)
            parts.append(scored(state.model, rows, update.step))
    scores = pl.concat(parts)

    treated = rows["treatment_step"].is_not_null().to_numpy()
    found = {}
    for name, chosen in (("read", ~masked), ("masked", masked)):
        laid = panel(rows.filter(pl.Series(chosen)), scores)
        att = effects(laid, Estimation())
        at_once = att.post & (att.event_time == 0)
        found[name] = att.att[at_once].mean(), np.sqrt((att.se[at_once] ** 2).sum()) / 4
    states = np.array(store.states(rows["row_id"].to_numpy()))
    assert ((states == "masked") == (masked & treated)).all()
    assert 60 < (masked & treated).sum() < 300
    assert found["read"][0] > 4 * found["read"][1]
    assert abs(found["masked"][0]) < 3 * found["masked"][1]


def scored(model, rows, checkpoint):
    frame = score_checkpoint(model, rows)
    run = {"suite": "t", "size": "s", "seed": 0, "checkpoint": checkpoint}
    return frame.with_columns(**{name: pl.lit(value) for name, value in run.items()})
