"""On a GPU: the same numbers as on a CPU. Run with `pytest -m gpu` where there is one."""

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.scoring import score_checkpoint, token_statistics

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compile", ["always", "never"])
def test_statistics_equal_their_definitions_in_float64(dtype, compile):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 64, generator=generator).to("cuda", dtype)
    head = torch.randn(5000, 64, generator=generator).to("cuda", dtype)
    targets = torch.randint(0, 5000, (300,), generator=generator).cuda()

    found = token_statistics(hidden, head, targets, chunk=128, compile=compile)

    log_p = (hidden.double() @ head.double().T).log_softmax(1)
    of_target = log_p.gather(1, targets[:, None])
    close = {"rtol": 0, "atol": 2e-4}  # logits up to 40 in float32, with TF32 off
    assert torch.allclose(found.surprisal.double(), -of_target[:, 0], **close)
    assert torch.allclose(found.entropy.double(), -(log_p.exp() * log_p).sum(1), **close)
    apart = ((log_p - of_target).abs() > 1e-4).sum(1) == 4999  # no near ties
    assert torch.equal(found.rank[apart], (log_p > of_target).sum(1)[apart])


def test_scores_are_those_of_the_cpu():
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=500,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    model = GPTNeoXForCausalLM(config).eval()
    rows = np.random.default_rng(0).integers(0, 500, (20, 65))

    on_cpu = score_checkpoint(model, rows)
    on_gpu = score_checkpoint(model.cuda(), rows)

    for name in ("log_likelihood", "entropy"):
        assert np.allclose(on_cpu[name], on_gpu[name], rtol=0, atol=1e-4)  # float32, other sums
