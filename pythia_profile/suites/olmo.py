"""OLMo 1 and 2 as data: one suite a model, because each read an order of its own.

The order of their rows is not replayable here yet, so their checkpoints can be listed, audited and
scored on rows that one brings along, but no treated rows can be drawn.

Sources: `configs/official*` of allenai/OLMo and `src/scripts/official/OLMo2` of allenai/OLMo-core,
the model cards of allenai, and allenai/OLMo#915. Rates are those of the configuration, with the
first update at rate 0 as in `neox_current`; OLMo's own code may be one update ahead.
"""

from pythia_profile.suites.model import KnownFault, Size, Suite

__all__ = ["OLMO"]

_NO_ORDER = "the order of its rows is not replayable here yet: no store, no treated rows"
_OWN_CODE = "its checkpoints need code of their own (model_type hf_olmo): listed, not loaded here"
_STEPS = "which steps exist is what the repository lists"


def _olmo(
    name: str,
    weights: str,
    shape: tuple[int, int, int],
    *,
    batch_size: int,
    steps: int,
    row_tokens: int,
    peak_lr: float,
    parameters: tuple[int, int],
    schedule: str = "neox_current",
    warmup_steps: int = 2000,
    decay_steps: int = 0,
    vocabulary: int = 100_352,
    revision: str = "stage1-step{label}-tokens{tokens}B",
    precision: str = "float32",
    faults: tuple[KnownFault, ...] = (),
    notes: tuple[str, ...] = (),
) -> Suite:
    size = Size(
        name=name.split("-")[1],
        layers=shape[0],
        width=shape[1],
        heads=shape[2],
        parameters=parameters[0],
        non_embedding=parameters[1],
        peak_lr=peak_lr,
        min_lr=peak_lr / 10,
        precision=precision,
        weights=weights,
        checkpoints=(),
    )
    return Suite(
        name=name,
        title=f"{weights}, {steps:,} steps of {batch_size:,} rows",
        batch_size=batch_size,
        steps=steps,
        row_tokens=row_tokens,
        vocabulary=vocabulary,
        schedule=schedule,
        warmup_steps=warmup_steps,
        decay_steps=decay_steps,
        seed=0,
        seeds=(0,),
        sizes={size.name: size},
        revision=revision,
        faults=faults,
        notes=(_NO_ORDER, _STEPS, *notes),
    )


def _counted(
    layers: int, width: int, hidden: int, vocabulary: int, keys: int, *, normed: bool, tied: bool
) -> tuple[int, int]:
    """All parameters, and those without embeddings and head.

    Parameters
    ----------
    hidden : width of the gated feed-forward layer.
    keys : width of keys and of values.
    normed : whether norms have weights (OLMo 2: of queries, keys, and after both parts of a layer).
    tied : whether embeddings and head are one matrix.
    """
    layer = 2 * width**2 + 2 * width * keys + 3 * width * hidden
    norms = layers * (3 * width + keys) + width if normed else 0
    body = layers * layer + norms
    return body + (1 if tied else 2) * vocabulary * width, body


_TRILLION = 10**12
_SAME_7B = KnownFault(
    size="7b",
    what="three branches serve the same weights",
    steps=(101_000, 175_000, 300_000),
    threads=("allenai/OLMo#915",),
)

OLMO: list[Suite] = [
    _olmo(
        "olmo-1b",
        "allenai/OLMo-1B",
        (16, 2048, 16),
        batch_size=2048,
        steps=739_328,
        row_tokens=2048,
        vocabulary=50_304,
        peak_lr=4.0e-4,
        parameters=_counted(16, 2048, 8192, 50_304, 2048, normed=False, tied=True),
        revision="step{label}-tokens{tokens}B",
        notes=(_OWN_CODE,),
    ),
    _olmo(
        "olmo-7b",
        "allenai/OLMo-7B",
        (32, 4096, 32),
        batch_size=2160,
        steps=557_000,
        row_tokens=2048,
        vocabulary=50_304,
        peak_lr=3.0e-4,
        schedule="linear",
        warmup_steps=5000,
        parameters=_counted(32, 4096, 11_008, 50_304, 4096, normed=False, tied=False),
        revision="step{label}-tokens{tokens}B",
        notes=(
            _OWN_CODE,
            "batch size from the tokens of step556000-tokens2460B; the configuration says 2048",
            "over how many steps the rate fell, and the last 1000 steps to 0, is not in the "
            "configuration",
        ),
    ),
    _olmo(
        "olmo2-1b",
        "allenai/OLMo-2-0425-1B",
        (16, 2048, 16),
        batch_size=512,
        steps=1_907_359,
        row_tokens=4096,
        peak_lr=4.0e-4,
        warmup_steps=4000,
        decay_steps=5 * _TRILLION // (512 * 4096),
        parameters=_counted(16, 2048, 8192, 100_352, 2048, normed=True, tied=False),
    ),
    _olmo(
        "olmo2-7b",
        "allenai/OLMo-2-1124-7B",
        (32, 4096, 32),
        batch_size=1024,
        steps=928_646,
        row_tokens=4096,
        peak_lr=3.0e-4,
        decay_steps=5 * _TRILLION // (1024 * 4096),
        parameters=_counted(32, 4096, 11_008, 100_352, 4096, normed=True, tied=False),
        faults=(_SAME_7B,),
        notes=("a few branches lack the prefix stage1- and are not listed as checkpoints",),
    ),
    _olmo(
        "olmo2-13b",
        "allenai/OLMo-2-1124-13B",
        (40, 5120, 40),
        batch_size=2048,
        steps=596_057,
        row_tokens=4096,
        peak_lr=3.0e-4,
        warmup_steps=1000,
        decay_steps=5 * _TRILLION // (2048 * 4096),
        parameters=_counted(40, 5120, 13_824, 100_352, 5120, normed=True, tied=False),
    ),
    _olmo(
        "olmo2-32b",
        "allenai/OLMo-2-0325-32B",
        (64, 5120, 40),
        batch_size=2048,
        steps=721_901,
        row_tokens=4096,
        peak_lr=6.0e-4,
        decay_steps=65 * _TRILLION // (10 * 2048 * 4096),
        parameters=_counted(64, 5120, 27_648, 100_352, 1024, normed=True, tied=False),
    ),
]
"""Suites of one model each; the data order is not replayable here."""
