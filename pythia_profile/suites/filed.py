"""Amber and Pico as data: runs whose rows are published in files, in or near the order of reading.

Sources: LLM360/amber-train at 64bc595 (`main.py`, `main_utils.py`), the cards of LLM360/Amber and
LLM360/AmberDatasets; pico-lm/pico-train at f0bfdf4 (`src/config`, `configs`).
"""

from typing import Any

from data_order.shuffled.filed_runs import FILED_RUNS
from pythia_profile.suites.hubble import llama_parameters
from pythia_profile.suites.model import Size, Suite

__all__ = ["FILED"]

_AMBER = FILED_RUNS["amber"]
_FILE_STEPS = _AMBER.steps // _AMBER.files
_WIDTHS = {"tiny": 96, "small": 384, "medium": 768, "large": 1536}


def _amber() -> Size:
    # the shape of huggyllama/llama-7b, which `main.py` names
    parameters, body = llama_parameters(32, 4096, 4096, 11_008, 32_000)
    return Size(
        name="7b",
        layers=32,
        width=4096,
        heads=32,
        parameters=parameters,
        non_embedding=body,
        peak_lr=3e-4,
        min_lr=3e-5,
        precision="float32",
        weights="LLM360/Amber",
        checkpoints=tuple(_FILE_STEPS * file for file in range(1, _AMBER.files + 1)),
    )


def _pico(name: str, width: int) -> Size:
    # `ModelConfig`: 12 layers, 12 heads, 4 of keys, hidden layer of four times the width
    parameters, body = llama_parameters(12, width, width // 3, 4 * width, 50_304)
    return Size(
        name=name,
        layers=12,
        width=width,
        heads=12,
        parameters=parameters,
        non_embedding=body,
        peak_lr=3e-4,
        min_lr=0.0,
        precision="float32",
        weights=f"pico-lm/pico-decoder-{name}",
        checkpoints=(),
    )


def _filed(name: str, sizes: list[Size], vocabulary: int, *notes: str, **facts: Any) -> Suite:
    """Suite of a run of `FILED_RUNS`, whose note comes first."""
    order = FILED_RUNS[name]
    return Suite(
        name=name,
        published=name,
        batch_size=order.batch_size,
        steps=order.steps,
        row_tokens=order.row_tokens,
        vocabulary=vocabulary,
        seed=0,
        seeds=(0,),
        sizes={size.name: size for size in sizes},
        single_pass=None,
        notes=(order.note, *notes, "update 1 has rate 0; stored precision is assumed"),
        **facts,
    )


FILED: list[Suite] = [
    _filed(
        "amber",
        [_amber()],
        32_000,
        "its rows lie in files of JSON lines, which cannot be read by range: download those that "
        "are sampled, and name their folder in sample.store",
        "whether its files were shuffled together before they were cut is not known; compare "
        "sources by cohort",
        title="LLM360/Amber, 360 files of 1,706,976 rows, a checkpoint after each",
        schedule="neox_current",
        warmup_steps=2000,
        revision="ckpt_{label:03}",
        step_labels=_FILE_STEPS,
        first_label=-1,
        # rows of the last file, which none of these has read, are the controls
        study_defaults={"checkpoints": _amber().checkpoints[:-1]},
    ),
    _filed(
        "pico",
        [_pico(name, width) for name, width in _WIDTHS.items()],
        50_304,
        "how far each size went is what its repository lists: rows of later steps were never read",
        "its checkpoints are commits of a branch, in code of their own (PicoDecoderHF): not loaded "
        "here; bring them as Llama folders in a suite of your own",
        "a shard of 20,480 rows is fetched whole: draw few batches of each cohort",
        title="Pico decoders of four sizes on pretokenized Dolma, rows in the order of the file",
        schedule="linear",
        warmup_steps=2500,
    ),
]
"""Both suites."""
