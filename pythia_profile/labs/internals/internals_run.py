"""The lab from settings, or from a study, to tables and one page."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from pythia_profile.labs.internals.internals_figures import FIGURES, draw_internals
from pythia_profile.labs.internals.internals_material import (
    planted_material,
    study_material,
    study_model,
)
from pythia_profile.labs.internals.internals_sentences import sentences, title_of
from pythia_profile.labs.internals.internals_settings import InternalsSettings, Measuring
from pythia_profile.labs.internals.internals_units import TABLES, InternalsUnit, measure_unit
from pythia_profile.labs.lab_page import LabPart, write_lab_page
from pythia_profile.store import atomic_write, make_folder, write_text
from pythia_profile.training.planted import planted_corpus, train_planted
from pythia_profile.training.units import run_units

__all__ = ["measure_planted", "measure_study"]

_AFTER = (
    "After Chen, Han and Miyao (2026), A Comparative Analysis of LLM Memorization at Statistical "
    "and Internal Levels, arXiv 2603.21658; matching, chance levels and the comparison by exposure "
    "are this package's own."
)

_RUNS = (
    *("size", "checkpoint", "parameters", "layers", "heads", "read", "memorized", "never_read"),
    *("never_whole", "head_rows"),
)


def measure_planted(
    settings: InternalsSettings, out: Path, *, workers: int | None = None
) -> tuple[pl.DataFrame, Path]:
    """Train the sizes on the planted corpus, measure each; return a line a size, and the page.

    Parameters
    ----------
    out : folder of `models/`, `units/`, `rows.parquet`, the tables, `figures/` and `report.html`.
    workers : processes at a time; no number depends on it.
    """
    folders = train_planted(
        settings.planted, settings.sizes, out / "models", steps=settings.steps, workers=workers
    )
    material = _written(
        planted_material(planted_corpus(settings.planted), settings.measure), out / "rows.parquet"
    )
    units = [
        InternalsUnit(
            home=out / "units",
            material=material,
            checkpoint=folders[shape.name],
            identity=folders[shape.name].parent.parent.name,
            size=shape.name,
            step=settings.steps,
            layers=shape.layers,
            heads=shape.heads,
            settings=settings.measure,
        )
        for shape in settings.sizes
    ]
    toml = tomli_w.dumps(settings.model_dump(mode="json"))
    write_text(toml, out / "internals.toml")
    lead = (
        f"Models trained on a planted corpus: sequences of a bigram language that occur "
        f"{', '.join(map(str, settings.planted.frequencies))} times. {_AFTER}"
    )
    return _measure(units, out, lead, toml, "cpu", workers)


def measure_study(
    study: Path,
    settings: Measuring,
    out: Path,
    *,
    sizes: Sequence[str] = (),
    checkpoint: int | None = None,
    device: str = "cpu",
    workers: int | None = None,
) -> tuple[pl.DataFrame, Path]:
    """Measure a checkpoint of some sizes of a study on its rows; return a line a size, and a page.

    Parameters
    ----------
    study : its folder, with `rows.parquet`.
    out : as of `measure_planted`; the rows of each size are `rows-<size>.parquet`.
    sizes, checkpoint : the last of the study by default.

    Raises
    ------
    NotFoundError
        There is no such size or checkpoint.
    StudyError
        The rows are too short.
    """
    with ExitStack() as held:
        models = [
            held.enter_context(study_model(study, size, checkpoint)) for size in sizes or (None,)
        ]
        units = [
            InternalsUnit(
                home=out / "units",
                material=_written(
                    study_material(study, model, settings), out / f"rows-{model.size}.parquet"
                ),
                checkpoint=model.folder,
                identity=repr(sorted(model.weights.items())),
                size=model.size,
                step=model.step,
                layers=model.layers,
                heads=model.heads,
                settings=settings,
            )
            for model in models
        ]
        toml = tomli_w.dumps(settings.model_dump(mode="json"))
        named = ", ".join(f"{model.size} at step {model.step:,}" for model in models)
        lead = f"Checkpoints of the study '{study.resolve().name}' on its rows: {named}. {_AFTER}"
        return _measure(units, out, lead, toml, device, workers)


def _written(table: pl.DataFrame, path: Path) -> Path:
    make_folder(path.parent)
    with atomic_write(path) as file:
        table.write_parquet(file)
    return path


def _measure(
    units: Sequence[InternalsUnit],
    out: Path,
    lead: str,
    settings: str,
    device: str,
    workers: int | None,
) -> tuple[pl.DataFrame, Path]:
    """Measure what is not measured; write tables, figures and the page."""
    results: list[dict[str, Any]] = run_units(
        units, measure_unit, title="measuring models inside", device=device, workers=workers
    )
    runs = pl.DataFrame(results, infer_schema_length=None).select(_RUNS)
    tables = {
        name: pl.concat(
            [pl.read_parquet(unit.folder / f"{name}.parquet") for unit in units],
            how="vertical_relaxed",
        )
        for name in TABLES
    }
    for name, table in {"runs": runs, **tables}.items():
        _written(table, out / f"{name}.parquet")
    figures = draw_internals(runs, tables, out / "figures")
    said = sentences(runs, tables)
    parts = [LabPart(FIGURES[name], said[name], path) for name, path in figures.items()]
    if "lens" not in figures:  # nothing is memorized; the page says so, too
        parts.insert(0, LabPart(FIGURES["lens"], said["lens"]))
    shown = [
        ("Models, and how many rows each gives back whole", runs),
        ("Balance of memorized rows and their partners", tables["balance"]),
        (
            "Differences of groups: in the middle of the network, at the strongest noise",
            _short(tables["differences"]),
        ),
        ("Overlap of the top heads of two domains, beside chance", tables["overlap"]),
    ]
    page = write_lab_page(
        out / "report.html",
        title=title_of(runs),
        lead=lead,
        parts=parts,
        tables=[(caption, table) for caption, table in shown if len(table)],
        settings=settings,
    )
    return runs, page


def _short(differences: pl.DataFrame) -> pl.DataFrame:
    """Keep of each measure one line a comparison: the middle layer, the last strength."""
    last = pl.col("strength").is_null() | (pl.col("strength") == pl.col("strength").max())
    depth = (pl.col("depth") - 0.5).abs()
    by = ["size", "checkpoint", "group", "control", "measure"]
    kept = differences.filter(last).sort(depth.fill_null(0), "layer", maintain_order=True)
    return kept.unique(by, keep="first", maintain_order=True).sort(by, maintain_order=True)
