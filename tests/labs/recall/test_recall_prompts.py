"""The shortest suffix that is enough, against decoding with the dropped tokens masked."""

import numpy as np
import pytest
import torch

from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_prompts import gives_back, shortest_suffix
from tests.tiny_classes import CONFIGS, tiny_of_class

PROMPT, COUNT = 6, 4


@torch.no_grad()
def decoded_behind_a_mask(model, row, kept):
    """Decode after a whole prompt of which only the last `kept` tokens may be looked at."""
    ids, places = torch.from_numpy(row[None, :PROMPT]), torch.arange(PROMPT + COUNT)[None]
    for _ in range(COUNT):
        mask = torch.ones_like(ids)
        mask[:, : PROMPT - kept] = 0
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places[:, : ids.shape[1]],
            use_cache=False,
        ).logits
        ids = torch.cat([ids, logits[:, -1].argmax(dim=1, keepdim=True)], dim=1)
    return (ids[0, PROMPT:].numpy() == row[PROMPT : PROMPT + COUNT]).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shortest_suffix_is_the_first_that_decodes_the_same(name):
    model, rng = tiny_of_class(name), np.random.default_rng(4)
    rows = rng.integers(0, 50, (16, PROMPT + COUNT))
    with torch.no_grad():
        for place in range(PROMPT, PROMPT + COUNT):
            logits = model(torch.from_numpy(rows[:, :place]), use_cache=False).logits
            rows[:12, place] = logits[:12, -1].argmax(dim=1).numpy()

    found = shortest_suffix(model, rows, PROMPT, COUNT, batch_size=5)

    for row, length in zip(rows, found.tolist(), strict=True):
        enough = [kept for kept in range(1, PROMPT + 1) if decoded_behind_a_mask(model, row, kept)]
        whole = decoded_behind_a_mask(model, row, PROMPT)
        assert length == (enough[0] if whole else 0)
    assert (found[:12] > 0).all()


def test_learned_positions_are_kept_where_the_prompt_is_cut():
    """Read from position 0 on, the same suffix is another text to a model with positions."""
    model = tiny_of_class("gpt_bigcode")
    rows = np.random.default_rng(5).integers(0, 50, (64, PROMPT + 1))
    cut = torch.from_numpy(rows[:, PROMPT - 2 :])
    with torch.no_grad():
        moved = model(cut[:, :-1], use_cache=False).logits[:, -1].argmax(dim=1).numpy()
        there = torch.arange(PROMPT - 2, PROMPT)[None].expand(len(cut), -1)
        kept = model(cut[:, :-1], position_ids=there, use_cache=False).logits[:, -1]

    rows[:, PROMPT] = kept.argmax(dim=1).numpy()

    assert gives_back(model, rows, PROMPT, 1, kept=2).all()
    assert (moved != rows[:, PROMPT]).any()


def test_lengths_that_do_not_fit_are_refused():
    rows = np.zeros((1, 8), np.int64)
    with pytest.raises(RecallError, match="rows of 8 tokens, prompt 6, kept 6, continuation 4"):
        gives_back(tiny_of_class("llama"), rows, 6, 4)
    with pytest.raises(RecallError, match="kept 0"):
        gives_back(tiny_of_class("llama"), rows, 4, 4, kept=0)
