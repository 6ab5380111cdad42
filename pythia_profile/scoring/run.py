"""Scoring as one call: a suite, rows, sizes -> the `SCORES` table, resumable."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from pythia_profile.checkpoints.local import checkpoint_folder, weight_hashes
from pythia_profile.errors import NotFoundError, UnfinishedError
from pythia_profile.progress import track
from pythia_profile.schema import ROWS, SCORES, conform
from pythia_profile.scoring.engine import Work, work_folder
from pythia_profile.scoring.outcomes import outcomes_of
from pythia_profile.scoring.units import ScoringSettings, Unit, is_done, rows_sha256, unit_key
from pythia_profile.store import read_json, write_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.workers import available_cores, run_workers

__all__ = ["score", "units_of"]

WORKER = "pythia_profile.scoring.worker"
_WAIT_SECONDS = 1.0


def score(
    suite: Suite,
    rows: pl.DataFrame,
    sizes: Sequence[str] | None = None,
    checkpoints: Sequence[int] | None = None,
    *,
    settings: ScoringSettings | None = None,
    folder: Path | None = None,
    workers: int | None = None,
) -> pl.DataFrame:
    """Score `rows` at every checkpoint of every size.

    Parameters
    ----------
    rows : the `ROWS` table.
    sizes, checkpoints : slices of the suite; everything by default.
    settings : precision, attention, batch rule.
    folder : where finished units are kept and found again; a temporary one by default.
    workers : scoring processes at a time; the cores at hand by default. No number depends on it.

    Returns
    -------
    The `SCORES` table, ordered by size, checkpoint and row.

    Raises
    ------
    NotFoundError
        A size or checkpoint that the suite does not have.
    UnfinishedError
        Some checkpoints could not be scored; the others' tables are kept.
    """
    rows = conform(rows, ROWS)
    settings = settings or ScoringSettings()
    _check_text(suite, settings)
    works = units_of(suite, sizes or list(suite.sizes), checkpoints)
    with _kept(folder) as scores:
        tokenizer = str(suite.root / suite.tokenizer) if suite.root and suite.tokenizer else None
        plan = _Plan(rows, scores, settings, workers or available_cores(), tokenizer)
        _score_missing(works, plan)
        tables = [pl.read_parquet(scores / work.unit.place / "scores.parquet") for work in works]
        return conform(pl.concat(tables), SCORES)


def units_of(
    suite: Suite, sizes: Sequence[str], checkpoints: Sequence[int] | None = None
) -> list[Work]:
    """List the units of some sizes, each with its folder and the hashes of its files."""
    works = []
    for size in sizes:
        model = suite.size(size)
        for step in checkpoints or model.checkpoints:
            if step not in model.checkpoints:
                raise NotFoundError(
                    f"no checkpoint {step} of {suite.name} {size}; known: "
                    f"{', '.join(map(str, model.checkpoints))}"
                )
            place = checkpoint_folder(suite, size, step)
            unit = Unit(
                suite=suite.name,
                size=size,
                seed=suite.seed,
                checkpoint=step,
                weights=weight_hashes(place),
            )
            works.append(Work(unit, place))
    return works


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the workers of a run share."""

    rows: pl.DataFrame
    scores: Path
    settings: ScoringSettings
    workers: int
    tokenizer: str | None


def _check_text(suite: Suite, settings: ScoringSettings) -> None:
    """Refuse outcomes that are unknown, or need a tokenizer that the suite does not have."""
    for one in outcomes_of(settings.outcomes):
        if one.needs_text and not suite.tokenizer:
            raise NotFoundError(
                f"outcome '{one.name}' needs a tokenizer, and suite '{suite.name}' names none"
            )


def _score_missing(works: list[Work], plan: _Plan) -> None:
    checksum = rows_sha256(plan.rows)
    keys = {work.unit.place: unit_key(work.unit, checksum, plan.settings) for work in works}

    def missing() -> list[Work]:
        return [w for w in works if not is_done(plan.scores, w.unit, keys[w.unit.place])]

    def quarantined(work: Work) -> str | None:
        record = plan.scores / work.unit.place / "quarantine.json"
        content = read_json(record) if record.exists() else {}
        return content.get("reason") if content.get("key") == keys[work.unit.place] else None

    left = missing()
    if not left:
        return
    total = len(works) * len(plan.rows)
    done = total - len(left) * len(plan.rows)
    with track("scoring", total, "rows", done=done) as task:
        while left:
            _run(left, plan, task.advance)
            left = [work for work in missing() if quarantined(work) is None]
            if left:  # another process is at these units
                time.sleep(_WAIT_SECONDS)
    shutil.rmtree(work_folder(plan.scores), ignore_errors=True)
    failed = {work.unit.name: quarantined(work) for work in missing()}
    if failed:
        name, reason = next(iter(failed.items()))
        raise UnfinishedError(
            f"{len(failed)} of {len(works)} checkpoints could not be scored and are quarantined: "
            f"{', '.join(failed)}; first ({name}): {reason}"
        )


def _run(works: list[Work], plan: _Plan, advance: Callable[[int], None]) -> None:
    """Let workers share the units, the largest models first."""
    content = {
        "settings": asdict(plan.settings),
        "tokenizer": plan.tokenizer,
        "works": [
            {"unit": asdict(work.unit), "checkpoint": str(work.checkpoint)}
            for work in reversed(works)
        ],
    }
    shared = work_folder(plan.scores)
    write_json(content, shared / "plan.json")
    write_table(plan.rows, shared / "rows.parquet", ROWS)
    command = [WORKER, str(shared / "plan.json"), str(shared / "rows.parquet"), str(plan.scores)]
    count = min(plan.workers, len(works))
    run_workers([command] * count, workers=count, on_line=lambda line: advance(int(line)))


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="pythia-profile-") as temporary:
            yield Path(temporary)
