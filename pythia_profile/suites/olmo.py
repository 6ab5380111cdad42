"""OLMo 1 and 2 as data: one suite a model, because each read an order of its own.

The order of their rows is not replayable here yet, so their checkpoints can be listed, audited and
scored on rows that one brings along, but no treated rows can be drawn.

Sources: `configs/official*` of allenai/OLMo and `src/scripts/official/OLMo2` of allenai/OLMo-core,
the model cards of allenai, and allenai/OLMo#915. Rates are those of the configuration, with the
first update at rate 0 as in `neox_current`; OLMo's own code may be one update ahead.
"""

from dataclasses import dataclass

from pythia_profile.suites.model import KnownFault, Size, Suite

__all__ = ["OLMO"]

_NO_ORDER = "the order of its rows is not replayable here yet: no store, no treated rows"
_OWN_CODE = "its checkpoints need code of their own (model_type hf_olmo): listed, not loaded here"
_STEPS = "which steps exist is what the repository lists"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Shape of one model.

    Attributes
    ----------
    hidden : width of the gated feed-forward layer.
    keys : width of keys and of values; that of the model by default.
    normed : whether norms have weights (OLMo 2: of queries, keys, and after both parts of a layer).
    tied : whether embeddings and head are one matrix.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    keys: int = 0
    vocabulary: int = 100_352
    normed: bool = True
    tied: bool = False

    def counted(self) -> tuple[int, int]:
        """All parameters, and those without embeddings and head."""
        width, keys = self.width, self.keys or self.width
        layer = 2 * width**2 + 2 * width * keys + 3 * width * self.hidden
        norms = self.layers * (3 * width + keys) + width if self.normed else 0
        body = self.layers * layer + norms
        return body + (1 if self.tied else 2) * self.vocabulary * width, body


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """How one model was trained; `decay_tokens` is the length of the schedule, 0 for the run's."""

    batch_size: int
    steps: int
    peak_lr: float
    row_tokens: int = 4096
    warmup_steps: int = 2000
    decay_tokens: int = 0
    schedule: str = "neox_current"


def _olmo(
    name: str,
    weights: str,
    shape: _Shape,
    run: _Run,
    *,
    faults: tuple[KnownFault, ...] = (),
    notes: tuple[str, ...] = (),
) -> Suite:
    parameters, body = shape.counted()
    size = Size(
        name=name.split("-")[1],
        layers=shape.layers,
        width=shape.width,
        heads=shape.heads,
        parameters=parameters,
        non_embedding=body,
        peak_lr=run.peak_lr,
        min_lr=run.peak_lr / 10,
        precision="float32",
        weights=weights,
        checkpoints=(),
    )
    stage = "stage1-" if name.startswith("olmo2") else ""
    return Suite(
        name=name,
        title=f"{weights}, {run.steps:,} steps of {run.batch_size:,} rows",
        batch_size=run.batch_size,
        steps=run.steps,
        row_tokens=run.row_tokens,
        vocabulary=shape.vocabulary,
        schedule=run.schedule,
        warmup_steps=run.warmup_steps,
        decay_steps=run.decay_tokens // (run.batch_size * run.row_tokens),
        seed=0,
        seeds=(0,),
        sizes={size.name: size},
        revision=f"{stage}step{{label}}-tokens{{tokens}}B",
        faults=faults,
        notes=(_NO_ORDER, _STEPS, *notes),
    )


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
        _Shape(
            layers=16, width=2048, heads=16, hidden=8192, vocabulary=50_304, normed=False, tied=True
        ),
        _Run(batch_size=2048, steps=739_328, row_tokens=2048, peak_lr=4.0e-4),
        notes=(_OWN_CODE,),
    ),
    _olmo(
        "olmo-7b",
        "allenai/OLMo-7B",
        _Shape(layers=32, width=4096, heads=32, hidden=11_008, vocabulary=50_304, normed=False),
        _Run(
            batch_size=2160,
            steps=557_000,
            row_tokens=2048,
            peak_lr=3.0e-4,
            schedule="linear",
            warmup_steps=5000,
        ),
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
        _Shape(layers=16, width=2048, heads=16, hidden=8192),
        _Run(
            batch_size=512,
            steps=1_907_359,
            peak_lr=4.0e-4,
            warmup_steps=4000,
            decay_tokens=5 * _TRILLION,
        ),
    ),
    _olmo(
        "olmo2-7b",
        "allenai/OLMo-2-1124-7B",
        _Shape(layers=32, width=4096, heads=32, hidden=11_008),
        _Run(batch_size=1024, steps=928_646, peak_lr=3.0e-4, decay_tokens=5 * _TRILLION),
        faults=(_SAME_7B,),
        notes=("a few branches lack the prefix stage1- and are not listed as checkpoints",),
    ),
    _olmo(
        "olmo2-13b",
        "allenai/OLMo-2-1124-13B",
        _Shape(layers=40, width=5120, heads=40, hidden=13_824),
        _Run(
            batch_size=2048,
            steps=596_057,
            peak_lr=3.0e-4,
            warmup_steps=1000,
            decay_tokens=5 * _TRILLION,
        ),
    ),
    _olmo(
        "olmo2-32b",
        "allenai/OLMo-2-0325-32B",
        _Shape(layers=64, width=5120, heads=40, hidden=27_648, keys=1024),
        _Run(batch_size=2048, steps=721_901, peak_lr=6.0e-4, decay_tokens=65 * _TRILLION // 10),
    ),
]
"""Suites of one model each; the data order is not replayable here."""
