"""OLMo 1, 2 and 3 as data: one suite a model, because each read an order of its own.

The order of OLMo 2 and 3 is data_order's (`data_order.shuffled.runs`). That of OLMo 1 is not known:
before July 2023 rows were shuffled by torch, until August 2023 batches hung on the number of
devices, and OLMo-7B read another list of files than its configuration's (allenai/OLMo#538). Its
checkpoints can be listed, audited and scored on rows that one brings along.

Sources: `configs/official*` of allenai/OLMo and `src/scripts/official/OLMo2` of allenai/OLMo-core,
the model cards of allenai, and allenai/OLMo#915. The 13B's peak rate is 9e-4, as
`scripts/augusta/peteish13.sh` set it at the launch: its configuration says 3e-4, but stage 2 begins
at a tenth of 9e-4.
"""

from dataclasses import dataclass, replace

from data_order.shuffled.runs import RUNS
from pythia_profile.suites.model import KnownFault, Size, Suite
from pythia_profile.suites.schedule import olmo_cosine
from pythia_profile.suites.unreplayable import why_unknown

__all__ = ["OLMO"]

_OWN_CODE = "its checkpoints need code of their own (model_type hf_olmo): listed, not loaded here"
_BRANCHES = "names of its branches are assumed; its repository has the last word"
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


@dataclass(frozen=True, slots=True)
class _Run:
    """How one model was trained.

    Attributes
    ----------
    decay_tokens, decay_steps : length of the schedule, in one of them; 0 for that of the run.
    min_lr : floor of the rate; a tenth of the peak by default.
    """

    batch_size: int
    steps: int
    peak_lr: float
    row_tokens: int = 4096
    warmup_steps: int = 2000
    decay_tokens: int = 0
    schedule: str = "neox_current"
    decay_steps: int = 0
    min_lr: float | None = None


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
        min_lr=run.peak_lr / 10 if run.min_lr is None else run.min_lr,
        precision="float32",
        weights=weights,
        checkpoints=(),
    )
    stage = "stage1-" if name.startswith("olmo2") else ""
    order = RUNS.get(name)
    known = (order.note,) if order is not None and order.note else ()
    return Suite(
        name=name,
        title=f"{weights}, {run.steps:,} steps of {run.batch_size:,} rows",
        batch_size=run.batch_size,
        steps=run.steps,
        row_tokens=run.row_tokens,
        vocabulary=shape.vocabulary,
        schedule=run.schedule,
        warmup_steps=run.warmup_steps,
        decay_steps=run.decay_steps or run.decay_tokens / (run.batch_size * run.row_tokens),
        published=name if order is not None else "",
        single_pass=order is not None and order.single_pass,
        seed=0,
        seeds=(0,),
        sizes={size.name: size},
        revision=f"{stage}step{{label}}-tokens{{tokens}}B",
        faults=faults,
        notes=(*(known if order is not None else (why_unknown(name),)), _STEPS, *notes),
    )


_TRILLION = 10**12
_SAME_7B = KnownFault(
    size="7b",
    what="three branches serve the same weights",
    steps=(101_000, 175_000, 300_000),
    threads=("allenai/OLMo#915",),
)

_SHAPE_1B = _Shape(layers=16, width=2048, heads=16, hidden=8192)
_SHAPE_7B = _Shape(layers=32, width=4096, heads=32, hidden=11_008)
_SHAPE_13B = _Shape(layers=40, width=5120, heads=40, hidden=13_824)
_SHAPE_32B = _Shape(layers=64, width=5120, heads=40, hidden=27_648, keys=1024)


def _pretrained(batch_size: int, steps: int, peak_lr: float, warmup_steps: int) -> _Run:
    """Stage 1 of OLMo 2: warm-up over 8,388,608,000 tokens, a cosine over 5e12."""
    return _Run(
        batch_size=batch_size,
        steps=steps,
        peak_lr=peak_lr,
        warmup_steps=warmup_steps,
        decay_tokens=5 * _TRILLION,
        schedule="olmo_cosine",
    )


def _olmo_3(name: str, weights: str, shape: _Shape, run: _Run, *notes: str) -> Suite:
    """Pre-training of OLMo 3."""
    suite = _olmo(name, weights, shape, run, notes=(_BRANCHES, *notes))
    return replace(suite, revision="stage1-step{label}")


def _annealed(model: str, weights: str, shape: _Shape, peak: float) -> list[Suite]:
    """Stage 2 of a model: a run for each ingredient, a line from `peak` to rate 0."""
    names = [name for name in RUNS if name.startswith(f"{model}-stage2-")]
    suites = []
    for number, name in enumerate(names, 1):
        order = RUNS[name]
        run = _Run(
            order.batch_size,
            order.steps,
            peak,
            order.row_tokens,
            min_lr=0.0,
            warmup_steps=0,
            decay_steps=order.idle_from,
            schedule="olmo_linear",
        )
        core = model.startswith("olmo3")  # its branches are named without their tokens
        part = f"-ingredient{number}" if len(names) > 1 else ""
        revision = f"stage2{part}-step{{label}}" + ("" if core else "-tokens{tokens}B")
        suites.append(
            replace(
                _olmo(name, weights, shape, run, notes=(_BRANCHES,) if core else ()),
                name=f"{model}-stage2",
                seed=number if part else 0,
                seeds=tuple(range(1, len(names) + 1)) if part else (0,),
                revision=revision,
            )
        )
    return suites


_END_32B = float(olmo_cosine([721_901], peak=6e-4, minimum=6e-5, warmup=2000, total=774_861)[0])
"""Rate at which stage 1 of the 32B ended, and stage 2 begins (`get_lr_from_checkpoint`)."""

OLMO: list[Suite] = [
    _olmo(
        "olmo-1b",
        "allenai/OLMo-1B",
        _Shape(
            layers=16, width=2048, heads=16, hidden=8192, vocabulary=50_304, normed=False, tied=True
        ),
        _Run(2048, 739_328, 4.0e-4, 2048, schedule="olmo1_cosine"),
        notes=(_OWN_CODE,),
    ),
    _olmo(
        "olmo-7b",
        "allenai/OLMo-7B",
        _Shape(layers=32, width=4096, heads=32, hidden=11_008, vocabulary=50_304, normed=False),
        _Run(2160, 557_000, 3.0e-4, 2048, warmup_steps=5000, schedule="olmo1_linear"),
        notes=(
            _OWN_CODE,
            "batch size from the tokens of step556000-tokens2460B; the configuration says 2048",
            "over how many steps the rate fell, and the last 1000 steps to 0, is not in the "
            "configuration",
        ),
    ),
    _olmo(
        "olmo2-1b", "allenai/OLMo-2-0425-1B", _SHAPE_1B, _pretrained(512, 1_907_359, 4.0e-4, 4000)
    ),
    _olmo(
        "olmo2-7b",
        "allenai/OLMo-2-1124-7B",
        _SHAPE_7B,
        _pretrained(1024, 928_646, 3.0e-4, 2000),
        faults=(_SAME_7B,),
        notes=("a few branches lack the prefix stage1- and are not listed as checkpoints",),
    ),
    _olmo(
        "olmo2-13b", "allenai/OLMo-2-1124-13B", _SHAPE_13B, _pretrained(2048, 596_057, 9.0e-4, 1000)
    ),
    _olmo(
        "olmo2-32b",
        "allenai/OLMo-2-0325-32B",
        _SHAPE_32B,
        _Run(2048, 721_901, 6.0e-4, schedule="olmo_cosine", decay_steps=774_861),
    ),
    _olmo_3(
        "olmo3-7b",
        "allenai/Olmo-3-1025-7B",
        _SHAPE_7B,
        _Run(512, 1_413_814, 3.0e-4, 8192, schedule="olmo3_extended", decay_steps=1_668_931),
    ),
    _olmo_3(
        "olmo3-32b",
        "allenai/Olmo-3-1125-32B",
        _SHAPE_32B,
        # a cosine from 6e-4 over the pass, whose length the sizes of 950 files would tell
        _Run(1024, 679_000, 0.0, 8192, schedule="olmo_cosine"),
        "its rate is not known: a cosine from 6e-4 over the steps of one pass, of which the sizes "
        "of its token files would tell how many they are",
        "stage 2 begins at step 656,000, pre-training was saved until step 679,000",
    ),
    *_annealed("olmo2-1b", "allenai/OLMo-2-0425-1B", _SHAPE_1B, 7.4487e-5),
    *_annealed("olmo2-7b", "allenai/OLMo-2-1124-7B", _SHAPE_7B, 6.1499e-5),
    *_annealed("olmo2-13b", "allenai/OLMo-2-1124-13B", _SHAPE_13B, 9.0e-5),
    *_annealed("olmo2-32b", "allenai/OLMo-2-0325-32B", _SHAPE_32B, _END_32B),
    # `LR` of the scripts for midtraining
    *_annealed("olmo3-7b", "allenai/Olmo-3-1025-7B", _SHAPE_7B, 0.00020712352850360292),
    *_annealed("olmo3-32b", "allenai/Olmo-3-1125-32B", _SHAPE_32B, 0.0002071235285),
]
"""Suites of one model each; the seeds of a stage 2 are its ingredients."""
