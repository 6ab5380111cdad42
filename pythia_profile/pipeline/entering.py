"""Enter a study with tables of other origin, and leave it with tables for others.

In: files (`imports` knows their schemas) and what they are of. Out: a study folder from which `att`
to `report` run, and notes: rows that the published code puts elsewhere, sizes with faults, and how
far given effects are from those of the same panel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from data_order.order import TrainingOrder
from pythia_profile.did import AttGt
from pythia_profile.errors import (
    MissingTableError,
    NotFoundError,
    StudyError,
    TableError,
    as_path,
    check_kind,
)
from pythia_profile.pipeline.imports import (
    Source,
    equal_checkpoints,
    known_faults,
    losses_from_files,
    misassigned,
    panel_from_published,
    panel_to_published,
    published_step,
    read_parquet,
)
from pythia_profile.pipeline.inputs import imported_scores, read_inputs, study_scores
from pythia_profile.pipeline.published_effects import (
    effects_from_published,
    effects_to_published,
)
from pythia_profile.pipeline.stages import PUBLISHED, refuse_own
from pythia_profile.profiles.estimates import estimate
from pythia_profile.store import atomic_write, of_file, read_table, write_table
from pythia_profile.study import Study, create_study, open_study, update_lock
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import suite_facts_of
from pythia_profile.tables import ATT, ROWS, SCORES, Table

__all__ = ["Given", "export_tables", "import_tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is imported.

    Attributes
    ----------
    suite : name of the suite that the rows are rows of, or a folder with suite.toml.
    panels : size -> file in the published schema.
    losses : size -> file or folder of losses of ordered rows.
    effects : file of effects in the published schema.
    batch_size, steps : of a run of another suite, rows per step and optimizer steps.
    training_seed : of the run.
    """

    suite: str
    panels: Mapping[str, Path] = field(default_factory=dict)
    losses: Mapping[str, Path] = field(default_factory=dict)
    effects: Path | None = None
    batch_size: int = 0
    steps: int = 0
    training_seed: int = 0


def import_tables(folder: Path | str, given: Given) -> list[str]:
    """Make a study of given tables; return notes on what was imported and what is odd about it.

    A study that is there must be of the same suite and sizes, and have no rows or scores yet.

    Raises
    ------
    StudyError
        Nothing was given, a size was given twice, or the folder holds rows or scores.
    NotFoundError
        The suite is not known, and neither are batch size and steps.
    TableError
        A file is not what its schema asks for.
    """
    folder = as_path(folder)
    check_kind(given, Given, "given", "pp.Given(panels=...)")
    if not (given.panels or given.losses or given.effects):
        raise StudyError("nothing to import: give a panel, losses, or effects")
    if both := sorted({*given.panels} & {*given.losses}):
        raise StudyError(f"size '{both[0]}' was given a panel and losses; give one of them")
    for name in ("rows.parquet", "scores", "att.parquet"):
        if (folder / name).exists():
            raise StudyError(f"'{folder / name}' is there already; import into another folder")
    suite, order = _order(given)
    if suite:
        for size in (*given.panels, *given.losses):
            suite.size(size)  # or say which there are
    source = Source(suite.name if suite else given.suite, order, given.training_seed)
    effects: pl.DataFrame | None = None
    notes = list[str]()
    if given.effects is not None:
        known = [*suite.sizes] if suite else [*given.panels, *given.losses]
        with of_file(given.effects):
            effects, notes = effects_from_published(read_parquet(given.effects), source, known)
            effects, left = _of_sizes(effects, [*given.panels, *given.losses])
        notes += left
    tables = _read(given, source)
    sizes = [*tables] or list(dict.fromkeys(effects["size"] if effects is not None else ()))
    if suite:
        sizes.sort(key=[*suite.sizes].index)
    study = _study(folder, given, sizes, tables)
    scored: dict[str, Sequence[int]] = dict.fromkeys(sizes, ())
    for size, (rows, scores) in tables.items():
        scored[size] = scores["checkpoint"].unique().sort().to_list()
        notes += _written(folder, size, scores)
        controls = rows["treatment_step"].null_count()
        notes.append(
            f"{size}: {len(rows) - controls:,} treated and {controls:,} never-treated rows at "
            f"{len(scored[size])} checkpoints"
        )
        notes.append(f"{size}: {misassigned(rows, scored[size], order.batch_size)}")
    if tables:
        every = pl.concat([rows.select(*_ROWS) for rows, _ in tables.values()]).unique("row_id")
        write_table(every.sort("row_id"), folder / "rows.parquet", _ROWS_TABLE)
    notes += known_faults(suite.faults if suite else (), scored)
    if effects is not None:
        write_table(effects, folder / (PUBLISHED if tables else "att.parquet"), ATT)
        if tables:
            notes += compare_effects(folder, study, effects, order.batch_size)
    update_lock(folder, "notes", {"import": notes})
    return notes


_ROWS = ("row_id", "treatment_step", "batch")
_ROWS_TABLE = Table(
    ROWS.name, pl.Schema({name: ROWS.columns[name] for name in _ROWS}), ROWS.key, ROWS.nullable
)


def _written(folder: Path, size: str, scores: pl.DataFrame) -> list[str]:
    """Write the scores of a size; note checkpoints that have the same."""
    types = pl.Schema({name: SCORES.columns[name] for name in scores.columns})
    table = Table(SCORES.name, types, SCORES.key, frozenset(types))
    (folder / "scores").mkdir(exist_ok=True)
    write_table(scores, folder / "scores" / f"{size}.parquet", table)
    return equal_checkpoints(scores)


def _order(given: Given) -> tuple[Suite | None, TrainingOrder]:
    """Suite, if it is known, and order of its rows."""
    try:
        suite = suite_facts_of(given.suite, given.training_seed or None)
    except NotFoundError:
        if not (given.batch_size and given.steps):
            raise
        return None, TrainingOrder(batch_size=given.batch_size, steps=given.steps)
    return suite, suite.order


def _of_sizes(effects: pl.DataFrame, sizes: Sequence[str]) -> tuple[pl.DataFrame, list[str]]:
    """Keep the effects of sizes that were given scores, of all where none was; note the others."""
    if not len(effects):
        raise TableError("table 'effects': got no lines")
    others = [name for name in effects["size"].unique(maintain_order=True) if name not in sizes]
    if not (sizes and others):
        return effects, []
    left = f"effects: those of {', '.join(others)} are left out: no panel or losses were given"
    return effects.filter(pl.col("size").is_in(sizes)), [left]


def _read(given: Given, source: Source) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """Rows and scores of each size."""
    found = {}
    for size, path in (*given.panels.items(), *given.losses.items()):
        with of_file(path):
            if size in given.losses:
                found[size] = losses_from_files(path, source, size)
            else:
                found[size] = panel_from_published(read_parquet(path), source, size)
            _check_scores(found[size][1])
    return found


def _check_scores(scores: pl.DataFrame) -> None:
    """Refuse scores from which nothing can be estimated."""
    if not len(scores):
        raise TableError("got no lines, expected scores of rows at two checkpoints or more")
    if (steps := scores["checkpoint"].n_unique()) < 2:
        raise TableError(f"got scores at {steps} checkpoint, expected two or more")
    for name in scores.select(pl.selectors.float()).columns:
        if infinite := int(scores[name].is_infinite().sum()):
            raise TableError(f"{infinite} values of outcome '{name}' are infinite; leave them out")


def _study(
    folder: Path,
    given: Given,
    sizes: Sequence[str],
    tables: Mapping[str, tuple[pl.DataFrame, pl.DataFrame]],
) -> Study:
    """Open the study that is there, or create one with the checkpoints that all sizes have."""
    if (folder / "study.toml").exists():
        return open_study(folder)
    grids = [set(scores["checkpoint"].unique()) for _, scores in tables.values()]
    alike = sorted(grids[0]) if grids and all(grid == grids[0] for grid in grids) else ()
    study = Study(
        suite=given.suite,
        sizes=tuple(sizes),
        training_seed=given.training_seed,
        checkpoints=tuple(alike),
    )
    folder.mkdir(parents=True, exist_ok=True)
    return create_study(folder, study)


def compare_effects(
    folder: Path, study: Study, published: pl.DataFrame, batch_size: int
) -> list[str]:
    """Say how far given effects are from our own of the same panel, under either assignment.

    Theirs are plain difference-in-differences to never-treated rows from the last checkpoint before
    the cohort, with errors not clustered; so are ours here, whatever the study's settings.
    """
    settings = study.estimate.replace(
        control="never", base="universal", estimator="did", clusters="row", covariates=()
    )
    notes = []
    for size in published["size"].unique(maintain_order=True):
        rows, scores = read_inputs(folder, study, (size,))
        theirs = pl.Series(published_step(rows["row_id"].to_numpy(), batch_size))
        step = pl.when((theirs > 0) & pl.col("treatment_step").is_not_null()).then(theirs)
        for outcome in published.filter(size=size)["outcome"].unique(maintain_order=True):
            if outcome not in scores.columns:
                continue
            given = published.filter(size=size, outcome=outcome)
            for named, assigned in (
                ("as the published code has them", rows.with_columns(treatment_step=step)),
                ("exact", rows),
            ):
                own = estimate(assigned, scores, settings, outcomes=outcome).runs[0].att
                notes.append(f"{size}, {outcome}, cohorts {named}: {_distance(given, own)}")
    return notes


def _distance(given: pl.DataFrame, own: AttGt) -> str:
    cells = given.filter(pl.col("att").is_not_null())
    g = np.searchsorted(own.cohorts, cells["cohort"].to_numpy())
    c = np.searchsorted(own.checkpoints, cells["checkpoint"].to_numpy())
    known = (g < len(own.cohorts)) & (c < len(own.checkpoints))
    known[known] &= own.cohorts[g[known]] == cells["cohort"].to_numpy()[known]
    known[known] &= own.checkpoints[c[known]] == cells["checkpoint"].to_numpy()[known]
    ours = {"att": own.att[g[known], c[known]], "se": own.se[g[known], c[known]]}
    far = [
        float(np.nanmax(np.abs(cells[name].to_numpy()[known] - values), initial=0))
        for name, values in ours.items()
    ]
    return (
        f"{known.sum():,} of {len(cells):,} given cells are ours, too; largest difference "
        f"{far[0]:.1e} of effects, {far[1]:.1e} of standard errors"
    )


def export_tables(
    folder: Path | str, *, panels: Path | None = None, effects: Path | None = None
) -> list[Path]:
    """Write a study's scores and effects in the published schema; return the files.

    Parameters
    ----------
    panels : folder for a panel of each size.
    effects : file for the effects of all sizes.

    Raises
    ------
    StudyError
        There is no study, or it has not been scored or estimated.
    """
    folder = as_path(folder)
    study, files = open_study(folder), list[Path]()
    if panels is None and effects is None:
        raise StudyError("nothing to export: name a folder for panels, or a file for effects")
    for size in study.sizes if panels is not None else ():
        scores = _every_outcome(folder, study, size)
        files.append(Path(panels or "") / f"{size}.parquet")
        _write_published(panel_to_published(scores), files[-1], folder)
    if effects is not None:
        if not (folder / "att.parquet").exists():
            raise MissingTableError(f"no effects in '{folder}'; run `pythia-profile att {folder}`")
        table = effects_to_published(read_table(folder / "att.parquet", ATT, "att"))
        _write_published(table, effects, folder)
        files.append(effects)
    return files


def _write_published(table: pl.DataFrame, path: Path, folder: Path) -> None:
    """Write a table of the published schema, whole or not at all, and over none of the study's."""
    refuse_own(path, folder)
    with atomic_write(path) as file:
        table.write_parquet(file)


def _every_outcome(folder: Path, study: Study, size: str) -> pl.DataFrame:
    """Read the scores of a size with all outcomes that have a place in the published schema."""
    paths = imported_scores(folder)
    if not paths:
        return study_scores(folder, study, None, (size,))
    seed = pl.col("seed") == study.training_seed
    tables = [pl.scan_parquet(path).filter(seed, size=size).collect() for path in paths]
    return pl.concat([table for table in tables if len(table)], how="diagonal_relaxed")
