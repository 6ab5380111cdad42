"""Scoring that stops when intervals are narrow enough: `score --until WIDTH`.

Rows are scored in random order, in blocks, and intervals are looked at after fixed shares of them
(`profiles.looks`, which says what makes them valid). Rows rather than checkpoints, because leaving
a checkpoint out moves cohorts together and changes what is estimated, while fewer rows change its
precision alone. Where it stops, the study is one of fewer rows and of a higher level, both in its
settings: every later stage, figure and report is that of any other study.
"""

from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

import polars as pl

from pythia_profile.checkpoints.source import HubCheckpoint
from pythia_profile.errors import ProfileError, StudyError, not_found
from pythia_profile.pipeline.inputs import imported_scores, ready_suite
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.pipeline.makers import StageOptions
from pythia_profile.pipeline.pinned import study_grid
from pythia_profile.pipeline.running import run_stage
from pythia_profile.pipeline.stages import stage_states
from pythia_profile.profiles.looks import LOOKS, level_of_looks, next_look
from pythia_profile.profiles.profile import KINDS, profile
from pythia_profile.scoring.assembled import assemble
from pythia_profile.scoring.records import scored_units
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.scoring.units import units_of
from pythia_profile.store import read_table, write_table, write_text
from pythia_profile.study import (
    FILE_NAME,
    Study,
    change_study,
    open_study,
    read_lock,
    update_lock,
)
from pythia_profile.tables import ROWS
from pythia_profile.text import duration

__all__ = ["MEANS", "Stopped", "score_until"]

MEANS = KINDS[:3]
"""Means over cohorts whose width can be wished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Where scoring stopped.

    Attributes
    ----------
    summary, wished : which half-width was to be reached.
    half_widths : of each size, at the last look.
    share, rows, whole : of the rows that were scored; how many; how many there would have been.
    level, level_of_looks : confidence over all looks together; of the intervals of each.
    seconds_left : what the other rows would have taken one worker, by the speed of those scored.
    bytes_left : what would have been fetched again for them.
    """

    summary: str
    wished: float
    half_widths: dict[str, float]
    share: float
    rows: int
    whole: int
    level: float
    level_of_looks: float
    seconds_left: float
    bytes_left: int

    @property
    def reached(self) -> bool:
        """Whether every size is narrow enough."""
        return max(self.half_widths.values()) <= self.wished

    def __str__(self) -> str:
        """Say where it stopped, how wide the intervals are, and what the rest would have cost."""
        widest = max(self.half_widths, key=lambda size: self.half_widths[size])
        line = (
            f"score: {'stopped at' if self.reached else 'all'} {self.rows:,} of {self.whole:,} rows"
            f"; half-width of {self.summary} {self.half_widths[widest]:.3g} ({widest}, the widest)"
            f", wished {self.wished:g}{'' if self.reached else ': not reached'}"
        )
        notes = [
            f"intervals have level {self.level_of_looks:.4g}, so that with {len(LOOKS)} looks the "
            f"one that was stopped at has {self.level:.4g}; study.toml now says so: share = "
            f"{self.share:g}, level = {self.level_of_looks:.4g}"
        ]
        if self.share < 1:
            again = f" and fetching {self.bytes_left / 1e9:.1f} GB again" if self.bytes_left else ""
            notes.append(
                f"the other {self.whole - self.rows:,} rows would have taken one worker "
                f"{duration(self.seconds_left)}{again}"
            )
        return "\n  ".join([line, *notes])


def score_until(
    folder: Path | str,
    half_width: float,
    *,
    of: str = MEANS[0],
    options: RunOptions | None = None,
) -> Stopped:
    """Score the rows of a study in random order until an interval is narrow enough; resumes.

    Afterwards `sample.share` is the share of the rows that was scored and `estimate.level` the
    level of each look. With a smaller width it goes on from there.

    Parameters
    ----------
    half_width : half of the interval's width that is enough, in the unit of the first outcome; for
        every size.
    of : which mean over cohorts, one of `MEANS`.

    Raises
    ------
    StudyError
        The width is not above 0, or the study's rows cannot be scored in parts.
    NotFoundError
        There is no such mean.
    UnfinishedError
        Some checkpoints could not be scored.
    """
    folder, options = Path(folder), options or RunOptions()
    study = open_study(folder)
    _check(folder, study, half_width, of, options)
    known = read_lock(folder).get("until", {})
    # the level of study.toml is that of each look once a look has begun, whole again where none did
    begun = "share" in known or study.sample.share < 1
    level = float(known["level"]) if known and begun else study.estimate.level
    update_lock(folder, "until", {"level": level, "looks": list(LOOKS)})
    share: float | None = study.sample.share if known.get("share") else LOOKS[0]
    while share is not None:
        found = _look(folder, share, options, (of, half_width, level))
        update_lock(folder, "until", {"level": level, "looks": list(LOOKS), **asdict(found)})
        share = next_look(share, max(found.half_widths.values()), half_width)
    return found


def _check(folder: Path, study: Study, half_width: float, of: str, options: RunOptions) -> None:
    if not 0 < half_width < inf:
        raise StudyError(f"until: got {half_width}, expected a half-width above 0, and finite")
    if of not in MEANS:
        raise not_found("mean over cohorts", of, list(MEANS))
    begun = "until" in read_lock(folder)
    if not begun and stage_states(folder)["score"] in ("up to date", "out of date"):
        raise StudyError(
            "until: the rows are scored already, and would be drawn again and fewer; run "
            f"`pythia-profile profile {folder}`, or begin another study"
        )
    reasons = {
        "the scores are imported": imported_scores(folder),
        "score.token_table keeps every token": study.score.token_table,
        "sample.published is a fixed draw": study.sample.published,
        "a part of a run (--shard) sees no whole intervals": options.shard is not None,
        f"sample.share is {study.sample.share} already": study.sample.share < 1 and not begun,
    }
    for reason, holds in reasons.items():
        if holds:
            raise StudyError(f"until: {reason}, so that rows cannot be scored in parts")


def _look(
    folder: Path, share: float, options: RunOptions, wish: tuple[str, float, float]
) -> Stopped:
    """Score what is lacking of a share of the rows, and see how wide the intervals are."""
    of, wished, level = wish
    each = level_of_looks(level)
    before = (folder / FILE_NAME).read_text()
    study, _ = change_study(folder, {"sample.share": share, "estimate.level": each})
    try:
        run_stage(folder, "sample")
    except ProfileError:
        write_text(before, folder / FILE_NAME)
        raise
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    bytes_again = _score_blocks(folder, study, rows, options)
    run_stage(folder, "score", StageOptions(workers=options.workers))
    means = profile(study_estimates(folder, study)).filter(
        (pl.col("kind") == of)
        & pl.col("cohort").is_null()
        & (pl.col("outcome") == study.outcomes[0])
    )
    widths = {
        line["size"]: (line["upper"] - line["lower"]) / 2 for line in means.iter_rows(named=True)
    }
    if not widths or any(width is None or width != width for width in widths.values()):
        raise StudyError(
            f"until: there is no {of} mean over cohorts whose width could be looked at"
        )
    speeds = [unit.speed for unit in scored_units(folder / "scores")]
    return Stopped(
        summary=of,
        wished=wished,
        half_widths=widths,
        share=share,
        rows=len(rows),
        whole=round(len(rows) / share),
        level=level,
        level_of_looks=each,
        seconds_left=sum(one.get("seconds", 0.0) for one in speeds) * (1 / share - 1),
        bytes_left=bytes_again if share < 1 else 0,
    )


def _score_blocks(folder: Path, study: Study, rows: pl.DataFrame, options: RunOptions) -> int:
    """Score the rows that no block holds; put all blocks together. Returns bytes on the hub."""
    from pythia_profile.scoring.run import score_grid  # loads torch

    suite, grid = ready_suite(folder, study), study_grid(folder, study, ready_suite(folder, study))
    works = units_of(suite, grid, study.score.faulty)
    parts, left = list[Path](), rows
    for block in sorted(folder.glob(".looks/*")):
        held = read_table(block / "rows.parquet", ROWS, "sample")
        if held.join(rows, on="row_id", how="anti").height == 0:  # else of another draw
            parts.append(block)
            left = left.join(held, on="row_id", how="anti", maintain_order="left")
    if len(left):
        block = folder / ".looks" / f"{len(rows):09d}"
        write_table(left, block / "rows.parquet", ROWS)
        parts.append(block)
    for block in parts:  # a block that an earlier run did not finish goes on
        held = read_table(block / "rows.parquet", ROWS, "sample")
        score_grid(suite, held, grid, block / "scores", study.score, options)
    places = [block / "scores" for block in parts]
    assemble(places, rows, works, folder / "scores", study.score)
    return sum(w.checkpoint.size for w in works if isinstance(w.checkpoint, HubCheckpoint))
