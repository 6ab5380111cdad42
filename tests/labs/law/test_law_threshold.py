"""p > 1/2 makes a token the greedy choice; weights of MemFT against cases worked by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pythia_profile.errors import NotFoundError, ProfileError
from pythia_profile.labs.law.law_memft import MemftState, memft_loss, memft_weights
from pythia_profile.labs.law.law_threshold import first_below, threshold, token_facts


def test_no_token_above_one_half_is_not_the_greedy_choice_among_a_million():
    rng = np.random.default_rng(0)
    tokens = above = violations = 0
    for scale in (0.1, 1, 3, 8, 20, 100, 1e-6, 1e4):
        logits = rng.normal(0, scale, (131_072, 8)).astype(np.float32)
        logits[:1000, :2] = logits[:1000].max(axis=1, keepdims=True)  # ties, exact and nearly
        logits[500:1000, 1] = np.nextafter(logits[500:1000, 0], np.float32(-np.inf))
        found = token_facts(logits, rng.integers(2, size=len(logits)))
        counts = threshold(found.p, found.greedy)
        tokens, above = tokens + counts.tokens, above + counts.above
        violations += counts.violations
        assert ((found.margin > 0) <= found.greedy).all()

    assert tokens > 1_000_000
    assert above > 50_000
    assert violations == 0


def test_the_margin_is_against_the_best_other_token_and_p_is_a_softmax():
    logits = np.random.default_rng(1).normal(size=(50, 7)).astype(np.float32)
    targets = np.arange(50) % 7
    found = token_facts(logits, targets)

    for row, target, p, margin in zip(logits, targets, found.p, found.margin, strict=True):
        others = np.delete(row, target)
        assert margin == np.float32(row[target] - others.max())
        assert p == pytest.approx(torch.tensor(row).softmax(0)[target].item(), rel=1e-5)


def test_a_case_where_the_condition_is_not_necessary():
    found = token_facts(np.log([[0.4, 0.35, 0.25]]), np.array([0]))

    assert threshold(found.p, found.greedy).correct_below == 1


def test_the_first_failure_never_comes_before_the_first_p_below_one_half():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 3, (200, 12, 5))
    logits[..., 0] += 4
    found = token_facts(logits.reshape(-1, 5), np.zeros(2400, int))
    low, failed = first_below(found.p.reshape(200, 12), found.greedy.reshape(200, 12))

    assert (failed >= low).all()
    assert (failed > low).any()


def test_wrong_shapes_are_one_line():
    with pytest.raises(ProfileError, match=r"expected \(n, V\) and \(n,\)"):
        token_facts(np.zeros((2, 3)), np.zeros(3, int))


ROOT = Path(__file__).parents[3]
LOSS = torch.tensor([[0.2, 1.0, 0.6, 2.0]])


def test_ot_weighs_the_tokens_below_one_half_and_only_answers():
    answer = torch.tensor([[True, True, True, False]])

    assert memft_weights(LOSS, "ot", MemftState(answer)).tolist() == [[0, 1, 0, 0]]
    assert memft_weights(LOSS, "sft", MemftState(answer)).tolist() == [[1, 1, 1, 0]]


def test_sw_on_long_text_by_hand():
    state = MemftState(wrong=torch.tensor([[False, True, False, True]]))
    gate = [1 / (1 + math.exp(-10 * (loss - math.log(2)))) for loss in LOSS[0].tolist()]
    window = [1, 1, math.exp(-1 / 20), math.exp(-2 / 20)]  # the anchor is token 1

    found = memft_weights(LOSS, "sw", state)[0].tolist()

    assert found == pytest.approx([g * w for g, w in zip(gate, window, strict=True)], rel=1e-5)


def test_the_window_of_sw_ends_at_50_and_grows_by_half_after_three_stuck_steps_up_to_200():
    loss = torch.full((1, 300), 9.0)  # so far above ln 2 that the gate is 1 in float32
    wrong = torch.ones(1, 300, dtype=torch.bool)
    state = MemftState(wrong=wrong)
    widths = []
    for _ in range(14):
        weights = memft_weights(loss, "sw", state)[0]
        widths.append(state.windows[0])
    assert widths == [50.0] * 3 + [75.0] * 3 + [112.5] * 3 + [168.75] * 3 + [200.0] * 2
    assert weights[10].item() == pytest.approx(math.exp(-0.5))
    assert weights[92].item() == pytest.approx(math.exp(-4.6))
    assert weights[200:].tolist() == pytest.approx([0.01] * 100)

    wrong[0, :5] = False  # the anchor moves on: a window of 50 again
    weights = memft_weights(loss, "sw", state)[0]
    assert state.windows[0] == 50
    assert weights[:6].tolist() == [1.0] * 6
    assert weights[54].item() == pytest.approx(math.exp(-49 / 20))
    assert weights[55].item() == pytest.approx(0.01)


def test_the_phone_book_opens_a_fifth_of_its_samples_at_a_time():
    loss = torch.full((10, 2), 1.0)
    opened = [
        int(
            memft_weights(
                loss,
                "sw_phone_book",
                MemftState(rows=torch.arange(10), samples=10, progress=progress),
            )[:, 0].sum()
        )
        for progress in (0, 0.19, 0.2, 0.5, 0.8, 1.0)
    ]

    assert opened == [2, 2, 4, 6, 10, 10]


def test_where_nothing_is_left_the_gradient_is_zero_or_that_of_the_plain_mean():
    loss = torch.tensor([[0.1, 0.2]], requires_grad=True)
    weights = memft_weights(loss, "ot", MemftState())
    assert not weights.any()

    memft_loss(loss, weights).backward()
    assert loss.grad.tolist() == [[0, 0]]
    memft_loss(loss, weights, when_empty="mean").backward()
    assert loss.grad.tolist() == [[0.5, 0.5]]


def test_the_loss_is_the_weighted_mean():
    loss, weights = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 0.5]])

    assert memft_loss(loss, weights).item() == pytest.approx(2.5 / 1.5)


def test_bad_input_is_one_line():
    with pytest.raises(NotFoundError, match="no method 'soft'"):
        memft_weights(LOSS, "soft", MemftState())
    with pytest.raises(ProfileError, match=r"needs state\.wrong"):
        memft_weights(LOSS, "sw", MemftState())
    with pytest.raises(ProfileError, match=r"needs state\.rows"):
        memft_weights(LOSS, "sw_phone_book", MemftState())
    with pytest.raises(NotFoundError, match="no when_empty 'none'"):
        memft_loss(LOSS, LOSS, when_empty="none")


@pytest.fixture(scope="module")
def guide_trainer():
    """The class of the guide, as printed."""
    block = next(
        part.split("```")[0]
        for part in (ROOT / "docs" / "lab_law.md").read_text().split("```python\n")
        if part.startswith("import torch\nfrom transformers import Trainer")
    )
    names = {"__name__": "guide"}
    exec(compile(block, "lab_law.md", "exec"), names)
    return names["MemftTrainer"]


def certain_model():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=5,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
    )
    model.lm_head.weight.data *= 100  # so that some tokens are certain
    return model


def answers_after_three(rows):
    labels = rows.clone()
    labels[:, :3] = -100
    return labels


def test_the_trainer_of_the_guide_follows_the_tokens_below_one_half_only(guide_trainer):
    """Its loss against cross entropy of the chosen tokens alone."""
    model = certain_model()
    rows = torch.randint(5, (4, 12))
    trainer = object.__new__(guide_trainer)

    value = trainer.compute_loss(model, {"input_ids": rows, "labels": answers_after_three(rows)})

    p = model(input_ids=rows).logits[:, :-1].softmax(-1).gather(2, rows[:, 1:, None])[..., 0]
    chosen = p[:, 2:][p[:, 2:] < 0.5]  # targets from token 3 on
    assert 0 < len(chosen) < 36
    assert value.item() == pytest.approx(-chosen.log().mean().item(), rel=1e-4)


def test_the_trainer_of_the_guide_trains_and_stops_where_nothing_is_left(guide_trainer, tmp_path):
    from transformers import TrainingArguments

    model = certain_model()
    rows = torch.arange(12).remainder(5).repeat(4, 1)  # one answer, easily learned
    data = [
        {"input_ids": row, "labels": labels}
        for row, labels in zip(rows, answers_after_three(rows), strict=True)
    ]
    options = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=200,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        remove_unused_columns=False,
    )
    trainer = guide_trainer(model=model, args=options, train_dataset=data)
    trainer.train()

    p = model.eval()(input_ids=rows).logits.softmax(-1)[:, :-1]
    p = p.gather(2, rows[:, 1:, None])[..., 0]
    assert 0 < trainer.state.global_step < 200
    assert (p[:, 2:] > 0.5).all()
