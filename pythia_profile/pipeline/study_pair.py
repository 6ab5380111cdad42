"""Two studies side by side: what differs in their settings, their tables and their effects.

In: two folders. Out: `Comparison`. Every table is compared cell by cell where both have a line of
the same key, and tables older than their study's settings are named. Nothing is estimated here, and
the difference of two effects has no standard error: two studies often share rows and models, and
how far their errors go together is not known.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.errors import MissingTableError, ProfileError, as_path
from pythia_profile.pipeline.inputs import any_scores, study_scores
from pythia_profile.pipeline.stages import STAGES, explain_stages
from pythia_profile.settings import Settings
from pythia_profile.store import read_table
from pythia_profile.study import Study, open_study
from pythia_profile.tables import PROFILES, RUN, SCORES, TABLES, Table
from pythia_profile.text import text_table

__all__ = ["Comparison", "compare_studies"]

_MEANS = ("instantaneous", "persistent", "residual")


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """What differs between two studies; `print` it for all of it.

    Attributes
    ----------
    settings : `name`, and its value in `a` and in `b`, as text, of those that differ.
    tables : `table`; `a`, `b`, `shared`: lines of each, and with the same key; `differ`: shared
        lines of which a value differs; `largest`: the largest difference of two numbers.
    effects : means over cohorts that both have: run, `outcome`, `kind`, `att` and `se` of each,
        `difference` (b minus a).
    notes : tables that are older than the settings of their study, or not whole, and what cannot be
        compared.
    """

    settings: pl.DataFrame
    tables: pl.DataFrame
    effects: pl.DataFrame
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        changed = self.tables.filter((pl.col("differ") > 0) | (pl.col("a") != pl.col("b")))
        return (
            f"Comparison: {len(self.settings)} settings and {len(changed)} of {len(self.tables)} "
            f"tables differ; {len(self.effects)} means in both; print it for all of it"
        )

    def __str__(self) -> str:
        named = (("settings", self.settings), ("tables", self.tables), ("effects", self.effects))
        parts = []
        for name, frame in named:
            empty = f"{name}: none to compare" if name != "settings" else "settings: all the same"
            shown = frame.drop("suite", "seed", strict=False)
            parts.append(text_table(shown.to_dicts(), shown.columns) if len(frame) else empty)
        return "\n\n".join([*(f"note: {note}" for note in self.notes), *parts])

    def as_dict(self) -> dict[str, Any]:
        """Lines of each part as plain values."""
        frames = {
            name: getattr(self, name).to_dicts() for name in ("settings", "tables", "effects")
        }
        return {**frames, "notes": list(self.notes)}


def compare_studies(a: Path | str, b: Path | str) -> Comparison:
    """Compare two studies.

    Raises
    ------
    StudyError
        One of the folders holds no study.
    """
    folders = as_path(a, "a"), as_path(b, "b")
    studies = open_study(a), open_study(b)
    before, after = map(_flat, studies)
    settings = [
        {"setting": name, "a": before.get(name, "–"), "b": after.get(name, "–")}
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]
    text = {"setting": pl.String, "a": pl.String, "b": pl.String}
    notes = [note for folder in folders if (note := _stale(folder))]
    lines = []
    for table in sorted(TABLES, key=_place):
        if table is SCORES:
            lines += _compared_scores(folders, studies, notes)
            continue
        sides = (_read(folder, table) for folder in folders)
        if (line := _compared(table, *sides)) is not None:
            lines.append(line)
    return Comparison(
        pl.DataFrame(settings, schema=text),
        pl.DataFrame(lines, schema=_LINES),
        _means(folders),
        tuple(notes),
    )


_ORDER = tuple(name.removesuffix(".parquet") for stage in STAGES for name in stage.outputs)


def _place(table: Table) -> int:
    """Where a study makes a table; those beside its stages come last."""
    return _ORDER.index(table.name) if table.name in _ORDER else len(_ORDER)


def _stale(folder: Path) -> str:
    """Name the tables of a study that are not those of its settings; empty where all are."""
    states = explain_stages(folder)
    old = {name for name, found in states.items() if found.state in ("out of date", "partly run")}
    made = [name for stage in STAGES if stage.name in old for name in stage.outputs]
    tables = [name for name in made if name == "scores" or name.endswith(".parquet")]
    named = [name.removesuffix(".parquet") for name in tables if (folder / name).exists()]
    if not named:
        return ""
    command = f"pythia-profile run {shlex.quote(str(folder))}"
    return f"out of date in '{folder}': {', '.join(named)}; `{command}` makes them anew"


_LINES = {
    "table": pl.String,
    **dict.fromkeys(("a", "b", "shared", "differ"), pl.Int64),
    "largest": pl.Float64,
}


def _flat(settings: Settings, section: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            found |= _flat(value, f"{name}.")
        else:
            several = isinstance(value, tuple)
            found[section + name] = ", ".join(map(str, value)) if several else str(value)
    return found


def _read(folder: Path, table: Table) -> pl.DataFrame | None:
    try:
        return read_table(folder / f"{table.name}.parquet", table, "run")
    except MissingTableError:
        return None


def _compared_scores(
    folders: tuple[Path, Path], studies: tuple[Study, Study], notes: list[str]
) -> list[dict[str, Any]]:
    """Compare scores a size at a time, as they can be large; add what cannot be read to `notes`."""
    sizes = dict.fromkeys((*studies[0].sizes, *studies[1].sizes))
    lines = []
    for size in sizes:
        sides = [_scores(*pair, size, notes) for pair in zip(folders, studies, strict=True)]
        lines.append(_compared(SCORES, *sides))
    found = pl.DataFrame([line for line in lines if line], schema=_LINES)
    counts = pl.exclude("table", "largest").sum()
    return found.group_by("table").agg(counts, pl.max("largest")).to_dicts()


def _scores(folder: Path, study: Study, size: str, notes: list[str]) -> pl.DataFrame | None:
    if size not in study.sizes or not any_scores(folder):
        return None
    try:
        return study_scores(folder, study, None, (size,))
    except ProfileError as error:
        if (note := f"scores of '{folder}' are not compared: {error}") not in notes:
            notes.append(note)
        return None


def _compared(
    table: Table, a: pl.DataFrame | None, b: pl.DataFrame | None
) -> dict[str, Any] | None:
    """Count the lines of a table in both studies; None where neither has it."""
    if a is None and b is None:
        return None
    counts = {"table": table.name, "a": 0 if a is None else len(a), "b": 0 if b is None else len(b)}
    if a is None or b is None:
        return {**counts, "shared": 0, "differ": 0, "largest": None}
    both = [name for name in a.columns if name in b.columns and name not in table.key]
    pairs = a.join(b, on=table.key, how="inner", nulls_equal=True, suffix=" b")
    unequal = [pl.col(name).ne_missing(pl.col(f"{name} b")) for name in both]
    numbers = [name for name in both if a.schema[name].is_numeric() and b.schema[name].is_numeric()]
    apart = [(pl.col(name) - pl.col(f"{name} b")).abs().fill_nan(None).max() for name in numbers]
    return {
        **counts,
        "shared": len(pairs),
        "differ": pairs.select(pl.any_horizontal(unequal).sum()).item() if unequal else 0,
        "largest": pairs.select(pl.max_horizontal(apart)).item() if apart else None,
    }


def _means(folders: tuple[Path, Path]) -> pl.DataFrame:
    """Means over cohorts of each kind, where both studies have the run and the outcome."""
    key = [*RUN, "outcome", "kind"]
    a, b = (
        (PROFILES.columns.to_frame() if table is None else table)
        .filter(
            pl.col("cohort").is_null(),
            pl.col("event_time").is_null(),
            pl.col("kind").is_in(_MEANS),
        )
        .select(*key, "att", "se")
        for table in (_read(folder, PROFILES) for folder in folders)
    )
    joined = a.join(b, on=key, how="inner", suffix=" b", maintain_order="left")
    return joined.rename({"att": "att a", "se": "se a"}).select(
        *key, "att a", "se a", "att b", "se b", difference=pl.col("att b") - pl.col("att a")
    )
