"""The planted corpus, and models trained on it: from a stopped run as from an unbroken one."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from pythia_profile.errors import SettingsError
from pythia_profile.training.languages import Bigram
from pythia_profile.training.planted import (
    PlantedSettings,
    planted_corpus,
    saved_steps,
    train_planted,
)
from pythia_profile.training.shapes import ModelShape, tiny_model

SMALL = PlantedSettings(
    vocabulary=16, tokens=8, frequencies=(1, 4), sequences=3, background=17, held_out=5
)


def test_each_sequence_occurs_as_often_as_asked_and_held_out_ones_never():
    corpus = planted_corpus(SMALL)

    assert len(corpus.rows) == SMALL.rows == 32
    for number, (row, times) in enumerate(zip(corpus.planted, corpus.frequency, strict=True)):
        assert (corpus.rows == row).all(axis=1).sum() == times
        assert (corpus.rows[corpus.which == number] == row).all()
    assert not any((corpus.rows == row).all(axis=1).any() for row in corpus.held_out)
    assert corpus.frequency.tolist() == [1, 1, 1, 4, 4, 4]


def test_all_rows_are_of_one_language():
    """Planted, held-out and other rows differ in how often they are read, and in nothing else."""
    settings = PlantedSettings(sequences=200, frequencies=(1,), background=2000, held_out=200)
    corpus = planted_corpus(settings)
    language = Bigram.draw(settings.vocabulary, seed=0, concentration=settings.concentration)
    means = [
        language.surprisal(rows).mean()
        for rows in (corpus.planted, corpus.held_out, corpus.rows[corpus.which < 0])
    ]

    # 200 rows of 31 targets, sd of a surprisal about 1.5 nats: .02; five of those
    assert means == pytest.approx([language.entropy] * 3, abs=0.1)


@pytest.mark.slow
def test_a_run_that_lost_its_end_goes_on_to_the_same_bits(tmp_path):
    shapes = [ModelShape(width=8), ModelShape(width=16)]
    whole = train_planted(SMALL, shapes, tmp_path, steps=8, checkpoints=2, workers=2)
    kept = load_file(whole["8x1"] / "model.safetensors")
    shutil.rmtree(whole["8x1"])
    (whole["8x1"].parent / "result.json").unlink()

    again = train_planted(SMALL, shapes, tmp_path, steps=8, checkpoints=2, workers=1)

    assert list(whole) == list(again) == ["8x1", "16x1"]
    assert sorted(path.name for path in whole["8x1"].parent.glob("step*")) == [
        *("step0", "step4", "step8")
    ]
    found = load_file(again["8x1"] / "model.safetensors")
    assert all((found[name] == kept[name]).all() for name in kept)


def test_weights_depend_on_shape_and_seed_alone():
    shape = ModelShape(width=12, layers=2)
    one, same, other = (tiny_model(shape, 16, 8, seed=seed) for seed in (1, 1, 2))

    assert one.num_parameters() == shape.parameters(16)
    assert all((a == b).all() for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not np.allclose(one.lm_head.weight.detach(), other.lm_head.weight.detach())


def test_saved_steps_of_a_run_shorter_than_its_checkpoints_are_each_once():
    assert saved_steps(2, 4) == (0, 1, 2)


def test_frequencies_that_do_not_ascend_are_refused():
    with pytest.raises(SettingsError, match=r"frequencies: got \(4, 1\), expected ascending"):
        PlantedSettings(frequencies=(4, 1))
