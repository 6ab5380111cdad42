"""Published suites as data: one tuple of frozen suites for each name, one suite a training seed.

`PUBLISHED[name]` holds every training run of a suite, smallest seed first. Numbers of parameters
are computed from the shapes here; everything else is a fact with its source.

Sources: the training configurations and the issue threads of EleutherAI/pythia, the model cards of
Pythia and PolyPythias (arXiv 2304.01373, 2503.09543), and the threads that each fault names.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from data_order.published import ORDERS, PublishedOrder
from pythia_profile.suites.filed import FILED
from pythia_profile.suites.hubble import HUBBLE
from pythia_profile.suites.model import KnownFault, Size, Suite
from pythia_profile.suites.olmo import OLMO

__all__ = ["PUBLISHED"]

_SHAPES = {
    # size: layers, width, heads, padded vocabulary, peak rate
    "14m": (6, 128, 4, 50_304, 1.0e-3),
    "31m": (6, 256, 8, 50_304, 1.0e-3),
    "70m": (6, 512, 8, 50_304, 1.0e-3),
    "160m": (12, 768, 12, 50_304, 6.0e-4),
    "410m": (24, 1024, 16, 50_304, 3.0e-4),
    "1b": (16, 2048, 8, 50_304, 2.5e-4),
    "1.4b": (24, 2048, 16, 50_304, 2.0e-4),
    "2.8b": (32, 2560, 32, 50_304, 1.6e-4),
    "6.9b": (32, 4096, 32, 50_432, 1.2e-4),
    "12b": (36, 5120, 40, 50_688, 1.2e-4),
}
_GRID = range(0, 142_001, 1000)
_ASSUMED = {"seed": "its data seed", "row_store": "its rows", "maps": "its index maps"}
_UPDATE_1 = "update 1 has rate 0, so step 0 and step 1 hold the same weights [EleutherAI/pythia#83]"
_ONE_B = "1b: peak rate 2.5e-4 as configured, the README says 3.0e-4; stored as float16"
_SMALL = (
    "14m, 31m: until February 2026 EleutherAI/pythia-14m and -31m held the deduplicated models; "
    "older downloads under these names are not what they are called now"
)
_LAST_COHORT = (
    "no published row lies past the last step, so a study ends at step 142,000 by default: the "
    "rows of the last thousand steps are its controls"
)
_OWN_ORDER = (
    "its rows are not published in training order, so no treated rows can be drawn by `sample`; "
    "`pythia-profile order --idx` rebuilds them from the documents and the seed"
)


def _size(name: str, order: PublishedOrder, floor: float) -> Size:
    layers, width, heads, vocabulary, peak = _SHAPES[name]
    body = layers * (12 * width**2 + 13 * width) + 2 * width
    return Size(
        name=name,
        layers=layers,
        width=width,
        heads=heads,
        parameters=body + 2 * vocabulary * width,
        non_embedding=body,
        peak_lr=peak,
        min_lr=peak * floor,
        precision="float32" if name in ("14m", "31m") else "float16",
        weights=order.models.format(size=name),
        checkpoints=tuple(order.saved_steps),
    )


def _pythia(
    order: PublishedOrder,
    title: str,
    names: tuple[str, ...],
    *,
    floors: Mapping[str, float] = MappingProxyType({}),
    faults: tuple[KnownFault, ...] = (),
    notes: tuple[str, ...] = (),
) -> Suite:
    """Models that read one published order.

    Parameters
    ----------
    floors : by size, the lowest rate as a share of the peak, where it is not a tenth.
    """
    label, rows = order.label_steps, order.row_store
    assumed = ", ".join(_ASSUMED[fact] for fact in order.assumed)
    of_order = (order.note, f"no source states outright, assumed: {assumed}" if assumed else "")
    return Suite(
        name=order.name,
        title=title,
        published=order.name,
        batch_size=order.batch_size,
        steps=order.steps,
        row_tokens=order.row_tokens,
        vocabulary=50_304,
        schedule="neox_v1",
        warmup_steps=1430 // label,
        seed=0,
        seeds=(0,),
        sizes={size: _size(size, order, floors.get(size, 0.1)) for size in names},
        store=None if rows is None else f"hf://datasets/{rows.repository}",
        single_pass=order.single_pass,
        label_steps=label,
        study_defaults={
            "checkpoints": tuple(saved // label for saved in order.checkpoints if saved in _GRID),
            "rows_per_cohort": 100,
            "batches_per_cohort": 10,
            "never_treated": 2000,
        },
        faults=faults,
        notes=(*notes, *(note for note in of_order if note)),
    )


def _v0(order: PublishedOrder) -> Suite:
    """Models of the first release."""
    four = order.label_steps == 2
    pile = "standard" if order.single_pass else "deduplicated"
    return _pythia(
        order,
        f"first release of Pythia on the {pile} Pile, the models with {4 if four else 2}M tokens "
        "a step",
        ("160m", "410m", "1.4b") if four else ("70m", "1b", "2.8b", "6.9b", "12b"),
        floors={"6.9b": 0.0, "12b": 0.0},
        notes=(
            "no checkpoints before label step1000",
            *(() if four else ("6.9b, 12b: the rate falls to 0, not to a tenth of the peak",)),
        ),
    )


def _thread(*numbers: int) -> tuple[str, ...]:
    return tuple(f"EleutherAI/pythia#{number}" for number in numbers)


_FINAL_WEIGHTS = (
    *(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    *range(1000, 65_001, 1000),
    *(70_000, 80_000, 90_000, 100_000, 103_000, 110_000, 120_000, 130_000, 140_000, 143_000),
)
_SAME_START = KnownFault(
    what="steps 0 and 2 were reported to hold the same weights",
    steps=(0, 2),
    threads=_thread(198),
)
_OTHER_START = tuple(
    KnownFault(
        size=size,
        what="initialized otherwise than the smaller sizes: its configuration names no init_method",
        threads=_thread(135),
    )
    for size in ("6.9b", "12b")
)
_STANDARD_FAULTS = (
    _SAME_START,
    *_OTHER_START,
    KnownFault(
        size="2.8b",
        what="86 of 154 branches serve final weights: 76 equal main, 10 equal one another",
        steps=_FINAL_WEIGHTS,
        threads=_thread(195, 205),
    ),
    KnownFault(
        size="12b",
        what="the first of three shards is the final model's",
        steps=(50_000, 58_000),
        threads=_thread(206),
    ),
    KnownFault(
        size="12b", what="were missing, uploaded later", steps=(4000, 32_000), threads=_thread(107)
    ),
    KnownFault(
        size="6.9b", what="was missing, uploaded later", steps=(26_000,), threads=_thread(94)
    ),
    KnownFault(
        what="branches or files of several models were missing, most uploaded later",
        threads=_thread(141),
    ),
)
_DEDUPED_FAULTS = (
    _SAME_START,
    *_OTHER_START,
    KnownFault(
        size="12b",
        what="was another step's checkpoint, uploaded anew",
        steps=(32_000,),
        threads=_thread(108),
    ),
    KnownFault(
        size="2.8b", what="probably trained on the standard Pile, not the deduplicated", threads=()
    ),
    KnownFault(
        what="branches or files of several models were missing, most uploaded later",
        threads=_thread(141),
    ),
)
_NO_WEIGHTS = {2: 111_000, 6: 88_000, 9: 40_000}


def _polypythia(seed: int) -> Suite:
    order = ORDERS[f"pythia-seed{seed}" if seed else "pythia"]
    faults = [_SAME_START]
    if seed in _NO_WEIGHTS:
        faults.append(
            KnownFault(
                size="410m",
                what="the branch has no weights",
                steps=(_NO_WEIGHTS[seed],),
                threads=_thread(202),
            )
        )
    if seed == 2:
        faults.append(
            KnownFault(what="the published shuffle index is 92 % zeros", threads=_thread(190))
        )
    run = _pythia(
        order,
        "PolyPythias: ten runs of the five smallest sizes on the standard Pile",
        ("14m", "31m", "70m", "160m", "410m"),
        faults=tuple(faults),
        notes=(
            "seed 0 is the run of the suite pythia, seeds 1 to 9 differ in order and "
            "initialization",
            _UPDATE_1,
            _SMALL,
            _OWN_ORDER if seed else _LAST_COHORT,
        ),
    )
    return replace(run, name="polypythias", seed=seed, seeds=tuple(range(10)))


def _decoupled(kind: str, seed: int) -> Suite:
    changed, kept = ("order", "initialization") if kind == "data" else ("initialization", "order")
    faults = [_SAME_START]
    if kind == "weight" and seed < 3:
        faults.append(
            KnownFault(
                size="160m", what="does not descend from its own step 0", threads=_thread(203)
            )
        )
    run = _pythia(
        ORDERS[f"pythia-160m-{kind}-seed{seed}"],
        f"PolyPythias 160m: three runs that differ from Pythia in {changed}, not in {kept}",
        ("160m",),
        faults=tuple(faults),
        notes=(
            "the main branch holds no weights",
            _UPDATE_1,
            *((_OWN_ORDER,) if kind == "data" else ()),
        ),
    )
    return replace(run, name=f"polypythias-{kind}", seed=seed, seeds=(1, 2, 3))


_LIST = [
    _pythia(
        ORDERS["pythia"],
        "Pythia on the standard Pile, 154 checkpoints of each of ten sizes",
        tuple(_SHAPES),
        faults=_STANDARD_FAULTS,
        notes=(_UPDATE_1, _ONE_B, _SMALL, _LAST_COHORT),
    ),
    _pythia(
        ORDERS["pythia-deduped"],
        "Pythia on the deduplicated Pile, 154 checkpoints of each of ten sizes",
        tuple(_SHAPES),
        faults=_DEDUPED_FAULTS,
        notes=(_UPDATE_1, _ONE_B, _LAST_COHORT),
    ),
    *[_v0(order) for name, order in ORDERS.items() if "v0" in name],
    *[_polypythia(seed) for seed in range(10)],
    *[_decoupled(kind, seed) for kind in ("data", "weight") for seed in (1, 2, 3)],
    *OLMO,
    *HUBBLE,
    *FILED,
]

PUBLISHED: dict[str, tuple[Suite, ...]] = {
    name: tuple(suite for suite in _LIST if suite.name == name)
    for name in dict.fromkeys(suite.name for suite in _LIST)
}
"""Every published suite by name: its training runs, smallest seed first."""
