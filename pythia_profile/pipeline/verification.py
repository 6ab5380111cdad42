"""Is a study what its records say? Hashes, counts and values, and some units scored again.

In: a study folder. Out: one line for everything that was looked at. No table changes.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.errors import ProfileError, StudyError, as_path
from pythia_profile.pipeline.fingerprints import MISSING, Fingerprints
from pythia_profile.pipeline.inputs import any_scores, ready_suite
from pythia_profile.pipeline.pinned import study_grid
from pythia_profile.pipeline.score import rows_hash
from pythia_profile.scoring.engine import Session, score_units
from pythia_profile.scoring.records import UnitRecord, scored_units
from pythia_profile.scoring.units import Work, units_of
from pythia_profile.store import read_table
from pythia_profile.study import Study, open_study, read_lock
from pythia_profile.tables import ROWS, TABLES

__all__ = ["Line", "verify_study"]

OK, DAMAGED, DIFFERS = "ok", "damaged", "differs"

TOLERANCE = 1e-3
"""Largest difference of units scored again, in standard deviations of the outcome over the rows.

Other batch sizes, threads or devices move scores by the rounding of their precision; a thousandth
of what rows differ by moves no effect by what its standard error would show.
"""


@dataclass(frozen=True, slots=True)
class Line:
    """What was looked at, and what was found.

    Attributes
    ----------
    what : a file of the study, or a unit.
    state : `ok`, `damaged` (not what was written), or `differs` (scored again, other numbers).
    detail : counts, or what is wrong and what to do.
    """

    what: str
    state: str
    detail: str


def verify_study(folder: Path | str, *, rescore: int = 0, seed: int = 0) -> list[Line]:
    """Compare a study with its records: rows, scored units, tables of all stages.

    Parameters
    ----------
    rescore : units to score again, drawn with `seed`; their scores may differ by `TOLERANCE`.

    Returns
    -------
    A line for each run's units, each file or folder of a stage, and each unit scored again.

    Raises
    ------
    StudyError
        The folder holds no study, or nothing that was recorded: an export has no records.
    """
    folder = as_path(folder)
    study = open_study(folder)
    lines = [
        *_units(folder),
        *_tables(folder),
        *(_rescored(folder, study, rescore, seed) if rescore else ()),
    ]
    if not lines:
        raise StudyError(
            f"'{folder}' has no rows, scores or recorded tables to compare; verify the study's own "
            "folder, after `run`"
        )
    return lines


def _units(folder: Path) -> Iterator[Line]:
    """Look at the units run by run; each damaged one has a line of its own."""
    try:
        units = scored_units(folder / "scores")
    except StudyError as error:
        yield Line("scores/", DAMAGED, str(error))
        return
    ids, rows = None, ""
    if (folder / "rows.parquet").exists():
        try:
            ids = read_table(folder / "rows.parquet", ROWS, "sample")["row_id"]
            rows = rows_hash(folder)
        except ProfileError as error:
            yield Line("rows.parquet", DAMAGED, str(error))
    runs: dict[tuple[str, str, int], list[UnitRecord]] = {}
    for unit in units:
        runs.setdefault((unit.suite, unit.size, unit.seed), []).append(unit)
    for (suite, size, seed), members in runs.items():
        whole = 0
        for unit in members:
            own = ids if unit.rows_sha256 == rows else None
            fault = _fault(unit, own)
            whole += not fault
            if fault:
                name = f"scores/{suite}/{size}/seed{seed}/step{unit.checkpoint}"
                yield Line(name, DAMAGED, fault)
        values = sum(sum(unit.finite.values()) for unit in members)
        others = sum(unit.rows_sha256 != rows for unit in members)
        note = f", {others} of other rows" if others and rows else ""
        yield Line(
            f"scores/{suite}/{size}/seed{seed}",
            OK if whole == len(members) else DAMAGED,
            f"{whole} of {len(members)} checkpoints whole, {values:,} finite values{note}",
        )


def _fault(unit: UnitRecord, ids: pl.Series | None) -> str:
    """Name what is wrong with a unit; empty where it is what its record says."""
    try:
        table = unit.table()
    except (ProfileError, OSError) as error:
        return str(error)
    if len(table) != unit.rows:
        return f"{len(table)} rows, its record says {unit.rows}"
    if ids is not None and not table["row_id"].sort().equals(ids.sort()):
        return "its rows are not those of rows.parquet"
    for outcome, count in unit.finite.items():
        found = int(table[outcome].is_finite().sum()) if outcome in table.columns else 0
        if found != count:
            return f"{outcome}: {found} finite values, its record says {count}"
    return ""


def _tables(folder: Path) -> Iterator[Line]:
    """Compare what every stage wrote with the hashes in the lock file."""
    stages, files = read_lock(folder).get("stages", {}), Fingerprints(folder, afresh=True)
    unknown = [t for t in TABLES if (folder / f"{t.name}.parquet").exists()]
    if not stages and (unknown or any_scores(folder)):
        detail = f"no record of what the stages wrote; `pythia-profile run {folder}` makes one"
        yield Line("lock.json", DAMAGED, detail)
    for stage, record in stages.items():
        for name, known in record.get("outputs", {}).items():
            if name == "scores" or known == MISSING:  # looked at unit by unit; never made
                continue
            found = files.of((name,))[name]
            if found == MISSING:
                yield Line(name, DAMAGED, f"missing; run `pythia-profile {stage} {folder}`")
            elif found != known:
                detail = f"not the file that `{stage}` wrote; run it again"
                yield Line(name, DAMAGED, detail)
            else:
                yield Line(name, OK, f"as `{stage}` wrote it")


def _rescored(folder: Path, study: Study, count: int, seed: int) -> Iterator[Line]:
    suite = ready_suite(folder, study)
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    known = {
        (unit.suite, unit.size, unit.seed, unit.checkpoint): unit
        for unit in scored_units(folder / "scores")
        if unit.fits(rows_hash(folder), study.score)
    }
    works = [
        work
        for work in units_of(suite, study_grid(folder, study, suite), study.score.faulty)
        if (work.unit.suite, work.unit.size, work.unit.seed, work.unit.checkpoint) in known
    ]
    if not works:
        raise StudyError(f"'{folder}': nothing is scored yet that could be scored again")
    chosen = np.random.default_rng(seed).permutation(len(works))[:count]
    decode = None
    if suite.root and suite.tokenizer:
        from tokenizers import Tokenizer

        decode = Tokenizer.from_file(str(suite.root / suite.tokenizer)).decode
    with tempfile.TemporaryDirectory(prefix="pythia-profile-") as own:
        scores = Path(own, "scores")
        again = [works[index] for index in sorted(chosen)]
        session = Session(rows=rows, scores=scores, settings=study.score, decode=decode)
        score_units(again, session)
        for work in again:
            unit = known[(work.unit.suite, work.unit.size, work.unit.seed, work.unit.checkpoint)]
            yield _compared(work, unit, scores)


def _compared(work: Work, unit: UnitRecord, scores: Path) -> Line:
    path = scores / work.unit.path / "scores.parquet"
    if not path.exists():
        return Line(work.unit.name, DIFFERS, "it could not be scored again")
    old, new = unit.table().sort("row_id"), pl.read_parquet(path).sort("row_id")
    moves = {}
    for name in old.columns:
        if old[name].dtype.is_float() and name in new.columns:
            before, after = old[name].to_numpy(), new[name].to_numpy()
            moved = np.abs(after - before)[np.isfinite(before)]
            spread = float(np.std(before[np.isfinite(before)])) or 1.0
            moves[name] = float(np.max(moved, initial=0.0)) / spread
    name, largest = max(moves.items(), key=lambda pair: pair[1])
    if largest == 0:
        return Line(work.unit.name, OK, "scored again: equal bit for bit")
    detail = f"scored again: {name} differs by up to {largest:.2g} standard deviations of the rows"
    return Line(work.unit.name, OK if largest <= TOLERANCE else DIFFERS, detail)
