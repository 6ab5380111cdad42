"""The loop: rates of its recipe, resumed data, exact losses, and runs that learn."""

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.errors import SettingsError
from pythia_profile.training.languages import Bigram
from pythia_profile.training.loop import (
    TrainingError,
    batches_in_order,
    late_gain,
    load_state,
    resume_or_start,
    save_state,
    shuffled_batches,
    start,
    token_losses,
    train,
)
from pythia_profile.training.settings import Recipe

RECIPE = Recipe(steps=6, batch_size=4, peak_lr=1e-2, warmup_steps=1)


def tiny(vocabulary=20, seed=0):
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = GPTNeoXConfig(
        vocab_size=vocabulary, intermediate_size=64, max_position_embeddings=16, **shape
    )
    return GPTNeoXForCausalLM(config)


def rows(n=10, tokens=9, vocabulary=20):
    return np.random.default_rng(0).integers(vocabulary, size=(n, tokens))


def same(model, other):
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_row_is_read_equally_often_and_a_resumed_run_reads_the_rest():
    content = np.arange(10)[:, None].repeat(3, axis=1)
    recipe = Recipe(steps=10, batch_size=4, peak_lr=1.0)

    whole = [batch[:, 0].tolist() for batch in shuffled_batches(content, recipe, seed=1)]
    rest = [batch[:, 0].tolist() for batch in shuffled_batches(content, recipe, seed=1, done=7)]

    flat = [row for batch in whole for row in batch]
    assert [sorted(flat[10 * e : 10 * e + 10]) for e in range(4)] == [list(range(10))] * 4
    assert flat[:10] != flat[10:20]
    assert rest == whole[7:]


def test_a_run_saved_and_resumed_ends_with_the_same_bits(tmp_path):
    straight = start(tiny(), RECIPE)
    for update in train(straight, shuffled_batches(rows(), RECIPE, seed=2), RECIPE):
        if update.step == 3:
            save_state(straight, tmp_path)

    resumed = resume_or_start(tmp_path, [0, 3], RECIPE, tiny)
    assert resumed.step == 3
    list(train(resumed, shuffled_batches(rows(), RECIPE, seed=2, done=3), RECIPE))

    assert same(resumed.model, straight.model)


def test_a_fork_without_the_optimizers_state_is_another_run(tmp_path):
    state = start(tiny(), RECIPE)
    list(train(state, batches_in_order(rows(12), 4), RECIPE))
    save_state(state, tmp_path)
    whole, fresh = (load_state(tmp_path, 3, RECIPE) for _ in range(2))
    fresh = start(fresh.model, RECIPE, step=3)

    for fork in (whole, fresh):
        list(train(fork, batches_in_order(rows(4), 4), RECIPE))

    assert not same(whole.model, fresh.model)


def test_evaluation_between_updates_changes_nothing():
    evaluated, plain = start(tiny(), RECIPE), start(tiny(), RECIPE)
    for _ in train(evaluated, batches_in_order(rows(12), 4), RECIPE):
        token_losses(evaluated.model, rows())
    list(train(plain, batches_in_order(rows(12), 4), RECIPE))

    assert same(evaluated.model, plain.model)


def test_losses_of_tokens_are_minus_log_softmax_and_their_mean_is_the_trained_loss():
    model, some = tiny(), rows(5)
    ids = torch.from_numpy(some)
    expected = -torch.log_softmax(model(input_ids=ids[:, :-1]).logits.double(), dim=-1)
    expected = expected.gather(2, ids[:, 1:, None])[..., 0].detach().numpy()

    found = token_losses(model, some, batch_size=2)
    update = next(train(start(model, RECIPE), [ids], RECIPE))

    # float32 logits of size one against float64
    assert np.abs(found - expected).max() < 1e-5
    assert float(update.loss) == pytest.approx(found.mean(), abs=1e-5)


def test_weights_in_bfloat16_stay_so_and_learn(tmp_path):
    recipe = Recipe(steps=40, batch_size=8, peak_lr=1e-2, warmup_steps=2)
    some = rows(8)
    state = start(tiny().to(torch.bfloat16), recipe)
    before = token_losses(state.model, some).mean()

    list(train(state, shuffled_batches(some, recipe, seed=0), recipe))

    assert {p.dtype for p in state.model.parameters()} == {torch.bfloat16}
    assert token_losses(state.model, some).mean() < 0.7 * before
    save_state(state, tmp_path)
    assert same(load_state(tmp_path, 40, recipe, dtype="bfloat16").model, state.model)


def test_only_parameters_that_ask_for_a_gradient_are_trained():
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.requires_grad_(False)
    model.get_output_embeddings().weight.requires_grad_(True)

    list(train(start(model, RECIPE), batches_in_order(rows(8), 4), RECIPE))

    moved = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert moved == {"lm_head.weight"}


@pytest.mark.slow
def test_a_bigram_language_is_learned_down_to_its_entropy():
    language = Bigram.draw(12, seed=0)
    recipe = Recipe(steps=300, batch_size=32, peak_lr=1e-2, warmup_steps=10)
    state = start(tiny(12), recipe)

    seen, unseen = language.rows(4000, 16, seed=1), language.rows(200, 16, seed=2)
    list(train(state, shuffled_batches(seen, recipe, seed=0), recipe))

    loss = token_losses(state.model, unseen).mean()
    exact = language.surprisal(unseen).mean()
    assert exact < loss + 0.02
    assert loss < exact + 0.08


def test_what_cannot_be_trained_is_named():
    with pytest.raises(TrainingError, match="a batch for step 7 of 6"):
        list(train(start(tiny(), RECIPE), batches_in_order(rows(28), 4), RECIPE))
    with pytest.raises(SettingsError, match="steps: got 0, expected: greater than or equal to 1"):
        Recipe(steps=0, batch_size=1, peak_lr=1.0)
    with pytest.raises(TrainingError, match="two or more finite numbers"):
        late_gain([1.0, float("nan")])


def test_a_loss_that_falls_to_the_end_has_not_converged():
    steps = np.arange(101)

    assert late_gain(5 - 0.03 * steps) == pytest.approx(0.2)
    assert late_gain(5 * np.exp(-steps / 5)) < 1e-3
    assert late_gain([2.0, 3.0]) == 1.0


def test_a_loss_that_is_not_finite_ends_the_run():
    recipe = Recipe(steps=6, batch_size=4, peak_lr=1e38)
    with pytest.raises(TrainingError, match=r"diverged at step \d: .* lower peak_lr"):
        list(train(start(tiny(), recipe), shuffled_batches(rows(), recipe, seed=0), recipe))
