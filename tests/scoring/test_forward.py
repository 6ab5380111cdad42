"""Scores of rows: transformers' own loss, row order, and what is refused."""

import numpy as np
import polars as pl
import pytest
import torch

from pythia_profile.scoring import score_checkpoint
from pythia_profile.scoring.forward import ScoringError

# float32 forward passes of other batch shapes differ in the last bits of numbers near 5
LOSS = 2e-5


def random_rows(count, tokens=17, seed=0):
    return np.random.default_rng(seed).integers(0, 120, (count, tokens)).astype(np.uint16)


def test_log_likelihood_is_transformers_own_loss_with_its_sign_flipped(model):
    rows = random_rows(5)

    frame = score_checkpoint(model, rows)

    for tokens, found in zip(rows, frame["log_likelihood"], strict=True):
        ids = torch.tensor(tokens[None].astype(np.int64))
        logits = model(ids[:, :-1]).logits.double()
        loss = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:]).item()
        assert found == pytest.approx(-loss, abs=LOSS)
        assert found == pytest.approx(-model(ids, labels=ids).loss.item(), abs=LOSS)


def test_accuracy_rank_and_entropy_follow_their_definitions(model):
    rows = random_rows(3)
    ids = torch.tensor(rows.astype(np.int64))
    logits = model(ids[:, :-1]).logits.double()
    target = logits.gather(2, ids[:, 1:, None])
    p = torch.softmax(logits, dim=2)

    frame = score_checkpoint(model, rows)

    greedy = (logits.argmax(2) == ids[:, 1:]).double().mean(1)
    rank = (logits > target).sum(2).double().mean(1)
    entropy = -(p * p.log()).sum(2).mean(1)
    assert frame["accuracy"].to_list() == pytest.approx(greedy.tolist())
    assert frame["mean_rank"].to_list() == pytest.approx(rank.tolist(), abs=0.1)  # near ties
    assert frame["entropy"].to_list() == pytest.approx(entropy.tolist(), abs=1e-4)


def test_batches_change_nothing_beyond_rounding(model):
    rows = random_rows(9)

    one_by_one = score_checkpoint(model, rows, batch_tokens=1)
    together = score_checkpoint(model, rows, batch_tokens=10_000)

    gap = one_by_one["log_likelihood"] - together["log_likelihood"]
    assert gap.abs().max() < LOSS


def test_a_frame_keeps_its_row_ids_and_their_order(model):
    tokens = random_rows(3)
    frame = pl.DataFrame({"row_id": [40, 7, 9], "tokens": tokens.tolist()})

    scored = score_checkpoint(model, frame)

    assert scored["row_id"].to_list() == [40, 7, 9]
    plain = score_checkpoint(model, tokens)
    assert scored.drop("row_id").equals(plain.drop("row_id"))


def test_progress_counts_every_row_once(model):
    seen = []

    score_checkpoint(model, random_rows(7), batch_tokens=32, advance=seen.append)

    assert seen == [2, 2, 2, 1]


def test_no_rows_give_an_empty_table(model):
    assert score_checkpoint(model, random_rows(0)).shape == (0, 5)


def test_a_token_outside_the_vocabulary_is_named_with_row_and_place(model):
    tokens = random_rows(3)
    tokens[1, 4] = 120
    frame = pl.DataFrame({"row_id": [5, 6, 7], "tokens": tokens.tolist()})

    with pytest.raises(ScoringError, match="row 6 has token id 120 at position 4"):
        score_checkpoint(model, frame)


def test_a_row_longer_than_the_model_reads_is_refused(model):
    with pytest.raises(ScoringError, match="rows have 18 tokens, this model reads 16"):
        score_checkpoint(model, random_rows(2, tokens=18))


def test_rows_of_two_lengths_are_refused(model):
    frame = pl.DataFrame({"row_id": [1, 2, 3], "tokens": [[1, 2, 3], [1, 2, 3], [1, 2]]})

    with pytest.raises(ScoringError, match="row 3 has 2 tokens, the others have 3"):
        score_checkpoint(model, frame)


def test_weights_that_are_not_numbers_give_an_error_and_no_mean(model):
    rows = random_rows(4)
    with torch.no_grad():
        kept = model.lm_head.weight[0, 0].item()
        model.lm_head.weight[0, 0] = float("nan")
    try:
        with pytest.raises(
            ScoringError,
            match=r"row 0 .* not a finite number, first at token 1, in the output matrix alone",
        ):
            score_checkpoint(model, rows)
    finally:
        with torch.no_grad():
            model.lm_head.weight[0, 0] = kept


def test_logits_that_are_more_than_a_product_are_refused(model):
    model.config.logit_scale = 0.5
    try:
        with pytest.raises(ScoringError, match=r"changes its logits .*logit_scale"):
            score_checkpoint(model, np.zeros((1, 9), int))
    finally:
        del model.config.logit_scale
