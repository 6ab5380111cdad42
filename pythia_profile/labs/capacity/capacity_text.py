"""What models hold of text: rows of Python's own sources, beyond a reference that read more.

In: settings. Out: tables `text` (a line a number of rows and reference), `text_models` (a line a
model) and `text_rows` (a line a row). On text a model also learns the language, so what it holds of
a row is what it knows beyond a reference: a model of its own size, or a larger one, both trained on
a superset of its rows. The result depends on the reference, which each line names.

Source: Morris et al. (2025), section 4.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import spearmanr

from pythia_profile.execute.worker import Worker
from pythia_profile.labs.capacity.capacity_numbers import CapacityError, unintended_bits
from pythia_profile.labs.capacity.capacity_settings import TextSettings
from pythia_profile.labs.capacity.capacity_training import (
    extracted,
    remove_checkpoints,
    train_by_heart,
)
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.corpus import CorpusError, read_corpus, token_rows, train_tokenizer
from pythia_profile.store import atomic_write, digest, write_json
from pythia_profile.training.languages import Rows
from pythia_profile.training.loop import token_losses
from pythia_profile.training.shapes import ModelShape, tiny_model
from pythia_profile.training.units import RESULT, run_units

__all__ = ["REFERENCES", "TextTables", "TextUnit", "text_rows_of", "text_tables", "tf_idf"]

REFERENCES = ("same size", "larger")
"""Models that have read the superset, beside which a target is counted."""

_MOST_EXTRACTED = 256


@dataclass(frozen=True, slots=True)
class TextUnit:
    """One model and the first `rows` rows of the corpus, which it learns by heart."""

    home: Path
    settings: TextSettings
    size: ModelShape
    rows: int
    corpus: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.size.name} {self.rows} rows of text seed {self.settings.seed}"

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""
        other = self.settings.model_dump(exclude={"size", "larger", "rows"})
        libraries = [version(name) for name in ("torch", "transformers")]
        own = [self.size.model_dump(), self.rows, other, self.corpus.name, libraries]
        return self.home / f"{self.name.replace(' ', '-')}-{digest(own)[:10]}"

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.settings.steps


@dataclass(frozen=True, slots=True)
class TextTables:
    """What was found.

    Attributes
    ----------
    text : `reference`, `rows`, `bits` in all, `bits_per_row`, `share_above_0`, `tf_idf`, the rank
        correlation of bits with TF-IDF among the rows above 0 (`rows_above_0`), and the mean TF-IDF
        of the tenth with the most bits and of all rows (`tf_idf_most`, `tf_idf_all`).
    models : `role`, `parameters`, `rows`, `epochs`, `train_bits` and `test_bits` a token, late gain
        and the shares extracted with each prefix.
    rows : `reference`, `rows`, `row`, `bits`, `tf_idf`.
    """

    text: pl.DataFrame
    models: pl.DataFrame
    rows: pl.DataFrame


def text_tables(
    home: Path, settings: TextSettings, *, device: str = "cpu", workers: int | None = None
) -> TextTables:
    """Train what is not trained yet; return what the targets hold beyond both references.

    Parameters
    ----------
    home : folder of the runs and of the corpus.
    device, workers : as of `capacity_tables`.

    Raises
    ------
    CapacityError
        The standard library holds too little text.
    """
    corpus = _corpus(home, settings)
    larger = TextUnit(home, settings, settings.larger, settings.superset, corpus)
    same = TextUnit(home, settings, settings.size, settings.superset, corpus)
    targets = [TextUnit(home, settings, settings.size, rows, corpus) for rows in settings.rows]
    units = list({unit.folder: unit for unit in (larger, same, *targets)}.values())
    title = f"training {len(units)} models on text"
    results = run_units(units, train_text, title=title, device=device, workers=workers)
    line_of = {unit.folder: line for unit, line in zip(units, results, strict=True)}
    roles = [(larger, "larger"), (same, "same size"), *((unit, "target") for unit in targets)]
    models = pl.DataFrame([{"role": role, **line_of[unit.folder]} for unit, role in roles])
    content = np.load(corpus)
    references = dict(zip(REFERENCES, (_nats(same), _nats(larger)), strict=True))
    lines, parts = [], []
    for unit in targets:
        rarity = tf_idf(content[: unit.rows], settings.vocabulary)
        own = _nats(unit)[: unit.rows]
        for name, nats in references.items():
            bits = unintended_bits(-own, -nats[: unit.rows])
            lines.append({"reference": name, "rows": unit.rows, **_related(bits, rarity)})
            parts.append(
                pl.DataFrame({"row": np.arange(unit.rows), "bits": bits, "tf_idf": rarity}).select(
                    pl.lit(name).alias("reference"), pl.lit(unit.rows).alias("rows"), pl.all()
                )
            )
    text = pl.DataFrame(lines, infer_schema_length=None).sort("reference", "rows")
    return TextTables(text, models, pl.concat(parts))


def tf_idf(rows: npt.NDArray[np.integer[Any]], vocabulary: int) -> npt.NDArray[np.float64]:
    """Mean over a row's tokens w of log(|D| / tf(w)): high where its tokens are rare in the data.

    Parameters
    ----------
    rows : (n, T) token ids: the data D of n rows.

    Returns
    -------
    (n,) with tf(w) how often w occurs in D.

    Examples
    --------
    >>> tf_idf(np.array([[0, 0], [0, 1]]), 2).round(3)
    array([-0.405,  0.144])

    Source: Morris et al. (2025), section 4: (1/|d|) Σ log(|D| / tf(w)).
    """
    often = np.bincount(rows.ravel(), minlength=vocabulary)
    found: npt.NDArray[np.float64] = np.log(len(rows) / often[rows]).mean(axis=1)
    return found


def _related(
    bits: npt.NDArray[np.float64], rarity: npt.NDArray[np.float64]
) -> dict[str, float | int | None]:
    above = bits > 0
    related = None
    if above.sum() > 2 and np.ptp(bits[above]) and np.ptp(rarity[above]):
        related = float(spearmanr(bits[above], rarity[above]).statistic)
    most = np.argsort(-bits, kind="stable")[: max(1, len(bits) // 10)]
    return {
        "bits": float(bits.sum()),
        "bits_per_row": float(bits.mean()),
        "share_above_0": float(above.mean()),
        "rows_above_0": int(above.sum()),
        "tf_idf": related,
        "tf_idf_most": float(rarity[most].mean()),
        "tf_idf_all": float(rarity.mean()),
    }


def text_rows_of(settings: TextSettings) -> tuple[Rows, str]:
    """Rows of the superset, then those that no model reads, no two the same; and their hash.

    Raises
    ------
    CapacityError
        The standard library holds too little text.
    """
    config = _config(settings)
    try:
        corpus = read_corpus(config)
        tokenizer = train_tokenizer(corpus.texts, config.vocabulary)
        rows = token_rows(corpus, tokenizer, config)
    except CorpusError as error:
        raise CapacityError(
            f"superset: got {settings.superset:,} rows and {settings.test_rows:,} to test, more "
            f"than this Python's own sources give; take fewer, or shorter ones ({error})"
        ) from error
    return rows.astype(np.int64), config.key(corpus.sha256)


def _config(settings: TextSettings) -> MiniConfig:
    return MiniConfig(
        seed=settings.seed,
        vocabulary=settings.vocabulary,
        row_tokens=settings.tokens,
        batch_size=1,
        steps=settings.superset,
        interval=1,
        never_treated=settings.test_rows,
        spare=0,
    )


def _corpus(home: Path, settings: TextSettings) -> Path:
    rows, key = text_rows_of(settings)
    path = home / f"corpus-{key}.npy"
    with atomic_write(path) as file:
        np.save(file, rows)
    return path


def _nats(unit: TextUnit) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.load(unit.folder / "nats.npy")
    return found


def train_text(unit: TextUnit, worker: Worker) -> None:
    """Train one model to its end; keep its losses on every row, read or not."""
    settings, content = unit.settings, np.load(unit.corpus)
    rows, others = content[: unit.rows], content[settings.superset :]
    model, gain = train_by_heart(
        unit.folder,
        rows,
        settings.recipe,
        lambda: tiny_model(
            unit.size,
            settings.vocabulary,
            settings.tokens,
            seed=settings.seed,
            device=worker.device,
        ),
        worker,
        seed=settings.seed,
    )
    losses = token_losses(model, content, batch_size=128).astype(np.float64)
    with atomic_write(unit.folder / "nats.npy") as file:
        np.save(file, losses.sum(axis=1))
    shares = {
        f"extracted_{name}_{prefix}": extracted(
            model, part[:_MOST_EXTRACTED], prefix, settings.following
        )
        for prefix in settings.prefixes
        for name, part in (("train", rows), ("test", others))
    }
    line = {
        "size": unit.size.name,
        "parameters": model.num_parameters(),
        "rows": unit.rows,
        "steps": settings.steps,
        "epochs": settings.steps * settings.batch_size / unit.rows,
        "train_bits": float(losses[: unit.rows].mean() / np.log(2)),
        "test_bits": float(losses[settings.superset :].mean() / np.log(2)),
        "late_gain": gain,
    }
    write_json({**line, **shares}, unit.folder / RESULT)
    remove_checkpoints(unit.folder)
