"""Training: any class, padding without influence, and what is refused."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.functional import cross_entropy

from pythia_profile.labs.steer.steer_map import steered
from pythia_profile.labs.steer.steer_settings import SteerError, SteerSettings
from pythia_profile.labs.steer.steer_texts import (
    Labelled,
    cut_to_context,
    labelled_rows,
    read_labelled,
    text_losses,
)
from pythia_profile.labs.steer.steer_train import train_steer

SHORT = SteerSettings(steps=60, batch_size=8, rank=4, scale=1.0)


def two_tokens(n=16):
    """Texts that go on with token 5 where the label is 1, and with 6 where it is −1."""
    labels = np.where(np.arange(n) % 2, -1.0, 1.0)
    texts = [np.array([1, 2, *[5 if one > 0 else 6] * (3 + k % 5)]) for k, one in enumerate(labels)]
    return Labelled(texts, labels)


def test_a_steer_of_any_class_tells_the_labels_apart(model):
    """The model's own weights, and whether they ask for gradients, are as before."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    asked = [p.requires_grad for p in model.parameters()]
    data = two_tokens()
    found = train_steer(model, data, SHORT)

    with steered(model, found.steer, 1.0):
        plus = text_losses(model, data.texts)
    with steered(model, found.steer, -1.0):
        minus = text_losses(model, data.texts)
    evidence = [float((b - a).sum()) for a, b in zip(plus, minus, strict=True)]
    assert all((one > 0) == (label > 0) for one, label in zip(evidence, data.labels, strict=True))
    assert found.losses[-1] < found.losses[0]
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == asked
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert found.steer.facts["tied"] == tied == (type(model).__name__ == "GPT2LMHeadModel")


def test_training_twice_gives_the_same_bits(model):
    data = two_tokens()
    one, two = (train_steer(model, data, SHORT.replace(steps=5)).steer for _ in range(2))

    assert torch.equal(one.down, two.down)
    assert torch.equal(one.up, two.up)


def test_the_first_loss_is_the_mean_over_real_tokens_of_texts_one_by_one(model):
    """Padding counts nowhere: at the start, factors of sd 1e-9 leave the model's own loss."""
    data = two_tokens()
    found = train_steer(model, data, SteerSettings(steps=1, batch_size=16, sd=1e-9))

    nats, tokens = 0.0, 0
    for text in data.texts:
        ids = torch.from_numpy(text)[None]
        logits = model(input_ids=ids).logits[0, :-1].detach()
        nats += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
        tokens += len(text) - 1
    # float32 sums of some dozen losses
    assert found.losses[0] == pytest.approx(nats / tokens, rel=1e-5)


def test_losses_of_padded_texts_are_those_of_texts_alone(model):
    texts = [np.arange(1, n) for n in (3, 9, 5)]
    together = text_losses(model, texts)

    for text, found in zip(texts, together, strict=True):
        assert found.shape == (len(text) - 1,)
        np.testing.assert_allclose(found, text_losses(model, [text])[0], atol=1e-5)


def test_a_text_longer_than_the_context_is_cut_with_a_note(model):
    data = two_tokens()
    data.texts[3] = np.arange(100) % 40
    found = train_steer(model, data, SHORT.replace(steps=2))

    assert found.notes == [
        "1 of 16 texts cut to 25 tokens, which is what the model reads and predicts; it has 100"
    ]
    assert found.steer.facts["notes"] == found.notes
    assert [len(t) for t in cut_to_context(model, data.texts)[0]][3] == 25


def test_texts_that_are_not_the_models_are_refused(model):
    with pytest.raises(SteerError, match="text 2 has token 40, the model's are 0 to 39"):
        cut_to_context(model, [np.array([1, 2]), np.array([3, 40])])
    with pytest.raises(SteerError, match="text 1 has 1 tokens, expected two or more"):
        cut_to_context(model, [np.array([1])])


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"text": "a", "label": 2}', "label of text 2: got 2, expected a number from -1 to 1"),
        ('{"text": "a"}', "line 2: label: got None, expected a number from -1 to 1"),
        ('{"label": 1}', "line 2: text: got None, expected a string"),
        ("{", "line 2: no JSON"),
        ('{"text": "b", "label": 1}', "all 2 texts are labelled 1; expected two or more different"),
        ('{"text": "b", "label": NaN}', "label of text 2: got nan"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, fault):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "ab", "label": 1}) + "\n" + line + "\n")
    with pytest.raises(SteerError, match=fault):
        read_labelled(path, lambda text: list(text.encode()))


def test_rows_are_labelled_by_a_column_of_numbers_or_truths_or_a_threshold():
    rows = pl.DataFrame(
        {"tokens": [[1, 2], [3, 4], [5, 6]], "step": [10, None, 30], "seen": [True, False, None]}
    )

    assert labelled_rows(rows, "seen").labels.tolist() == [1.0, -1.0]
    assert labelled_rows(rows, "step", above=20).labels.tolist() == [-1.0, 1.0]
    with pytest.raises(SteerError, match=r"'step' goes from 10 to 30, .* --above NUMBER"):
        labelled_rows(rows, "step")
    with pytest.raises(SteerError, match="no column 'style'; known: tokens, step, seen"):
        labelled_rows(rows, "style")
