"""Effects of a run beside those against other runs that read the same rows in other orders.

In: the estimates of a run, and rows and scores of the other runs. Out: `TwoOrders`: the tables
`CROSSOVER` (cell by cell: did, each crossover, all combined) and `CROSSOVER_MEANS`, and a sentence
on what the other orders are worth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.did import AttGt, Panel, aggregate, panel
from pythia_profile.did.crossover_design import crossover as crossover_effects
from pythia_profile.did.crossover_design import pair
from pythia_profile.did.errors import EmptyFamilyError, PanelShapeError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.combined import Combined, combine, reweighted
from pythia_profile.did.inference.contrasts import Contrast
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import TableError
from pythia_profile.profiles.estimates import Estimates, Frame, estimates_of
from pythia_profile.tables import CROSSOVER, CROSSOVER_MEANS, RUN, conform

__all__ = ["Other", "TwoOrders", "crossover", "crossover_sentences"]

Other = tuple[pl.DataFrame, pl.DataFrame]
"""Rows and scores of another run: the same `row_id`s, with that run's own treatment steps."""

KINDS = ("instantaneous", "persistent", "residual", "overall")
COMBINED = "combined"


@dataclass(frozen=True, slots=True, repr=False)
class TwoOrders:
    """What other orders of the same rows say; `print` it for the sentences.

    Attributes
    ----------
    cells : the table `CROSSOVER`.
    means : the table `CROSSOVER_MEANS`.
    """

    cells: pl.DataFrame
    means: pl.DataFrame

    def __str__(self) -> str:
        return "\n".join(crossover_sentences(self.means))

    def __repr__(self) -> str:
        return f"TwoOrders: cells ({len(self.cells)} lines), means ({len(self.means)} lines)"


def crossover(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    others: Other | Sequence[Other] = (),
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
) -> TwoOrders:
    """Estimate each run's effects with other runs as counterfactuals, and combine all estimates.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.
    others : rows and scores of another run, or several such pairs. Runs are matched by size, rows
        by `row_id`, checkpoints by step.

    Raises
    ------
    TableError
        There is no other run, or none of a size.
    PanelShapeError, NoRowsError
        Two runs have no rows or checkpoints in common, or read the rows in one order.
    """
    given = estimates_of(rows, scores, settings, outcomes)
    pairs: list[Any] = [others] if isinstance(others, tuple) and len(others) == 2 else [*others]
    if not pairs or not all(isinstance(part, pl.DataFrame) for one in pairs for part in one):
        raise TableError("crossover: expected rows and scores of another run, as polars frames")
    cells: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for one in given.runs:
        estimates = _estimates(one.panel, pairs, given.settings)
        together = combine([*estimates.values()], level=given.settings.level)
        for lines, found in (
            (cells, _cell_lines(estimates, together, given.settings.level)),
            (means, _mean_lines(estimates, together, given.settings.level)),
        ):
            lines += [{**one.names, **line} for line in found]
    tables = []
    for lines, table in ((cells, CROSSOVER), (means, CROSSOVER_MEANS)):
        frame = pl.DataFrame(lines, schema=table.columns, orient="row")
        floats = [name for name, dtype in table.columns.items() if dtype == pl.Float64]
        tables.append(conform(frame.with_columns(pl.col(floats).fill_nan(None)), table))
    return TwoOrders(*tables)


def _estimates(own: Panel, others: Sequence[Other], settings: Estimation) -> dict[str, AttGt]:
    """Return did, then each crossover, of the same rows and checkpoints, by name."""
    size, found = own.run[1], dict[str, AttGt]()
    laid = [
        panel(rows, scores.filter(pl.col("size") == size), settings, outcome=own.outcome)
        for rows, scores in others
        if (scores["size"] == size).any()
    ]
    if not laid:
        raise TableError(f"crossover: no other run has scores of size '{size}'")
    for other in laid:
        both = pair(own, other)
        if not found:
            found["did"] = effects(both.panel, settings)
        elif not np.array_equal(found["did"].checkpoints, both.panel.checkpoints):
            raise PanelShapeError(
                "crossover: the other runs were scored at different checkpoints; expected the same "
                "for all"
            )
        name = f"crossover {other.run[0]} {other.run[2]}"
        if name in found:
            raise TableError(f"crossover: two other runs are {' '.join(map(str, other.run))}")
        found[name] = crossover_effects(both, settings=settings)
    return found


def _cell_lines(
    estimates: dict[str, AttGt], together: Combined, level: float
) -> Iterator[dict[str, Any]]:
    first = estimates["did"]
    weights = [*together.weights, together.weights.sum(axis=0)]
    bounds = [(*one.interval(level), one.att, one.se) for one in estimates.values()]
    bounds.append((together.lower, together.upper, together.att, together.se))
    for name, weight, (lower, upper, att, se) in zip(
        [*estimates, COMBINED], weights, bounds, strict=True
    ):
        own = estimates.get(name, first)
        for (g, c), value in np.ndenumerate(att):
            yield {
                "estimator": name,
                "cohort": int(own.cohorts[g]),
                "checkpoint": int(own.checkpoints[c]),
                "att": float(value),
                "se": float(se[g, c]),
                "lower": float(lower[g, c]),
                "upper": float(upper[g, c]),
                "weight": float(weight[g, c]),
                "n_treated": int(own.n_treated[g, c]),
                "n_control": int(own.n_control[g, c]),
            }


def _mean_lines(
    estimates: dict[str, AttGt], together: Combined, level: float
) -> Iterator[dict[str, Any]]:
    """Means by each estimator over the cells that it has, beside did's over the same cells."""
    did = estimates["did"]
    ones = np.ones((1, *did.att.shape))
    for kind in KINDS:
        for name, att in (*estimates.items(), (COMBINED, did)):
            try:
                whole = aggregate(att, kind)  # type: ignore[arg-type]
            except EmptyFamilyError:  # no cohort has such a checkpoint
                continue
            same = reweighted(whole, [did], ones)
            found = together.aggregate(kind) if name == COMBINED else whole  # type: ignore[arg-type]
            yield from _lines_of(name, kind, found, same, level)


def _lines_of(
    name: str, kind: str, found: Contrast, same: Contrast, level: float
) -> Iterator[dict[str, Any]]:
    lower, upper = found.interval(level)
    for k, label in enumerate(found.labels):
        if label is not None and kind != "instantaneous":
            continue
        yield {
            "estimator": name,
            "kind": kind,
            "cohort": label,
            "att": float(found.estimate[k]),
            "se": float(found.se[k]),
            "lower": float(lower[k]),
            "upper": float(upper[k]),
            "did_se": float(same.se[k]),
            "ratio": float(found.se[k] / same.se[k]) if same.se[k] > 0 else None,
        }


def crossover_sentences(means: pl.DataFrame) -> list[str]:
    """Say for each run what the other orders are worth beside the run alone.

    Parameters
    ----------
    means : the table `CROSSOVER_MEANS`.
    """
    said = []
    for run, lines in means.filter(pl.col("cohort").is_null()).group_by(
        *RUN, "outcome", maintain_order=True
    ):
        parts = []
        for kind in KINDS:
            some = {line["estimator"]: line for line in lines.filter(kind=kind).to_dicts()}
            if COMBINED not in some or not (ratio := some[COMBINED]["ratio"]):
                continue
            did, both = some["did"], some[COMBINED]
            parts.append(
                f"{kind} {both['att']:.4f} ± {both['se']:.4f} (did alone {did['att']:.4f} ± "
                f"{did['se']:.4f}: worth {1 / ratio**2:.1f} times its rows)"
            )
        others = lines["estimator"].n_unique() - 2
        orders = "another order" if others == 1 else f"{others} other orders"
        said.append(f"{run[1]}, {run[3]}: with {orders} of the same rows, {'; '.join(parts)}")
    return said
