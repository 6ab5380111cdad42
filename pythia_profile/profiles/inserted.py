"""Effects of planted texts: by the study's estimator, and by the experiment that they are.

In: items with the step that first read each (null for those never planted), their arm (how many
copies, placebo) and window; their scores in the planted run and in a run that never read them. Out:
the table `INSERTIONS`. The estimator sees the planted run alone; the experiment compares each item
with itself in the other run. Their difference is the estimator's error, with a standard error that
knows what both share.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.did import Panel, aggregate, panel
from pythia_profile.did.crossover_design import crossover, pair
from pythia_profile.did.errors import EmptyFamilyError, NoControlError, NoTreatedError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.combined import reweighted
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import TableError
from pythia_profile.tables import INSERTIONS, NEVER, RUN, conform

__all__ = ["InsertionEffects", "insertion_effects", "insertion_sentences"]

KINDS = ("instantaneous", "persistent", "residual", "overall")
ALL = "all"
PLACEBO = "placebo"


@dataclass(frozen=True, slots=True, repr=False)
class InsertionEffects:
    """Effects of planted texts; `print` it for the sentences.

    Attributes
    ----------
    table : the table `INSERTIONS`.
    notes : what was left out, and why.
    """

    table: pl.DataFrame
    notes: tuple[str, ...]

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        return "\n".join([*insertion_sentences(self.table), *notes])

    def __repr__(self) -> str:
        return f"InsertionEffects: table ({len(self.table)} lines), notes: {len(self.notes)}"


def insertion_effects(
    items: pl.DataFrame,
    planted: pl.DataFrame,
    real: pl.DataFrame,
    settings: Estimation = DEFAULT,
    *,
    outcome: str = "log_likelihood",
) -> InsertionEffects:
    """Estimate the effect of planting a text, by arm and window, by did and by experiment.

    Items of several copies count from the first one on: their effect is that of the copies read by
    a checkpoint.

    Parameters
    ----------
    items : `ROWS` with the columns `arm` and, where there are several, `window`.
    planted : `SCORES` of the items in the run that read them.
    real : in a run that never did, from the same weights or not.

    Raises
    ------
    TableError
        A column is missing.
    NoControlError, NoTreatedError
        No item was never planted, or none was.
    """
    if "arm" not in items.columns:
        raise TableError("table 'items': 'arm' is missing; name how often each item was planted")
    if "window" not in items.columns:
        items = items.with_columns(window=pl.lit(ALL))
    unread = items.with_columns(treatment_step=pl.lit(None, pl.Int64), batch=pl.lit(None, pl.Int64))
    plain = settings.replace(covariates=(), clusters="row")
    own = panel(items, planted, plain, outcome=outcome, early="drop")
    other = panel(unread, real, plain, outcome=outcome)
    if not (own.cohort == NEVER).any():
        raise NoControlError("insertions: every item was planted; keep some out, as controls")
    lines, notes = [], [*own.notes]
    for arm, window, member in _strata(own):
        kept = _with_large_cohorts(own, member, f"{arm}, {window}", notes)
        if kept is None:
            continue
        for line in _lines(kept, other, plain):
            lines.append(
                {
                    **dict(zip(RUN, own.run, strict=True)),
                    **{"outcome": outcome, "arm": arm, "window": window},
                    **line,
                }
            )
    if not lines:
        raise NoTreatedError("insertions: no arm has a cohort of two planted items or more")
    frame = pl.DataFrame(lines, schema=INSERTIONS.columns, orient="row")
    floats = [name for name, dtype in INSERTIONS.columns.items() if dtype == pl.Float64]
    table = conform(frame.with_columns(pl.col(floats).fill_nan(None)), INSERTIONS)
    return InsertionEffects(table, tuple(dict.fromkeys(notes)))


def _strata(own: Panel) -> Iterator[tuple[str, str, np.ndarray]]:
    """Arms over all windows, then by window: name, window, and which items are planted so."""
    treated = own.cohort != NEVER
    arm, window = (own.covariates[name].cast(pl.String) for name in ("arm", "window"))
    windows = sorted(window.filter(pl.Series(treated)).unique().to_list())
    for name in sorted(arm.filter(pl.Series(treated)).unique().to_list()):
        mine = treated & (arm == name).to_numpy()
        yield name, ALL, mine
        for one in windows if len(windows) > 1 else ():
            yield name, one, mine & (window == one).to_numpy()


def _with_large_cohorts(
    own: Panel, member: np.ndarray, name: str, notes: list[str]
) -> Panel | None:
    """Keep some planted items and all others never planted; of cohorts with two items or more."""
    cohorts, count = np.unique(own.cohort[member], return_counts=True)
    single = member & np.isin(own.cohort, cohorts[count < 2])
    if single.any():
        notes.append(f"{name}: {single.sum()} items left out, alone in their cohorts")
    kept = member & ~single
    if not kept.any():
        return None
    return own.keep(kept | (own.cohort == NEVER), "of other arms or windows")


def _lines(own: Panel, other: Panel, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Each mean by did and by experiment, over the cells that both have."""
    did = effects(own, settings)
    experiment = crossover(pair(own, other), settings=settings, fewest=2)
    same = np.where(experiment.identified & did.identified, 1.0, 0.0)
    items = int((own.cohort != NEVER).sum())
    for kind in KINDS:
        try:
            whole = aggregate(experiment, kind).only([None])  # type: ignore[arg-type]
        except EmptyFamilyError:  # no cohort has such a checkpoint
            continue
        by_did = reweighted(whole, [did], same[None])
        gap = by_did - whole
        lower, upper = by_did.interval(settings.level)
        yield {
            "kind": kind,
            "att": float(by_did.estimate[0]),
            "se": float(by_did.se[0]),
            "lower": float(lower[0]),
            "upper": float(upper[0]),
            "experiment": float(whole.estimate[0]),
            "experiment_se": float(whole.se[0]),
            "difference": float(gap.estimate[0]),
            "difference_se": float(gap.se[0]),
            "items": items,
        }


def insertion_sentences(table: pl.DataFrame) -> list[str]:
    """Say what planting did, whether both ways agree, and what placebo items show.

    Parameters
    ----------
    table : the table `INSERTIONS`.
    """
    said = []
    for line in table.filter(window=ALL, kind="overall").to_dicts():
        both = (
            f"{line['att']:+.4f} ± {line['se']:.4f} by did, {line['experiment']:+.4f} ± "
            f"{line['experiment_se']:.4f} by experiment, difference {line['difference']:+.4f} ± "
            f"{line['difference_se']:.4f}"
        )
        name = f"{line['size']}, {line['outcome']}: {line['arm']} ({line['items']} items)"
        if line["arm"] == PLACEBO:
            inside = line["lower"] <= 0 <= line["upper"]
            said.append(f"{name}: {both}; 0 lies {'within' if inside else 'OUTSIDE'} its interval")
        else:
            z = abs(line["difference"]) / line["difference_se"] if line["difference_se"] else 0.0
            said.append(f"{name}: {both} ({z:.1f} standard errors)")
    return said
