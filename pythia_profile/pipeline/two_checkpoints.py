"""A study of two checkpoints: a model before and after a training run whose order is not known.

In: two folders of weights, the text that the run read, and text that it did not. Out: a study
folder with a suite in it, which every stage takes as any other. All rows that were read are one
cohort, of step 1; the held-out rows are its controls.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_order.pack import pack_text
from data_order.store.megatron import MegatronStore
from pythia_profile.checkpoints.architecture import config_fault
from pythia_profile.errors import NotFoundError, StudyError, as_path
from pythia_profile.pipeline.opened import Study, create_study
from pythia_profile.study import new_study
from pythia_profile.suites.folder import write_suite
from pythia_profile.suites.model import Size, Suite

__all__ = ["ROW_TOKENS", "two_checkpoints"]

ROW_TOKENS = 129
_SUITE, _SIZE = "suite", "model"
_WEIGHTS = (".safetensors", ".bin")
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


def two_checkpoints(
    folder: Path | str,
    before: Path | str,
    after: Path | str,
    *,
    read: Path | str,
    held_out: Path | str,
    tokenizer: Path | str | None = None,
    row_tokens: int = ROW_TOKENS,
    settings: Mapping[str, object] | None = None,
) -> Study:
    """Begin a study of a model before and after a run; `run_study` takes it to its report.

    Parameters
    ----------
    folder : of the study.
    before, after : folders of the weights, as transformers saves them.
    read, held_out : text that the run read, and text of the same kind that it did not: `.jsonl`
        with a field `text`. Documents are encoded and cut into rows without overlap.
    tokenizer : `tokenizer.json` or its folder; by default that of `after`, or of `before`.
    row_tokens : tokens of a row.
    settings : others of the study, such as `{"draws": 500}`.

    Raises
    ------
    NotFoundError
        There is no such folder, or no tokenizer.
    StudyError
        The two folders are one, hold different models, or a model that cannot be read.
    """
    folder = as_path(folder)
    homes = [as_path(*home).resolve() for home in ((before, "before"), (after, "after"))]
    for path, what in ((read, "read"), (held_out, "held_out")):
        as_path(path, what)
    shape, other = (_config(home) for home in homes)
    if homes[0] == homes[1]:
        raise StudyError(f"before and after are one folder, '{homes[0]}'; expected two checkpoints")
    if different := [name for name in shape if shape[name] != other.get(name) and name in _SHAPE]:
        raise StudyError(
            f"before and after are different models: {different[0]} is {shape[different[0]]!r} "
            f"and {other.get(different[0])!r}"
        )
    encoder = Path(tokenizer) if tokenizer is not None else _tokenizer(homes)
    texts = [pack_text(path, encoder, row_tokens) for path in (read, held_out)]
    known = {tuple(row) for row in texts[0].tolist()}
    if shared := sum(tuple(row) in known for row in texts[1].tolist()):
        raise StudyError(
            f"{shared} of {len(texts[1])} held-out rows are among the rows that were read; "
            "controls must not have been read"
        )
    root = folder / _SUITE
    MegatronStore.write(root / "rows", np.concatenate(texts))
    for step, home in enumerate(homes):
        link = root / _SIZE / f"step{step}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(home, target_is_directory=True)
    write_suite(_suite(shape, homes[0], len(texts[0]), row_tokens), root)
    drawn = {
        "rows_per_cohort": len(texts[0]),
        "batches_per_cohort": 0,
        "never_treated": len(texts[1]),
    }
    chosen = {f"sample.{name}": value for name, value in drawn.items()}
    study = new_study(_SUITE, (_SIZE,), {**chosen, **(settings or {})})
    return create_study(folder, study)


_SHAPE = ("model_type", "num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")


def _config(home: Path) -> dict[str, Any]:
    path = home / "config.json"
    if not path.is_file():
        raise NotFoundError(
            f"no config.json in '{home}'; expected a model as transformers saves it"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"'{path}' is no JSON: {error}") from error
    if fault := config_fault(config):
        raise StudyError(f"'{path}': {fault}")
    found: dict[str, Any] = config
    return found


def _tokenizer(homes: list[Path]) -> Path:
    for home in reversed(homes):
        if (home / "tokenizer.json").is_file():
            return home / "tokenizer.json"
    raise NotFoundError(f"no tokenizer.json in '{homes[1]}' or '{homes[0]}'; name one")


def _suite(shape: dict[str, Any], home: Path, rows: int, row_tokens: int) -> Suite:
    """Describe the run as one step that reads all rows, at a rate that is not known."""
    precision = str(shape.get("dtype") or shape.get("torch_dtype") or "float32")
    stored = sum(path.stat().st_size for path in home.iterdir() if path.suffix in _WEIGHTS)
    size = Size(
        name=_SIZE,
        layers=shape["num_hidden_layers"],
        width=shape["hidden_size"],
        heads=shape["num_attention_heads"],
        parameters=stored // _BYTES.get(precision, 4),
        peak_lr=0.0,
        min_lr=0.0,
        precision=precision,
        weights=_SIZE,
        checkpoints=(0, 1),
    )
    return Suite(
        name="two-checkpoints",
        title="a model before and after a run whose order is not known",
        batch_size=rows,
        steps=1,
        row_tokens=row_tokens,
        vocabulary=shape["vocab_size"],
        schedule="linear",
        warmup_steps=0,
        seed=0,
        sizes={_SIZE: size},
        store="rows",
        notes=("all rows that were read are one cohort; learning rates are not known",),
    )
