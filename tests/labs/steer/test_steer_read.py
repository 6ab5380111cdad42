"""A planted language: the steer finds its lexicons, its rates, its keywords, and moves along."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from pythia_profile.labs.steer.steer_map import Steer, steered
from pythia_profile.labs.steer.steer_move import moved_steer
from pythia_profile.labs.steer.steer_read import (
    best_spans,
    directions,
    inferred_values,
    marked_html,
    token_evidence,
)
from pythia_profile.labs.steer.steer_settings import Generation, SteerError
from pythia_profile.labs.steer.steer_sweep import continued, mean_interval, sweep
from pythia_profile.labs.steer.steer_texts import text_losses
from tests.labs.steer.conftest import LANGUAGE

pytestmark = pytest.mark.slow

VALUES = (-2.0, -1.0, 0.0, 1.0, 2.0)


def auc(above, below):
    return mannwhitneyu(above, below).statistic / len(above) / len(below)


def rates(found, name):
    return found.filter(found["quantity"] == f"rate {name}").sort("value")["estimate"].to_numpy()


def test_the_first_right_direction_holds_both_lexicons_and_the_left_one_does_not(small, trained):
    embeddings = small.get_output_embeddings().weight.numpy()
    found = directions(trained)

    top, bottom = found.tokens(embeddings, 0, 8)
    assert sorted(top) == LANGUAGE.lexicons["plus"]
    assert sorted(bottom) == LANGUAGE.lexicons["minus"]
    top, bottom = found.tokens(embeddings, 0, 8, side="left")
    # 8 of 64 tokens hold one of a lexicon by chance; eight of eight would be all
    assert len({*top} & {*LANGUAGE.lexicons["plus"]}) < 6
    assert len({*bottom} & {*LANGUAGE.lexicons["minus"]}) < 6


def test_directions_are_the_singular_value_decomposition_of_the_whole_matrix():
    generator = torch.Generator().manual_seed(0)
    down, up, state = (torch.randn(*shape, generator=generator) for shape in ((9, 3), (3, 9), (9,)))
    found = directions(Steer(down, up, state))

    rebuilt = sum(
        s * np.outer(u, v) for s, u, v in zip(found.strength, found.left, found.right, strict=True)
    )
    np.testing.assert_allclose(rebuilt, down @ up, atol=1e-5)
    np.testing.assert_allclose(found.right @ found.right.T, np.eye(3), atol=1e-5)
    assert (found.left @ state.numpy() >= 0).all()


def test_rates_rise_strictly_with_the_strength_and_intervals_hold_them(small, trained, fresh):
    settings = Generation(prompt=4, tokens=20, top_p=1.0)
    found, _ = sweep(small, trained, fresh.texts, VALUES, LANGUAGE.lexicons, settings)

    assert (np.diff(rates(found, "plus")) > 0).all()
    assert (np.diff(rates(found, "minus")) < 0).all()
    assert (found["lower"] < found["estimate"]).all()
    assert (found["estimate"] < found["upper"]).all()
    own = np.array([one.mean() for one in text_losses(small, fresh.texts)])
    at_0 = found.filter((found["value"] == 0) & (found["quantity"] == "loss"))
    assert at_0["estimate"][0] == pytest.approx(own.mean(), rel=1e-6)


def test_sampling_at_each_step_follows_the_models_probabilities(small):
    """One token after one prompt, 20,000 times, against the softmax; χ² of 5 of its means."""
    prompt = np.tile([[20, 3, 40]], (20_000, 1))
    found = continued(small, prompt, Generation(tokens=1, top_p=1.0, seed=3), batch_size=5000)
    with torch.no_grad():
        p = small(input_ids=torch.from_numpy(prompt[:1])).logits[0, -1].double().softmax(-1).numpy()
    counts = np.bincount(found[:, 0], minlength=64)

    common = p > 1e-3  # 20 or more expected
    z = (counts - 20_000 * p)[common] / np.sqrt(20_000 * p * (1 - p))[common]
    assert np.abs(z).max() < 4.5
    cut = continued(small, prompt[:500], Generation(tokens=1, top_p=0.5))[:, 0]
    order = np.argsort(-p)
    allowed = order[: int((p[order].cumsum() - p[order] < 0.5).sum())]
    assert {*cut.tolist()} == {*allowed.tolist()}


def test_keywords_are_the_tokens_of_a_lexicon(small, trained, fresh):
    evidence = np.stack(token_evidence(small, trained, fresh.texts))
    tokens = np.stack(fresh.texts)[:, 1:]

    assert auc(evidence[tokens < 8], evidence[tokens >= 8]) > 0.8
    minus = (tokens >= 8) & (tokens < 16)
    assert auc(-evidence[minus], -evidence[~minus]) > 0.8


def test_a_text_infers_the_sign_of_its_label_where_its_loss_is_least(small, trained, fresh):
    texts = fresh.texts[:64]
    found = inferred_values(small, trained, texts)

    assert ((found > 0) == (fresh.labels[:64] > 0)).mean() > 0.8
    grid, losses = np.linspace(-3, 3, 121), []
    for value in grid:
        with steered(small, trained, float(value)):
            losses.append([float(one.sum()) for one in text_losses(small, texts)])
    # half a step of the grid, half the last interval, and flat floors in float32
    assert np.abs(grid[np.argmin(losses, axis=0)] - found).max() < 0.06


@pytest.mark.parametrize("states", ["dual", "same"])
def test_a_steer_moved_to_its_own_model_is_itself(small, trained, states):
    """All embeddings agree with themselves, so H is the identity on what they span."""
    found = moved_steer(trained, small, small, states=states)

    assert found.facts["r2"] == pytest.approx(1)
    np.testing.assert_allclose(found.matrix, trained.matrix, atol=1e-4)


def test_a_moved_steer_keeps_most_of_the_shift(small, large, trained, fresh):
    """At least .6 of the source's, at strengths 1 and 2; it goes up and down as it should."""
    settings = Generation(prompt=4, tokens=20, top_p=1.0)
    there = moved_steer(trained, small, large)
    source, target = (
        rates(sweep(model, steer, fresh.texts, VALUES, LANGUAGE.lexicons, settings)[0], "plus")
        for model, steer in ((small, trained), (large, there))
    )

    assert (target[4] - target[0]) / (source[4] - source[0]) >= 0.6
    assert (target[3] - target[1]) / (source[3] - source[1]) >= 0.6
    assert (np.diff(target) > 0).all()


def test_the_dual_map_keeps_logits_exactly_where_models_are_rotated_copies(small, trained):
    """E' = E A: then H = A⁻¹, states are C' = C A⁻ᵀ, and steered logits must not change."""
    rng = np.random.default_rng(0)
    turn = torch.from_numpy(np.eye(32) + 0.2 * rng.normal(size=(32, 32))).float()
    embeddings, states = (
        torch.from_numpy(rng.normal(size=shape)).float() for shape in ((64, 32), (50, 32))
    )
    one, two = Bare(embeddings), Bare(embeddings @ turn)
    steer = trained
    found = moved_steer(steer, one, two)

    added = states @ steer.matrix @ embeddings.T
    moved = states @ torch.linalg.inv(turn).T @ found.matrix @ (embeddings @ turn).T
    np.testing.assert_allclose(moved, added, atol=1e-2 * float(added.abs().max()))


class Bare(torch.nn.Module):
    """An output matrix without a model."""

    def __init__(self, matrix):
        super().__init__()
        self.head = torch.nn.Linear(*matrix.shape[::-1], bias=False)
        self.head.weight = torch.nn.Parameter(matrix, requires_grad=False)

    def get_output_embeddings(self):
        return self.head


def test_too_few_shared_tokens_are_refused(small, large, trained):
    with pytest.raises(SteerError, match="10 shared tokens for a model of width 48"):
        moved_steer(trained, small, large, tokens=range(10))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8), st.integers(1, 3), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_spans_are_the_best_of_all(values, spans, longest):
    evidence = np.array(values, dtype=float)
    found = best_spans(evidence, spans=spans, longest=longest)

    every = [
        (a, b) for a in range(len(values)) for b in range(a + 1, min(a + longest, len(values)) + 1)
    ]
    best = max(
        sum(evidence[a:b].sum() for a, b in chosen)
        for k in range(spans + 1)
        for chosen in combinations(every, k)
        if all(x[1] <= y[0] for x, y in pairwise(chosen))
    )
    assert sum(evidence[a:b].sum() for a, b in found) == pytest.approx(best)
    assert len(found) <= spans
    assert all(0 < b - a <= longest for a, b in found)
    assert all(x[1] <= y[0] for x, y in pairwise(found))


def test_marks_hold_the_spans_and_escape_the_text():
    found = marked_html(
        np.array([0, 1, 2, 3, 4]),
        [2.0, 0.0, -3.0, -0.5],
        lambda ids: "".join("<ab&c"[one] for one in ids),
    )

    assert found == (
        '&lt;<mark class="plus" title="+2.00 nats">a</mark>b'
        '<mark class="minus" title="-3.50 nats">&amp;c</mark>'
    )


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [
        lower < 1 < upper
        for _, lower, upper in (mean_interval(rng.exponential(size=200)) for _ in range(2000))
    ]
    # .95 of 2,000 with a standard error of .005; skew costs a little
    assert 0.93 < np.mean(inside) < 0.965
