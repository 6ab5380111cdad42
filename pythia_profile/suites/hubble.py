"""Hubble as data: 1B and 8B on 100B and 500B tokens, with and without insertions, and timing runs.

Its order is GPT-NeoX's, from the documents and a seed: rows in training order are published nowhere
as files that can be read by range, so a study names a store that `pythia-profile rows` has written
(`--seed 1234 --split 969,30,1`).

Sources: allegro-lab/hubble at e086892, `configs/hubble_{1b,8b}`, and its README.
"""

from pythia_profile.suites.model import Size, Suite

__all__ = ["HUBBLE", "llama_parameters"]

_ORDER = (
    "its rows are packed from documents: allegrolab/dclm-baseline-500b_toks, whose .bin is "
    "compressed in parts; write them with `pythia-profile rows --documents PREFIX --seed 1234 "
    "--split 969,30,1 --batch-size 1024 --steps {steps}`, and name them in sample.store"
)
_SPLIT = "the last 3.1 % of the documents are never trained on (split 969,30,1): held-out text"
_UPDATE_1 = "update 1 has rate 0, so step 0 and step 1 hold the same weights"
_BRANCHES = (
    "names of its branches are assumed: the conversion made the last step in this format; the "
    "-neox repositories hold the others in another, which is not loaded here"
)
_PRECISION = "stored precision is assumed to be that of training"

_TIMING = ("0_50", "50_100", "0_25", "25_50", "50_75", "75_100")
_INTERFERENCE = ("testset", "copyright", "privacy")

_SHAPES = {
    # layers, width, heads, width of keys, hidden: `export_config.yml`
    "1b": (16, 2048, 32, 512, 8192),
    "8b": (36, 4096, 32, 1024, 14_336),
}


def llama_parameters(
    layers: int, width: int, keys: int, hidden: int, vocabulary: int
) -> tuple[int, int]:
    """All parameters of a Llama without tied embeddings, and those without embeddings and head.

    Examples
    --------
    >>> llama_parameters(32, 4096, 4096, 11_008, 32_000)  # Llama 7B
    (6738415616, 6476271616)
    """
    layer = 2 * width**2 + 2 * width * keys + 3 * width * hidden + 2 * width
    body = layers * layer + width
    return body + 2 * vocabulary * width, body


def _size(name: str, weights: str) -> Size:
    layers, width, heads, keys, hidden = _SHAPES[name]
    parameters, body = llama_parameters(layers, width, keys, hidden, 50_304)
    return Size(
        name=name,
        layers=layers,
        width=width,
        heads=heads,
        parameters=parameters,
        non_embedding=body,
        peak_lr=4e-4,
        min_lr=4e-5,
        precision="bfloat16",
        weights=weights,
        checkpoints=(),
    )


def _hubble(
    name: str, title: str, repository: str, steps: int, sizes: tuple[str, ...] = ("1b",)
) -> Suite:
    """One data condition.

    Parameters
    ----------
    repository : of the weights, with `{size}` for the size.
    """
    return Suite(
        name=f"hubble-{name}",
        title=f"Hubble, {title}",
        batch_size=1024,
        steps=steps,
        row_tokens=2049,
        vocabulary=50_304,
        schedule="neox_current",
        # `warmup` 0.05 of 48,000 steps, 0.01 of 238,500
        warmup_steps=2400 if steps == 48_000 else 2385,
        seed=0,
        seeds=(0,),
        data_seed=1234,
        sizes={size: _size(size, f"allegrolab/{repository.format(size=size)}") for size in sizes},
        single_pass=None,
        notes=(_ORDER.format(steps=steps), _SPLIT, _UPDATE_1, _BRANCHES, _PRECISION),
    )


HUBBLE: list[Suite] = [
    *[
        _hubble(
            f"{tokens}-{kind}",
            f"{tokens.upper()} tokens, {kind}",
            f"hubble-{{size}}-{tokens}_toks-{kind}-hf",
            steps,
            ("1b", "8b"),
        )
        for tokens, steps in (("100b", 48_000), ("500b", 238_500))
        for kind in ("standard", "perturbed")
    ],
    *[
        _hubble(
            f"injectrange-{span}",
            f"insertions in {span.replace('_', ' to ')} % of the steps only",
            f"hubble-{{size}}-100b_toks-injectrange_{span}-hf",
            48_000,
        )
        for span in _TIMING
    ],
    *[
        _hubble(
            f"interference-{kind}",
            f"insertions of {kind} only",
            f"hubble-{{size}}-100b_toks-interference_{kind}-hf",
            48_000,
        )
        for kind in _INTERFERENCE
    ],
]
"""Suites of one data condition each."""
